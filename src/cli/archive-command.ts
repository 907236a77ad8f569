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

const IS_ACKNOWLEDGED = '[ tidemark.acks/%f -ef postmaster.pid ] || '
const AHEAD = ' --ahead'

/**
 * What a call has archived in advance is acknowledged by the shell, without starting the program: a
 * hard link to postmaster.pid says so (docs/design/wal-archive.md, section 6). All paths are
 * absolute but those in the data directory, where the archiver runs, with a bare environment.
 */
export function formatArchiveCommand(options: ArchiveCommandOptions): string {
  const { program, configuration, cluster } = options
  const words = [program, '--config', configuration, 'wal', 'push'].map(quoteForServer)
  const call = `${words.join(' ')}${AHEAD} --cluster ${quoteForServer(cluster)}`
  return `${IS_ACKNOWLEDGED}${call} "%p"`
}

/** The same with one file per call, which works as well, and slower. */
export function plainFormOf(archiveCommand: string): string {
  const call = archiveCommand.replace(IS_ACKNOWLEDGED, '')
  const at = call.lastIndexOf(`${AHEAD} `)
  return at < 0 ? call : call.slice(0, at) + call.slice(at + AHEAD.length)
}

function quoteForServer(word: string): string {
  return quoteWord(word.replaceAll('%', '%%'))
}

/** For a POSIX shell; PostgreSQL replaces %p, %f and %% before the shell sees them. */
export function quoteWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** Does the command call our `wal push`? Where and with what is another question. */
export function isOurArchiveCommand(command: string): boolean {
  return /tidemark/.test(command) && /\bwal\s+push\b/.test(command)
}
