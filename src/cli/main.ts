/**
 * The entry of the command line.
 *
 * `wal push` and `wal get` are started by PostgreSQL for every WAL segment: for them
 * nothing is loaded but what they need. Invariant: once this file runs, a `wal get` ends
 * with 0 or 44 only by its own decision and with 255 otherwise, whatever is thrown or
 * cannot be loaded. That is why everything but Node's own modules is imported late.
 */
import { enableCompileCache } from 'node:module'

const FAILED = 1
/** PostgreSQL takes 1–125 for "no such file" (RestoreArchivedFile). */
const WAL_GET_FAILED = 255

const argv = process.argv.slice(2)
const failed = mayBeWalGet(argv) ? WAL_GET_FAILED : FAILED
process.exitCode = failed
process.on('uncaughtException', end)

try {
  const { findPrivateDirectory } = await import('../config/private-directory.ts')
  const directory = findPrivateDirectory()
  if (directory !== undefined) enableCompileCache(directory)
  const { parseWalArguments } = await import('./wal-arguments.ts')
  const wal = parseWalArguments(argv)
  process.exitCode =
    wal === undefined
      ? await (await import('./run-command.ts')).runCommand(argv)
      : await (await import('./run-wal-command.ts')).runWalCommand(wal)
} catch (error) {
  end(error)
}

/** `wal get` anywhere among the arguments: too often 255 does no harm. */
function mayBeWalGet(args: readonly string[]): boolean {
  return args.some((word, index) => word === 'wal' && args[index + 1] === 'get')
}

/** For what no command has caught: a defect, or an installation with missing files. */
function end(error: unknown): never {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  process.stderr.write(`error: Tidemark cannot go on\n  because: ${text}\n`)
  process.exit(failed)
}
