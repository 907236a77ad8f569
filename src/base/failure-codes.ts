/**
 * The one list of failure codes. `docs/manual/errors.md` is generated from it.
 *
 * A code never changes its meaning and is never used again. Ranges: 10xx usage and
 * configuration, 11xx server and connection, 12xx recovery, 13xx backup, 14xx WAL
 * archive, 15xx repository and storage, 16xx damage, 17xx checks, 18xx demo and set-up.
 */
export interface FailureCodeEntry {
  /** Heading of the manual entry: the situation in a few words. */
  readonly title: string
  /** The manual's paragraph: when it happens, what is safe, what to do. */
  readonly manual: string
  readonly exitStatus: 1 | 2 | 3
}

const entry = <const T extends Record<string, FailureCodeEntry>>(codes: T): T => codes

export const FAILURE_CODES = entry({
  // 10xx usage and configuration
  TM1001: {
    title: 'wrong usage',
    manual: 'The command line has an unknown command, option or value. Nothing was done.',
    exitStatus: 2,
  },
  TM1002: {
    title: 'configuration not found',
    manual: 'No tidemark.yaml was found where it was looked for. Nothing was done.',
    exitStatus: 2,
  },
  TM1003: {
    title: 'configuration not valid',
    manual:
      'The configuration has an unknown key or a value of the wrong kind. The message names the file, the line and, for a misspelt key, the nearest known one. Nothing was done.',
    exitStatus: 2,
  },
  TM1004: {
    title: 'no such cluster in the configuration',
    manual: 'The command names a cluster that the configuration does not have. Nothing was done.',
    exitStatus: 2,
  },
  // 11xx server and connection
  // 12xx recovery
  // 13xx backup
  // 14xx WAL archive
  // 15xx repository and storage
  TM1501: {
    title: 'storage cannot be read or written',
    manual:
      'The storage behind a repository refused an operation for good: permission, a full disk, a read-only file system. What was acknowledged before is safe; what was under way is not visible and is cleaned up by the next run.',
    exitStatus: 1,
  },
  TM1502: {
    title: 'object exists already',
    manual:
      'An object that must be created only once was there already. Two runs met; the one that was first has won and nothing was overwritten.',
    exitStatus: 1,
  },
  TM1503: {
    title: 'no repository here',
    manual: 'The URL does not hold a Tidemark repository. `tidemark init` creates one.',
    exitStatus: 2,
  },
  TM1504: {
    title: 'repository format is newer than this program',
    manual: 'The repository was written by a later version of Tidemark. Use that version.',
    exitStatus: 2,
  },
  TM1505: {
    title: 'no such backup',
    manual: 'The repository holds no backup of that id. `tidemark list` shows those it holds.',
    exitStatus: 2,
  },
  TM1506: {
    title: 'storage is full',
    manual:
      'The device of the repository has no space left. Nothing half-made is visible; PostgreSQL keeps its WAL until there is room.',
    exitStatus: 1,
  },
  // 16xx damage
  TM1601: {
    title: 'an object of the repository is damaged',
    manual:
      'A stored object is there but its bytes are not those that were written: its hash or its structure does not hold. The message names the object.',
    exitStatus: 1,
  },
  TM1602: {
    title: 'an object of the repository is missing',
    manual: 'A backup record or page map names an object that the repository does not hold.',
    exitStatus: 1,
  },
  // 17xx checks
  // 18xx demo and set-up
})

export type FailureCode = keyof typeof FAILURE_CODES
