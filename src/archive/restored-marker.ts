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

/** TM1405 when the marker forbids it, TM1406 when that cannot be known. */
export async function refuseRestoredCopy(dataDirectory: string): Promise<void> {
  const marker = join(dataDirectory, RESTORED_MARKER)
  let content: string
  try {
    content = await readFile(marker, 'utf8')
  } catch (error) {
    if (isAbsence(error)) return
    throw new Failure('TM1406', {
      message: `cannot tell whether ${dataDirectory} is a restored copy`,
      because: `${marker}: ${describeSystemError(error)}`,
      fix: 'let the user that archives read the data directory',
      cause: error,
    })
  }
  if (hasTakenOver(content)) return
  throw new Failure('TM1405', {
    message: `${dataDirectory} is a restored copy and must not archive`,
    because: `it holds the file ${RESTORED_MARKER}, and the original may still be running`,
    fix:
      'switch archiving off in the copy (archive_mode = off), or restore with --take-over ' +
      'when the copy is to replace the original',
    details: { dataDirectory },
  })
}

function hasTakenOver(markerContent: string): boolean {
  try {
    const value: unknown = JSON.parse(markerContent)
    return (
      typeof value === 'object' && value !== null && 'takeOver' in value && value.takeOver === true
    )
  } catch {
    return false
  }
}
