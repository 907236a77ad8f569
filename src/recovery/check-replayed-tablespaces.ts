/**
 * Tablespaces that replay creates. Replay uses the location in the WAL record, whatever
 * was mapped (tblspc_redo, create_tablespace_directories): a copy would link to, and write
 * into, a living server's directory of the same database and relation numbers.
 */
import { readdir } from 'node:fs/promises'
import { describeSystemError, Failure } from '../base/failure.ts'
import { formatTarget, type Target } from './parse-target.ts'
import type { FoundTarget } from './find-target.ts'
import type { PlacedTablespace } from './plan-tablespaces.ts'

/**
 * The locations that have to be made for replay, which stops where they are absent. TM1216
 * for one that is there, unless this restore puts the same tablespace there to take over.
 */
export async function checkReplayedTablespaces(
  found: FoundTarget,
  placed: readonly PlacedTablespace[],
  options: { readonly cluster: string; readonly target: Target; readonly takeOver: boolean },
): Promise<string[]> {
  const absent = new Set<string>()
  for (const { oid, path } of found.facts.tablespaces) {
    const own = placed.some((one) => one.oid === oid && one.location === path)
    if (own && options.takeOver) continue
    if (!(await isThere(path))) {
      absent.add(path)
      continue
    }
    throw new Failure('TM1216', {
      message: `cannot recover ${options.cluster} to ${formatTarget(options.target)} on this machine`,
      because:
        `the WAL up to the target creates a tablespace at ${path}, which exists here: ` +
        'replay would write into it, whoever it belongs to',
      fix:
        'restore on another machine, or stop before the tablespace was created; if nothing ' +
        'needs that directory any more, move it away',
      details: { oid, location: path },
    })
  }
  return [...absent]
}

async function isThere(path: string): Promise<boolean> {
  try {
    await readdir(path)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return false
    if (code === 'EACCES' || code === 'ENOTDIR') return true
    throw new Failure('TM1217', {
      message: `cannot tell whether ${path} exists here`,
      because: describeSystemError(error),
      fix: 'the WAL up to the target creates a tablespace there: make the path readable',
      cause: error,
    })
  }
}
