/**
 * Writes a dump: the story in order (docs/design/dumps.md, section 3). Hold, packs, record; nothing
 * is visible before the record.
 *
 * Invariant: publish() lists nothing of which a byte was not handed over, stored and seen; abort()
 * leaves nothing that is listed, and what it cannot remove is removed by the next run.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import type { FrameReference } from '../repository/backup-record.ts'
import { cleanUpDeadHolds } from '../repository/clean-up.ts'
import { type DumpObject, encodeObjectList, OBJECTS_PER_LIST } from '../repository/dump-objects.ts'
import type { DumpedFile, DumpFormat, DumpRecord } from '../repository/dump-record.ts'
import { removeDeadAttempt, removeHold } from '../repository/holds.ts'
import { isDumpFileName, judgeDumpRecord } from '../repository/judge-dump-record.ts'
import { dumpPackKey } from '../repository/keys.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import { PackWriter } from '../repository/pack-writer.ts'
import { openFallbackStorage } from '../storage/fallback-storage.ts'
import { isOutOfReach, type WriteGroup } from '../storage/write-group.ts'
import { ChunkIndex } from './chunk-index.ts'
import { type DumpPlan, type HeldDump, holdDump } from './hold-dump.ts'
import { loadDumpBase } from './load-dump-base.ts'
import { publishDump } from './publish-dump.ts'
import { ChunkStore, StoredFile } from './store-chunks.ts'

/** Chunks that are known in memory: some 150 MB. */
const KNOWN_CHUNKS = 4_000_000
const COMPRESSION_LEVEL = 1

export interface DumpWriterOptions {
  readonly group: WriteGroup
  readonly cluster: string
  readonly id: string
  readonly startedAt: Date
  readonly databases: readonly string[]
  readonly format: DumpFormat
  /** The base has the same one; undefined: any. */
  readonly selection?: readonly string[]
  readonly signal: AbortSignal
  /** Everything is stored anew, whatever earlier dumps have stored. */
  readonly rewrite?: boolean
  /** For tests. */
  readonly packTargetBytes?: number
}

export type DumpFacts = Omit<
  DumpRecord,
  'id' | 'cluster' | 'startedAt' | 'format' | 'files' | 'packs' | 'base' | 'sizes'
>

export interface PublishedDump {
  readonly record: DumpRecord
  readonly notes: string[]
  /** Numbers of the members of the group that list it; the others were dropped. */
  readonly stored: readonly number[]
}

/** One call at a time; after a failure, and after publish(), only abort(). */
export interface DumpWriter {
  /** One file is open at a time. */
  openFile(name: string): Promise<DumpFileWriter>
  writeObjects(
    objects: AsyncIterable<DumpObject> | Iterable<DumpObject>,
  ): Promise<{ lists: FrameReference[]; count: number }>
  /** Handed over so far. */
  readonly rawBytes: number
  publish(facts: DumpFacts): Promise<PublishedDump>
  /** Nothing of the dump stays; after publish() it does nothing. */
  abort(): Promise<void>
}

export interface DumpFileWriter {
  /** The bytes may be used again when the promise is fulfilled. */
  append(bytes: Uint8Array): Promise<void>
  /** The number of the file in the record's `files`. */
  close(): Promise<number>
}

/** Cleans up after dead runs, takes the holds, and reads what the base has stored. */
export async function openDumpWriter(options: DumpWriterOptions): Promise<DumpWriter> {
  const { group, cluster, signal } = options
  signal.throwIfAborted()
  const notes: string[] = []
  await group.gather(async (storage) => {
    notes.push(...(await cleanUpDeadHolds(storage, cluster)))
  })
  const plan: DumpPlan = { ...options, attemptId: randomHex(12) }
  const held = await holdDump(plan)
  try {
    const index = new ChunkIndex(KNOWN_CHUNKS)
    notes.push(...held.notes, ...(await loadBase(plan, held, index)))
    signal.throwIfAborted()
    return new GroupDumpWriter(options, plan, held, index, notes)
  } catch (error) {
    await removeAttempt(plan, held)
    throw error
  }
}

/**
 * From the nearest, and from another only while that does not answer: what is damaged in one is
 * stored anew in all.
 */
async function loadBase(
  { group }: DumpPlan,
  { base, usablePacks }: HeldDump,
  index: ChunkIndex,
): Promise<string[]> {
  if (base === undefined || usablePacks.size === 0) return []
  const storages = group.living().map((member) => group.storageOf(member))
  const storage = openFallbackStorage(storages, 'away')
  return await loadDumpBase(storage, base, usablePacks, index)
}

/** Packs, then the hold; where that fails the hold stays for the next run. */
async function removeAttempt({ group, cluster }: DumpPlan, { holds }: HeldDump): Promise<void> {
  const removals = [...holds].map(async ([member, hold]) => {
    const failure = group.failures.get(member)
    if (failure !== undefined && isOutOfReach(failure)) return
    await removeDeadAttempt(group.storageOf(member), cluster, hold)
  })
  for (const outcome of await Promise.allSettled(removals)) {
    if (outcome.status === 'rejected' && !isFailure(outcome.reason)) throw outcome.reason
  }
}

class GroupDumpWriter implements DumpWriter {
  readonly #options: DumpWriterOptions
  readonly #plan: DumpPlan
  readonly #held: HeldDump
  readonly #store: ChunkStore
  readonly #files: DumpedFile[] = []
  readonly #names = new Set<string>()
  readonly #notes: string[]
  #openFile: StoredFile | undefined
  #isEnded = false

