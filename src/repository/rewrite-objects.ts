/**
 * Seals anew what older data keys have sealed (`key rotate --rewrite`), and counts what each
 * protects. What is left to do is what still names an older key: so it goes on wherever it
 * was interrupted.
 *
 * Invariants: an object is replaced by its own plain bytes, every tag proved, under a hold
 * that names it, and only while its seal is the one that was read: what was removed stays
 * removed, and what somebody else has replaced meanwhile stays as they wrote it.
 */
import { now } from '../base/clock.ts'
import { type Failure, isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { isJournalKey } from '../storage/journal.ts'
import type { SealedStorage } from '../storage/sealed-storage.ts'
import { isSealedKey } from '../storage/sealed-storage.ts'
import { type Hold, readHolder, readKeysOfOthers, removeHold, takeHold } from './holds.ts'
import { clusterPrefix, isClusterName, makeBackupId, parseBackupKey } from './keys.ts'

/** Of one hold: so much is taken from an expiry for the time that it takes. */
const BATCH_OBJECTS = 256
const BATCH_BYTES = 256 * 1024 * 1024
/** Headers that are read at once, and objects that are sealed at once. */
const READERS = 16
const WRITERS = 2
const PIECE_BYTES = 4 * 1024 * 1024
/** Others write with the old key for a minute; a round more finds that. */
const MOST_ROUNDS = 5

export interface KeyUse {
  /** Undefined: the header of the seal cannot be read. */
  readonly keyId: string | undefined
  readonly key: string
  readonly sizeBytes: number
}

/** Every sealed object with the key that its header names; unproved. */
export async function* listKeyUse(storage: SealedStorage, prefix: string): AsyncGenerator<KeyUse> {
  let batch: { key: string; sizeBytes: number }[] = []
  for await (const object of storage.list(prefix)) {
    if (!isSealedKey(object.key)) continue
    batch.push(object)
    if (batch.length < READERS) continue
    yield* await lookAt(storage, batch)
    batch = []
  }
  yield* await lookAt(storage, batch)
}

async function lookAt(
  storage: SealedStorage,
  objects: readonly { readonly key: string; readonly sizeBytes: number }[],
): Promise<KeyUse[]> {
  const found = await Promise.all(
    objects.map(async ({ key, sizeBytes }) => {
      const seal = await tryFindSeal(storage, key)
      return seal === undefined ? undefined : { key, sizeBytes, keyId: seal.keyId }
    }),
  )
  return found.filter((use) => use !== undefined)
}

/** Undefined: it is gone. */
async function tryFindSeal(
  storage: SealedStorage,
  key: string,
): Promise<{ readonly keyId: string | undefined } | undefined> {
  try {
    return await storage.findSeal(key)
  } catch (error) {
    if (isFailure(error, 'TM1601')) return { keyId: undefined }
    throw error
  }
}

export interface RewriteResult {
  readonly objects: number
  readonly bytes: number
  /** Objects whose seal does not hold: they are as they were. */
  readonly damaged: readonly Failure[]
  /** Objects that still name an older key: condemned, or held or replaced by others. */
  readonly left: number
  /** Journals that still name an older key: it is not without use before they are gone. */
  readonly journals: number
}

/** Safe beside everything else; it may be ended at any time and run again. */
export async function rewriteObjects(
  storage: SealedStorage,
  progress: Progress,
  signal: AbortSignal,
): Promise<RewriteResult> {
  const total = { objects: 0, bytes: 0 }
  const damaged = new Map<string, Failure>()
  for (let round = 1; ; round++) {
    let left = 0
    let changed = 0
    for (const cluster of await listClusters(storage)) {
      const work = await collectWork(storage, cluster, damaged)
      progress.phase(
        `sealing ${cluster} anew`,
        work.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
        'bytes',
      )
      for (const batch of splitBatches(work)) {
        signal.throwIfAborted()
        const done = await rewriteBatch(storage, cluster, batch, { damaged, progress, signal })
        changed += done.objects
        total.objects += done.objects
        total.bytes += done.bytes
        left += done.left
      }
    }
    if (left + changed === 0 || changed === 0 || round === MOST_ROUNDS) {
      const journals = await countJournals(storage)
      return { ...total, damaged: [...damaged.values()], left, journals }
    }
  }
}

export async function listClusters(storage: SealedStorage): Promise<string[]> {
  const clusters = new Set<string>()
  for await (const { key } of storage.list('clusters/')) {
    const cluster = key.split('/')[1] ?? ''
    if (isClusterName(cluster)) clusters.add(cluster)
  }
  return [...clusters]
}

/** A journal cannot be replaced while somebody may be writing it. */
async function countJournals(storage: SealedStorage): Promise<number> {
  const newest = await storage.newestKeyId()
  let journals = 0
  for await (const { key, keyId } of listKeyUse(storage, 'clusters/')) {
    if (isJournalKey(key) && keyId !== newest) journals += 1
  }
  return journals
}

/**
 * What its writers replace or remove by themselves, without a look at holds: a rewrite could put
 * an older one over it. Nothing is in it that names of objects do not tell, but in journals, which
 * end with their segment, and are counted.
 */
const LEFT_TO_WRITERS = new RegExp(
  '^clusters/[^/]+/(holds/|condemned/|pins/|dump-marks/[^/]+\\.pin$|verified\\.seen$|' +
    'wal/[^/]+/(expired\\.mark$|tails/.*\\.journal$))',
)

async function collectWork(
  storage: SealedStorage,
  cluster: string,
  damaged: ReadonlyMap<string, Failure>,
): Promise<KeyUse[]> {
  const newest = await storage.newestKeyId()
  const work: KeyUse[] = []
  for await (const use of listKeyUse(storage, clusterPrefix(cluster))) {
    if (use.keyId === newest || LEFT_TO_WRITERS.test(use.key) || damaged.has(use.key)) continue
    work.push(use)
  }
  return work
}

function* splitBatches(work: readonly KeyUse[]): Generator<KeyUse[]> {
  let batch: KeyUse[] = []
  let bytes = 0
  for (const use of work) {
    if (batch.length === BATCH_OBJECTS || (batch.length > 0 && bytes >= BATCH_BYTES)) {
      yield batch
      batch = []
      bytes = 0
    }
    batch.push(use)
    bytes += use.sizeBytes
  }
  if (batch.length > 0) yield batch
}

interface BatchWork {
  readonly damaged: Map<string, Failure>
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** Hold, then condemned sets and holds of syncs, then each object as it is now. */
async function rewriteBatch(
  storage: SealedStorage,
  cluster: string,
  batch: readonly KeyUse[],
  { damaged, progress, signal }: BatchWork,
): Promise<{ objects: number; bytes: number; left: number }> {
  const startedAt = now()
  const hold: Hold = {
    id: makeBackupId(startedAt),
    purpose: 'rewrite',
    ...readHolder(),
    startedAt: startedAt.toISOString(),
    // A record counts as held only with its backup: it must never come back without packs.
    needs: batch.map(({ key }) => parseBackupKey(key)).filter((id) => id !== undefined),
    keys: batch.map(({ key }) => key),
  }
  const { condemned, lost } = await takeHold(storage, cluster, hold)
  // A rewrite puts the same content back; a sync may be putting another, with more frames.
  const synced = await readKeysOfOthers(storage, cluster, hold.id, 'sync')
  const isTaken = (key: string): boolean =>
    condemned.hasKey(key) ||
    lost.includes(parseBackupKey(key) ?? '') ||
    synced === 'unknown' ||
    synced.has(key)
  const done = { objects: 0, bytes: 0, left: 0 }
  const queue = [...batch]
  const work = async (): Promise<void> => {
    for (let use = queue.shift(); use !== undefined; use = queue.shift()) {
      signal.throwIfAborted()
      const outcome = isTaken(use.key) ? 'left' : await rewriteOrTell(storage, use.key, damaged)
      if (outcome === 'rewritten') {
        done.objects += 1
        done.bytes += use.sizeBytes
      } else if (outcome === 'left') done.left += 1
      progress.advance(use.sizeBytes)
    }
  }
  try {
    await settleAll(Array.from({ length: WRITERS }, work))
  } finally {
    await removeHold(storage, cluster, hold.id)
  }
  return done
}

/** The hold must not go while one of them still writes. */
async function settleAll(works: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(works)) {
    if (result.status === 'rejected') throw result.reason
  }
}

type Outcome = 'rewritten' | 'left' | 'gone' | 'damaged'

async function rewriteOrTell(
  storage: SealedStorage,
  key: string,
  damaged: Map<string, Failure>,
): Promise<Outcome> {
  try {
    return await rewriteObject(storage, key)
  } catch (error) {
    if (!isFailure(error, 'TM1601') && !isFailure(error, 'TM1605')) throw error
    damaged.set(key, error)
    return 'damaged'
  }
}

async function rewriteObject(storage: SealedStorage, key: string): Promise<Outcome> {
  const seal = await storage.findSeal(key)
  if (seal === undefined) return 'gone'
  if (seal.keyId === (await storage.newestKeyId())) return 'gone'
  const writer = await storage.openWriter(key)
  try {
    for (let offset = 0; ; offset += PIECE_BYTES) {
      const piece = await storage.readRange(key, offset, PIECE_BYTES)
      if (piece === undefined) return await giveUp(writer, 'gone')
      if (piece.length > 0) writer.append([piece])
      if (piece.length < PIECE_BYTES) break
    }
    // Whoever replaces or removes it in this moment has not looked at holds.
    const seen = await storage.findSeal(key)
    if (seen === undefined) return await giveUp(writer, 'gone')
    if (seen.objectId !== seal.objectId) return await giveUp(writer, 'left')
  } catch (error) {
    await writer.abort()
    throw error
  }
  await writer.commit()
  return 'rewritten'
}

async function giveUp(writer: { abort(): Promise<void> }, outcome: Outcome): Promise<Outcome> {
  await writer.abort()
  return outcome
}

/** An object that an older key has sealed and that a rewrite might seal anew, if any. */
export async function findOlderKey(storage: SealedStorage): Promise<string | undefined> {
  const newest = await storage.newestKeyId()
  for await (const { key, keyId } of listKeyUse(storage, 'clusters/')) {
    if (keyId === undefined || keyId === newest) continue
    if (isJournalKey(key) || !LEFT_TO_WRITERS.test(key)) return key
  }
  return undefined
}
