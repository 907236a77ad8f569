/**
 * Journals under an older key that nobody writes any more: they become pieces, which the newest
 * key seals (docs/design/tails.md, section 1; `key rotate --rewrite`).
 *
 * Invariant: a journal is removed only when its writer is proved to be dead, when all of it holds,
 * and when the pieces with the same bytes are durable. A crash leaves both, which agree.
 */
import { type ReadTail, readTail } from '../archive/read-tail.ts'
import { type ListedTail, listTails, type TailPlace } from '../archive/tail-keys.ts'
import { settleTail } from '../archive/write-tail.ts'
import { listClusters } from '../repository/rewrite-objects.ts'
import { listSystemIdentities } from '../repository/system-identity.ts'
import type { SealedStorage } from '../storage/sealed-storage.ts'
import { judgeWriter } from './sink/tail-writer.ts'

/**
 * How many became pieces. A receiver takes the newest key with its next segment; a journal that is
 * damaged, or whose writer cannot be judged from here, stays.
 */
export async function settleJournals(storage: SealedStorage, signal: AbortSignal): Promise<number> {
  let settled = 0
  for (const cluster of await listClusters(storage)) {
    for (const identity of await listSystemIdentities(storage, cluster)) {
      const { systemIdentifier, walSegmentSizeBytes } = identity
      const place = { cluster, systemIdentifier, walSegmentSizeBytes }
      for (const listed of await listTails(storage, cluster, systemIdentifier)) {
        signal.throwIfAborted()
        if (await settleJournal(storage, place, listed)) settled += 1
      }
    }
  }
  return settled
}

async function settleJournal(
  storage: SealedStorage,
  place: TailPlace,
  listed: ListedTail,
): Promise<boolean> {
  const journal = listed.parts.find(({ piece }) => piece === undefined)
  if (journal === undefined) return false
  const seal = await storage.findSeal(journal.key)
  if (seal === undefined || seal.keyId === (await storage.newestKeyId())) return false
  const tail = await readTail(storage, place, listed)
  const head = tail === undefined ? undefined : settledHead(tail)
  if (tail === undefined || head === undefined) return false
  // Never taken back: another run may have removed the journal because of these very pieces.
  await settleTail({ storage, ...place }, head, tail.bytes)
  await storage.remove(journal.key)
  return true
}

/** Undefined: it has to stay as it is. */
function settledHead(tail: ReadTail): ReadTail['head'] {
  const isSound = tail.failure === undefined && tail.ending !== 'damaged'
  return isSound && judgeWriter(tail) === 'dead' ? tail.head : undefined
}
