/**
 * The archive_command that makes PostgreSQL hand its WAL to us. Pure, but for the paths of
 * this installation.
 */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Of the checkout and of the npm package alike. */
export const TIDEMARK_PROGRAM = join(
  dirname(dirname(dirname(fileURLToPath(import.meta.url)))),
  'bin/tidemark',
)

export interface ArchiveCommandOptions {
  /** Absolute path of bin/tidemark. */
  readonly program: string
  /** Absolute path of tidemark.yaml. */
  readonly configuration: string
  readonly cluster: string
}

/**
 * What a call has archived in advance is acknowledged by the shell, without starting the program: a
 * hard link to postmaster.pid says so (docs/design/wal-archive.md, section 6). All paths are
 * absolute but those in the data directory, where the archiver runs, with a bare environment.
 */
export function formatArchiveCommand(options: ArchiveCommandOptions): string {
  const isAcknowledged = '[ tidemark.acks/%f -ef postmaster.pid ]'
  return `${isAcknowledged} || ${formatCall(options, ['--ahead'])} "%p"`
}

/** One file per call, without acknowledgements. */
export function formatPlainArchiveCommand(options: ArchiveCommandOptions): string {
  return `${formatCall(options, [])} "%p"`
}

function formatCall(options: ArchiveCommandOptions, more: readonly string[]): string {
  const { program, configuration, cluster } = options
  const words = [program, '--config', configuration, 'wal', 'push', ...more, '--cluster', cluster]
  return words.map((word) => quoteWord(word.replaceAll('%', '%%'))).join(' ')
}

/** For a POSIX shell; PostgreSQL replaces %p, %f and %% before the shell sees them. */
export function quoteWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** Does the command call our `wal push`? Where and with what is another question. */
export function isOurArchiveCommand(command: string): boolean {
  return /tidemark/.test(command) && /\bwal\s+push\b/.test(command)
}
