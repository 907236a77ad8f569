/**
 * Leaves a process behind, the filler of a spool or the indexer of what was pushed: the same
 * program with the same words, which outlives the command of PostgreSQL that starts it.
 *
 * A shell stays above it and ends with 0 whatever becomes of it. In a container whose first process
 * is the postmaster, orphans become its children, and it takes the violent death of a child
 * that it does not know for the crash of a backend (CleanupBackend).
 */
import { spawn } from 'node:child_process'

/** Replay waits for what it fetches: it is as important as replay. */
export function startFiller(dataDirectory: string): void {
  const words = process.argv.slice(2).map((word) => (word === '--ahead' ? '--fill' : word))
  leaveBehind('"$@"; exit 0', words, dataDirectory)
}

/**
 * Whoever waits for a processor comes first. Linux shares processors out among sessions before it
 * looks at niceness (sched_autogroup_enabled), and this is a session of its own: it is made nice,
 * too. In the same working directory, as paths may need.
 */
export function startIndexer(): void {
  const nicely = 'echo 10 >/proc/self/autogroup; nice -n 10 "$@"; exit 0'
  leaveBehind(nicely, [...process.argv.slice(2), '--index-noted'])
}

function leaveBehind(script: string, words: readonly string[], cwd?: string): void {
  const program = [process.execPath, ...process.execArgv, process.argv[1] as string]
  const child = spawn('sh', ['-c', script, 'sh', ...program, ...words], {
    ...(cwd === undefined ? {} : { cwd }),
    detached: true,
    stdio: 'ignore',
  })
  // Without a shell there is none; nothing else is missing.
  child.on('error', () => {})
  child.unref()
}
