/**
 * The histories of a server's timelines: read over the replication connection, judged against
 * what is archived, and archived, before WAL of those timelines is.
 */
import { findArchivedHistory } from '../archive/find-history.ts'
import { offerWal } from '../archive/offer-wal.ts'
import { type StoreOutcome, storeWal } from '../archive/store-wal.ts'
import { parseWalFileName } from '../archive/wal-file-name.ts'
import { encodeWalObject, hashContent } from '../archive/wal-object.ts'
import { Failure } from '../base/failure.ts'
import {
  historyFileName,
  NO_ANCESTORS,
  parseHistoryFile,
  pathOf,
  sameAncestors,
  type TimelineHistory,
} from '../postgres/history-file.ts'
import type { Timeline } from '../postgres/lsn.ts'
import type { ReplicationSession } from '../postgres/replication-session.ts'
import type { Storage } from '../storage/storage.ts'

export interface HistoryPlaces {
  readonly cluster: string
  readonly systemIdentifier: string
  readonly required: readonly Storage[]
  readonly others: readonly Storage[]
}

/** The path of the server's timeline. TM1427 when it has none, or one that makes no sense. */
export async function readServerPath(
  session: ReplicationSession,
  timeline: Timeline,
): Promise<TimelineHistory> {
  if (timeline === 1) return { timeline, ancestors: NO_ANCESTORS }
  const content = await session.findHistory(timeline)
  // initdb --timeline and pg_resetwal -l begin at any timeline, without a history.
  if (content === undefined) return { timeline, ancestors: NO_ANCESTORS }
  const parsed = parseHistoryFile(timeline, content)
  if (parsed.ok) return parsed.history
  const because = `line ${parsed.error.line}: ${parsed.error.problem}`
  throw contradiction(session.address, timeline, because)
}

/**
 * All histories of the path that the server has, in every required repository. TM1427 when the
 * archived history of one of its timelines tells another past; nothing is stored then.
 */
export async function archiveHistories(
  session: ReplicationSession,
  path: TimelineHistory,
  places: HistoryPlaces,
): Promise<Timeline[]> {
  const timelines = pathOf(path).filter((timeline) => timeline > 1)
  for (const timeline of timelines) await judge(session, path, timeline, places)
  const archived: Timeline[] = []
  for (const timeline of timelines) {
    const content = await session.findHistory(timeline)
    if (content === undefined) continue
    const outcomes = await store(timeline, content, places)
    if (outcomes.includes('stored')) archived.push(timeline)
  }
  return archived
}

async function judge(
  session: ReplicationSession,
  path: TimelineHistory,
  timeline: Timeline,
  { required, cluster, systemIdentifier }: HistoryPlaces,
): Promise<void> {
  const expected = path.ancestors.filter((ancestor) => ancestor.timeline < timeline)
  for (const storage of required) {
    const known = await findArchivedHistory(storage, cluster, systemIdentifier, timeline)
    if (known === undefined || sameAncestors(known.ancestors, expected)) continue
    const because = `${storage.url} knows another history of timeline ${timeline}`
    throw contradiction(session.address, path.timeline, because)
  }
}

async function store(
  timeline: Timeline,
  content: Buffer,
  { required, others, cluster, systemIdentifier }: HistoryPlaces,
): Promise<StoreOutcome[]> {
  const name = historyFileName(timeline)
  const file = parseWalFileName(name)
  if (file === undefined) throw new Error(`${name} is not the name of a history`)
  const contentHash = hashContent(content)
  const object = encodeWalObject(
    { systemIdentifier, name, headerTimeline: 0, content },
    contentHash,
  )
  const wal = { cluster, systemIdentifier, file, contentHash, bytes: () => object }
  const push = async (storage: Storage): Promise<StoreOutcome> => await storeWal(storage, wal)
  const offers = offerWal(others, push)
  const outcomes = await Promise.all(required.map(push))
  await offers()
  return outcomes
}

function contradiction(address: string, timeline: Timeline, because: string): Failure {
  return new Failure('TM1427', {
    message: `timeline ${timeline} of the server at ${address} contradicts the archive`,
    because,
    fix:
      'two servers have used one timeline number; find out which of them is to go on ' +
      '(tidemark wal list), and archive the other under another name',
    details: { timeline },
  })
}
