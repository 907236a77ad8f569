/**
 * Leaves the filler of a spool behind: the same program with the same words, which outlives the
 * restore_command that starts it.
 *
 * A shell stays above it and ends with 0 whatever becomes of it. In a container whose first process
 * is the postmaster, orphans become its children, and it takes the violent death of a child
 * that it does not know for the crash of a backend (CleanupBackend).
 */
import { spawn } from 'node:child_process'

export function startFiller(dataDirectory: string): void {
  const words = process.argv.slice(2).map((word) => (word === '--ahead' ? '--fill' : word))
  const program = [process.execPath, ...process.execArgv, process.argv[1] as string]
  const filler = spawn('sh', ['-c', '"$@"; exit 0', 'sh', ...program, ...words], {
    cwd: dataDirectory,
    detached: true,
    stdio: 'ignore',
  })
  // Without a shell there is no filler; nothing else is missing.
  filler.on('error', () => {})
  filler.unref()
}
