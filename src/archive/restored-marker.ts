/**
 * The marker of a restored copy: a file in its data directory that forbids archiving
 * until take-over. Restore writes it, `wal push` honours it. Its content is JSON; only
 * `"takeOver": true` in it lifts the ban, so that an empty or torn marker forbids.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import { isAbsence } from './read-wal-file.ts'

export const RESTORED_MARKER = 'tidemark.restored'

/**
 * TM1405 when the marker forbids it, TM1406 when that cannot be known. Gives the id of the restore
 * that made the directory, for a server that took over.
 */
export async function refuseRestoredCopy(dataDirectory: string): Promise<string | undefined> {
  const marker = join(dataDirectory, RESTORED_MARKER)
  let content: string
  try {
    content = await readFile(marker, 'utf8')
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw new Failure('TM1406', {
      message: `cannot tell whether ${dataDirectory} is a restored copy`,
      because: `${marker}: ${describeSystemError(error)}`,
      fix: 'let the user that archives read the data directory',
      cause: error,
    })
  }
  const takeOver = parseTakeOver(content)
  if (takeOver !== undefined) return takeOver.restoreId
  throw new Failure('TM1405', {
    message: `${dataDirectory} is a restored copy and must not archive`,
    because: `it holds the file ${RESTORED_MARKER}, and the original may still be running`,
    fix:
      'switch archiving off in the copy (archive_mode = off), or restore with --take-over ' +
      'when the copy is to replace the original',
    details: { dataDirectory },
  })
}

/** The marker of a restored directory that took over. */
export interface TakeOver {
  readonly restoreId: string | undefined
  /** The target's. */
  readonly timeline: number | undefined
  /** The number that was reserved for its own. */
  readonly reservedTimeline: number | undefined
}

/** Pure; undefined for a copy, and for anything that is no marker. */
export function parseTakeOver(markerContent: string): TakeOver | undefined {
  let value: unknown
  try {
    value = JSON.parse(markerContent)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { takeOver, restoreId, timeline, reservedTimeline } = value as Record<string, unknown>
  if (takeOver !== true) return undefined
  return {
    restoreId: typeof restoreId === 'string' ? restoreId : undefined,
    timeline: typeof timeline === 'number' ? timeline : undefined,
    reservedTimeline: typeof reservedTimeline === 'number' ? reservedTimeline : undefined,
  }
}