  constructor(
    options: DumpWriterOptions,
    plan: DumpPlan,
    held: HeldDump,
    index: ChunkIndex,
    notes: string[],
  ) {
    this.#options = options
    this.#plan = plan
    this.#held = held
    this.#notes = notes
    const { group, cluster, packTargetBytes } = options
    const packs = new PackWriter({
      storage: group.writers,
      cluster,
      attemptId: plan.attemptId,
      firstSequence: 0,
      sequenceStep: 1,
      compressionLevel: COMPRESSION_LEVEL,
      keyOf: dumpPackKey,
      ...(packTargetBytes === undefined ? {} : { packTargetBytes }),
    })
    this.#store = new ChunkStore(packs, index)
  }

  get rawBytes(): number {
    return this.#files.reduce((sum, file) => sum + file.bytes, this.#openFile?.bytes ?? 0)
  }

  async openFile(name: string): Promise<DumpFileWriter> {
    this.#requireOpen()
    if (!isDumpFileName(name) || this.#names.has(name))
      throw new Error(`no file of a dump: ${name}`)
    this.#names.add(name)
    const file = new StoredFile(name, this.#store)
    this.#openFile = file
    return {
      append: async (bytes) => {
        this.#options.signal.throwIfAborted()
        await file.append(bytes)
      },
      close: async () => {
        const dumped = await file.finish()
        this.#openFile = undefined
        return this.#files.push(dumped) - 1
      },
    }
  }

  async writeObjects(objects: AsyncIterable<DumpObject> | Iterable<DumpObject>) {
    this.#requireOpen()
    const lists: FrameReference[] = []
    let count = 0
    let some: DumpObject[] = []
    const flush = async (): Promise<void> => {
      if (some.length === 0) return
      lists.push(await this.#store.addFrame(FRAME_KINDS.objectList, encodeObjectList(some)))
      count += some.length
      some = []
    }
    for await (const object of objects) {
      some.push(object)
      if (some.length === OBJECTS_PER_LIST) await flush()
    }
    await flush()
    return { lists, count }
  }

  #requireOpen(): void {
    this.#options.signal.throwIfAborted()
    if (this.#isEnded) throw new Error('the dump has ended')
    if (this.#openFile !== undefined) throw new Error('a file of the dump is still open')
  }

  async publish(facts: DumpFacts): Promise<PublishedDump> {
    this.#requireOpen()
    await this.#store.packs.finish()
    const record = this.#describe(facts)
    const misfit = judgeDumpRecord(record)
    if (misfit !== undefined) throw new Error(`the record would not be readable: ${misfit}`)
    this.#options.signal.throwIfAborted()
    const stored = await this.#publishEverywhere(record)
    this.#isEnded = true
    await this.#dropHolds()
    return { record, notes: this.#notes, stored }
  }

  #describe(facts: DumpFacts): DumpRecord {
    const { id, cluster, startedAt, format } = this.#options
    const { packs: own, usedPacks, rawBytes, chunks, reusedChunks, reusedBytes } = this.#store
    const { base } = this.#held
    const needed = [...(base?.packs ?? []).filter((pack) => usedPacks.has(pack.id)), ...own.packs]
    const packs = needed.map(({ id: pack, bytes }) => ({ id: pack, bytes }))
    return {
      ...facts,
      id,
      cluster,
      startedAt: startedAt.toISOString(),
      format,
      files: this.#files,
      packs: packs.sort((a, b) => (a.id < b.id ? -1 : 1)),
      ...(base === undefined ? {} : { base: base.id }),
      sizes: {
        rawBytes,
        storedBytes: own.packs.reduce((sum, { bytes }) => sum + bytes, 0),
        chunks,
        reusedChunks,
        reusedBytes,
      },
    }
  }

  /**
   * One after the other, the required ones first. What was published stays, whatever happens
   * elsewhere.
   */
  async #publishEverywhere(record: DumpRecord): Promise<number[]> {
    const { group } = this.#plan
    const living = group.living()
    const isRequired = (member: number): boolean => group.members[member]?.required === true
    const others = living.filter((member) => !isRequired(member))
    const stored: number[] = []
    for (const member of [...living.filter(isRequired), ...others]) {
      const isStored = await group.attempt(member, async (storage) => {
        this.#notes.push(...(await publishDump(storage, record)))
      })
      if (isStored) stored.push(member)
    }
    return stored
  }

  /** The dump exists already: a hold that stays is removed by the next run. */
  async #dropHolds(): Promise<void> {
    const { group, cluster, id } = this.#plan
    for (const member of group.living()) {
      try {
        await removeHold(group.storageOf(member), cluster, id)
      } catch (error) {
        if (!isFailure(error)) throw error
        const next = 'could not be removed, the next one will'
        this.#notes.push(`the hold of this dump ${next}: ${error.message}`)
      }
    }
    const dropped = [...this.#held.holds].filter(([member]) => group.isDropped(member))
    await removeAttempt(this.#plan, { ...this.#held, holds: new Map(dropped) })
  }

  async abort(): Promise<void> {
    if (this.#isEnded) return
    this.#isEnded = true
    await this.#store.packs.abort().catch((error: unknown) => {
      if (!(error instanceof Failure)) throw error
    })
    await removeAttempt(this.#plan, this.#held)
  }
}
