/**
 * The net below the demo's own cleaning up: a shell in a session of its own that waits for
 * the end of a pipe which only the demo holds open. Should the demo be killed, it stops the
 * servers and removes the directory all the same.
 */
import { type ChildProcess, spawn } from 'node:child_process'

export const WATCHDOG_NAME = 'tidemark-demo-watchdog'

export interface Watchdog {
  /** The demo has cleaned up, or leaves everything on purpose. */
  dismiss(): void
}

/** `directory` holds nothing but the demo's files; `servers` are data directories in it. */
export function startWatchdog(directory: string, servers: readonly string[]): Watchdog {
  const args = ['-c', SCRIPT, WATCHDOG_NAME, directory, ...servers]
  const child = spawn('/bin/sh', args, {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  })
  child.on('error', () => undefined)
  child.stdin.on('error', () => undefined)
  child.unref()
  unrefPipe(child)
  return { dismiss: () => void child.stdin.end('dismissed\n') }
}

/** The pipe must not keep the demo's process alive. */
function unrefPipe(child: ChildProcess): void {
  const pipe = child.stdin as unknown as { unref?: () => void }
  pipe.unref?.()
}

/**
 * A postmaster is known by its pid file and its working directory, so that a process id
 * that was used again is never signalled. SIGQUIT is the immediate shutdown.
 */
const SCRIPT = `
IFS= read -r word
[ "$word" = dismissed ] && exit 0
directory=$1
shift
for data in "$@"; do
  { IFS= read -r pid < "$data/postmaster.pid"; } 2>/dev/null || continue
  case $pid in ''|*[!0-9]*) continue ;; esac
  tries=0
  while [ "$(readlink "/proc/$pid/cwd")" = "$data" ] && [ "$tries" -lt 100 ]; do
    if [ "$tries" -eq 0 ]; then kill -QUIT "$pid"; fi
    if [ "$tries" -eq 80 ]; then kill -KILL "$pid"; fi
    tries=$((tries + 1))
    sleep 0.1
  done
done
rm -rf -- "$directory" || { sleep 1; rm -rf -- "$directory"; }
`
