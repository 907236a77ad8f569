/**
 * Decides what of a data directory belongs into a base backup. Pure.
 *
 * Sources: basebackup.c (excludeDirContents, excludeFiles, sendDir), reinit.c (unlogged
 * relations). A relation's forks are left out as unlogged only when its init fork stands in
 * the same reading of the directory; anything uncertain is taken.
 */
import { isTemporaryRelationName, parseRelationPath } from '../postgres/relation-path.ts'
import type { Exclusions } from '../postgres/versions.ts'

export interface BaseBackupExclusions extends Exclusions {
  /** `PG_15_202209061`. */
  readonly tablespaceVersionDirectory: string
}

export type Inclusion = 'take' | 'directory-only' | 'leave-out'

/**
 * What describes the directory and not the cluster: our own marks, and the signal files,
 * which would make a standby of every copy of a standby. A restore writes its own.
 */
const MARKS = [
  'tidemark.acks',
  'tidemark.restored',
  'tidemark.restoring',
  'standby.signal',
  'recovery.signal',
]
/** Taken by itself, after all other files: global/pg_control. */
const CONTROL_FILE = 'global/pg_control'

export function decideInclusion(
  path: string,
  siblings: ReadonlySet<string>,
  exclusions: BaseBackupExclusions,
): Inclusion {
  const slash = path.lastIndexOf('/')
  const directory = slash < 0 ? '' : path.slice(0, slash)
  const name = path.slice(slash + 1)
  if (path === CONTROL_FILE || name === 'lost+found') return 'leave-out'
  if (exclusions.files.includes(name)) return 'leave-out'
  if (directory === '' && MARKS.includes(name)) return 'leave-out'
  if (exclusions.prefixes.some((prefix) => name.startsWith(prefix))) return 'leave-out'
  if (exclusions.directoryContents.includes(directory)) return 'leave-out'
  if (exclusions.directoryContents.includes(path)) return 'directory-only'
  if (directory === 'pg_wal') {
    return exclusions.walDirectories.includes(name) ? 'directory-only' : 'leave-out'
  }
  if (directory.startsWith('pg_wal/')) return 'leave-out'
  return decideRelation(path, directory, name, siblings)
}

function decideRelation(
  path: string,
  directory: string,
  name: string,
  siblings: ReadonlySet<string>,
): Inclusion {
  if (isDatabaseDirectory(directory) && isTemporaryRelationName(name)) return 'leave-out'
  const relation = parseRelationPath(path)
  if (relation === undefined || relation.fork === 'init') return 'take'
  return siblings.has(`${relation.filenode}_init`) ? 'leave-out' : 'take'
}

function isDatabaseDirectory(directory: string): boolean {
  return /^base\/\d+$|^pg_tblspc\/\d+\/[^/]+\/\d+$/.test(directory)
}
