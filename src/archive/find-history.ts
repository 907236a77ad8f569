/**
 * Timeline histories in the archive, and in a server's pg_wal.
 */
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import {
  historyFileName,
  NO_ANCESTORS,
  parseHistoryFile,
  type TimelineHistory,
} from '../postgres/history-file.ts'
import type { Timeline } from '../postgres/lsn.ts'
import { readProved } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { isAbsence, readWalFile } from './read-wal-file.ts'
import { walPrefix } from './wal-file-name.ts'
import { decodeWalObject } from './wal-object.ts'

/**
 * The archived history of a timeline; undefined when the archive proves that it has none.
 * TM1601 when it is damaged, TM1410 when it is whole and makes no sense.
 */
export async function findArchivedHistory(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  timeline: Timeline,
): Promise<TimelineHistory | undefined> {
  const name = historyFileName(timeline)
  const key = walPrefix(cluster, systemIdentifier) + name
  return await readProved(storage, key, (bytes) => {
    const { content } = decodeWalObject(key, bytes, { systemIdentifier, name })
    return requireHistory(timeline, content, key)
  })
}

/**
 * The path that leads to a timeline: its archived history, or, for a timeline that has
 * none (such as 1), itself alone.
 */
export async function readTimelinePath(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
  timeline: Timeline,
): Promise<TimelineHistory> {
  const history = await findArchivedHistory(storage, cluster, systemIdentifier, timeline)
  return history ?? { timeline, ancestors: NO_ANCESTORS }
}

/** The history of a timeline in a directory of WAL files; undefined when it is not there. */
export async function findLocalHistory(
  walDirectory: string,
  timeline: Timeline,
): Promise<TimelineHistory | undefined> {
  const path = join(walDirectory, historyFileName(timeline))
  try {
    return requireHistory(timeline, await readWalFile(path), path)
  } catch (error) {
    if (error instanceof Failure && isAbsence(error.cause)) return undefined
    throw error
  }
}

function requireHistory(timeline: Timeline, content: Uint8Array, where: string): TimelineHistory {
  const parsed = parseHistoryFile(timeline, content)
  if (parsed.ok) return parsed.history
  throw badHistory(where, `line ${parsed.error.line}: ${parsed.error.problem}`)
}

export function badHistory(where: string, because: string): Failure {
  return new Failure('TM1410', {
    message: `the timeline history ${where} does not hold`,
    because,
    fix: 'compare it with the .history files in the pg_wal of the server and its standbys',
    details: { where },
  })
}
