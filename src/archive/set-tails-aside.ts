/**
 * Tails of a timeline that are not of the server which was adopted (docs/design/lineage.md,
 * section 6): kept as partial segments, which nobody takes for the timeline's end.
 */
import { findRecordEnd } from './find-record-end.ts'
import { parseFirstPage } from './judge-segment.ts'
import type { AdoptionPlan } from './plan-adoption.ts'
import { firstDifference, type ReadTail, readTailsOf } from './read-tail.ts'
import { storeWal } from './store-wal.ts'
import { listTails } from './tail-keys.ts'
import { parseWalFileName, type WalFileName } from './wal-file-name.ts'
import { encodeWalObject, hashContent } from './wal-object.ts'
import { formatSegmentName, parseSegmentName } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'

/** The names of the partial segments that came of them. */
export async function setTailsAside(storage: Storage, plan: AdoptionPlan): Promise<string[]> {
  const { cluster, systemIdentifier, from, timeline, walSegmentSizeBytes: size } = plan
  if (from === undefined) return []
  const first = formatSegmentName(timeline, from, size)
  const listed = await listTails(storage, cluster, systemIdentifier)
  const names = new Set(listed.map(({ segment }) => segment))
  const aside: string[] = []
  for (const segment of [...names].sort().reverse()) {
    if (parseSegmentName(segment, size)?.timeline !== timeline || segment < first) continue
    const own = await loadOwn(plan, segment)
    for (const tail of await readTailsOf(storage, plan, segment)) {
      const isOwn = own !== undefined && isOf(plan, tail, own)
      // What does not hold stays where it is, for whoever looks into it.
      if (isOwn || tail.ending === 'damaged') continue
      const name = await keepAsPartial(storage, plan, tail)
      if (name !== undefined) aside.push(name)
      await storage.removeMany(tail.keys)
    }
  }
  return aside
}

async function loadOwn(plan: AdoptionPlan, name: string): Promise<Buffer | undefined> {
  const files = [...plan.bring, ...plan.current]
  return await files.find(({ file }) => file.name === name)?.load()
}

/** Does it say nothing that the server's own file does not say? */
function isOf(plan: AdoptionPlan, tail: ReadTail, own: Buffer): boolean {
  const differsAt = firstDifference(tail.bytes, own)
  return (
    differsAt === tail.bytes.length || differsAt >= findRecordEnd(plan, tail.segment, tail.bytes)
  )
}

/** Undefined: nothing of it holds. */
async function keepAsPartial(
  storage: Storage,
  { cluster, systemIdentifier, walSegmentSizeBytes }: AdoptionPlan,
  tail: ReadTail,
): Promise<string | undefined> {
  if (tail.bytes.length === 0) return undefined
  const content = Buffer.alloc(walSegmentSizeBytes)
  tail.bytes.copy(content)
  const file = parseWalFileName(`${tail.segment}.partial`) as WalFileName
  const headerTimeline = parseFirstPage(content)?.timeline ?? 0
  const contentHash = hashContent(content)
  const object = { systemIdentifier, name: file.name, headerTimeline, content }
  const bytes = (): Uint8Array => encodeWalObject(object, contentHash)
  await storeWal(storage, { cluster, systemIdentifier, file, contentHash, bytes })
  return file.name
}
