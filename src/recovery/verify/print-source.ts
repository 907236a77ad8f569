/**
 * The prints of frames, for the maps that name them: from the proof of the packs where that
 * kept them, else by reading and decoding the frame here. What was used last is kept.
 */
import type { FailureMessage } from '../../base/failure.ts'
import { isFailure, toFailureMessage } from '../../base/failure.ts'
import { damagedObject } from '../../repository/envelope.ts'
import { packKey } from '../../repository/keys.ts'
import { FRAME_KINDS, type FrameEntry, PAGE_BYTES } from '../../repository/pack-format.ts'
import { openPack, type PackReader } from '../../repository/pack-reader.ts'
import type { Storage } from '../../storage/storage.ts'
import type { Knowledge } from './messages.ts'
import { makePrints, type PackPrints, type PagePrinter, printsBytes } from './page-prints.ts'
import { isDamage } from './prove-pack.ts'

/** Of prints that were made here; those of the proof of the packs come on top. */
const KEPT_PRINT_BYTES = 32 * 1024 * 1024
/** Indexes of opened packs: about 12 MB. */
const KEPT_INDEX_FRAMES = 32_768
const MAX_READ_FRAMES = 32

export interface KnownPack {
  /** Another one once the pack was found replaced. */
  reader: PackReader
  readonly prints: PackPrints
}

export class PrintSource {
  readonly #storage: Storage
  readonly #cluster: string
  readonly #printer: PagePrinter
  readonly #packs = new Map<string, KnownPack>()
  #given: Knowledge = { prints: new Map(), damaged: new Map() }
  /** Stored bytes of the frames that were read here. */
  bytesRead = 0

  constructor(storage: Storage, cluster: string, printer: PagePrinter) {
    this.#storage = storage
    this.#cluster = cluster
    this.#printer = printer
  }

  take(knowledge: Knowledge): void {
    this.#given = knowledge
    this.#packs.clear()
  }

  /** The failure for a frame (or, without one, a pack) that is known not to hold. */
  findDamage(pack: string, frame?: number): FailureMessage | undefined {
    const damaged = this.#given.damaged.get(pack)
    if (damaged === undefined) return undefined
    const isWhole = damaged.length === 0
    if (!isWhole && (frame === undefined || !damaged.includes(frame))) return undefined
    return toFailureMessage(damagedObject(packKey(this.#cluster, pack), 'it was found damaged'))
  }

  async open(pack: string): Promise<KnownPack> {
    let known = this.#packs.get(pack)
    if (known === undefined) {
      const reader = await openPack(this.#storage, this.#cluster, pack, 'a page map')
      known = { reader, prints: this.#given.prints.get(pack) ?? makePrints(reader.frames.length) }
    }
    this.#packs.delete(pack)
    this.#packs.set(pack, known)
    this.#forget(pack)
    return known
  }

  /** The decoded frame, in memory that holds until the next one is decoded. */
  async readFrame(known: KnownPack, frame: number): Promise<Uint8Array> {
    const read = async (): Promise<Uint8Array> => {
      const stored = await known.reader.readStored(frame, 1)
      this.bytesRead += stored.length
      return known.reader.decodeStored(frame, frame, stored)
    }
    try {
      return await read()
    } catch (error) {
      if (!(await this.#isReplaced(known, error))) throw error
      return await read()
    }
  }

  /** True when what did not hold may do so now: the pack was replaced since it was opened. */
  async #isReplaced(known: KnownPack, error: unknown): Promise<boolean> {
    if (!isFailure(error, 'TM1601')) return false
    const now = await known.reader.reopen()
    if (now === undefined) return false
    known.reader = now
    return true
  }

  /**
   * Fills in the prints of page frames; ordinals ascend. What does not hold is told to
   * `onDamage` and stays unknown.
   */
  async fill(
    known: KnownPack,
    ordinals: readonly number[],
    onDamage: (frame: number, failure: FailureMessage) => void,
  ): Promise<void> {
    const missing = ordinals.filter((ordinal) => known.prints.known[ordinal] === 0)
    for (const group of groupNeighbours(missing)) {
      try {
        await this.#fillGroup(known, group)
      } catch (error) {
        if (!isDamage(error)) throw error
        // One by one: which frames hold, in the pack as it is now.
        for (const ordinal of group) await this.#fillOne(known, ordinal, onDamage)
      }
    }
  }

  async #fillGroup(known: KnownPack, group: readonly number[]): Promise<void> {
    const first = group[0] as number
    const stored = await known.reader.readStored(first, (group.at(-1) as number) - first + 1)
    this.bytesRead += stored.length
    for (const ordinal of group) {
      this.#print(known, ordinal, known.reader.decodeStored(ordinal, first, stored))
    }
  }

  async #fillOne(
    known: KnownPack,
    ordinal: number,
    onDamage: (frame: number, failure: FailureMessage) => void,
  ): Promise<void> {
    if (known.prints.known[ordinal] !== 0) return
    try {
      this.#print(known, ordinal, await this.readFrame(known, ordinal))
    } catch (error) {
      if (!isDamage(error)) throw error
      onDamage(ordinal, toFailureMessage(error))
    }
  }

  #print({ reader, prints }: KnownPack, ordinal: number, raw: Uint8Array): void {
    const entry = reader.frames[ordinal] as FrameEntry
    if (raw.length === entry.slots * PAGE_BYTES) this.#printer.fill(prints, ordinal, entry, raw)
  }

  #forget(current: string): void {
    let frames = 0
    let bytes = 0
    for (const [pack, { reader, prints }] of this.#packs) {
      frames += reader.frames.length
      if (!this.#given.prints.has(pack)) bytes += printsBytes(prints)
    }
    for (const [pack, { reader, prints }] of this.#packs) {
      if (frames <= KEPT_INDEX_FRAMES && bytes <= KEPT_PRINT_BYTES) return
      if (pack === current) return
      this.#packs.delete(pack)
      frames -= reader.frames.length
      if (!this.#given.prints.has(pack)) bytes -= printsBytes(prints)
    }
  }
}

export function isPageFrame(entry: FrameEntry | undefined): entry is FrameEntry {
  return entry?.kind === FRAME_KINDS.pages
}

/** Ascending ordinals, cut where one is left out. */
function groupNeighbours(ordinals: readonly number[]): number[][] {
  const groups: number[][] = []
  for (const ordinal of ordinals) {
    const group = groups.at(-1)
    const follows = group !== undefined && group.at(-1) === ordinal - 1
    if (follows && group.length < MAX_READ_FRAMES) group.push(ordinal)
    else groups.push([ordinal])
  }
  return groups
}
