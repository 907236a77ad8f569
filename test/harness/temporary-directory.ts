/**
 * Temporary directories of tests, and the watchdog that leaves nothing behind.
 *
 * Invariant: a directory or server registered here is gone soon after this process ends,
 * however it ends. A failed assertion, Ctrl-C and SIGKILL are all the same to a shell that
 * waits, in its own session, for the end of a pipe that only this process holds open.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdtempSync, realpathSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Owner } from './server-user.ts'

/** `prefix` shows in the name, so that a leftover can be traced to its test. */
export function temporaryDirectory(
  owner?: Owner,
  prefix = 'tidemark-test-',
  parent = tmpdir(),
): string {
  const directory = mkdtempSync(join(realpathSync(parent), prefix))
  if (owner !== undefined) chownSync(directory, owner.uid, owner.gid)
  register(`remove ${directory}`)
  return directory
}

/** Removes a directory now rather than at the end of the process. */
export async function removeDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
}

/** The server on this data directory is stopped at the end of the process. */
export function stopServerAtExit(dataDirectory: string): void {
  register(`server ${dataDirectory}`)
}

/** The process, while its working directory is this one, is killed at the end of ours. */
export function killAtExit(pid: number, workingDirectory: string): void {
  register(`process ${pid} ${workingDirectory}`)
}

let watchdog: ChildProcess | undefined

function register(line: string): void {
  watchdog ??= startWatchdog()
  watchdog.stdin?.write(`${line}\n`)
}

function startWatchdog(): ChildProcess {
  const child = spawn('sh', ['-c', WATCHDOG, 'tidemark-test-watchdog'], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  })
  child.on('error', () => {})
  child.stdin.on('error', () => {})
  child.unref()
  ;(child.stdin as unknown as { unref(): void }).unref()
  return child
}

/**
 * Reads `server DIR`, `process PID DIR` and `remove DIR` lines until the pipe ends, then acts
 * on them. A postmaster is recognised by its pid file and by its working directory, so that a
 * reused pid is never signalled. SIGQUIT is PostgreSQL's immediate shutdown.
 */
const WATCHDOG = `
servers= removals= processes=
newline='
'
while IFS= read -r line; do
  case $line in
    'server '*) servers=$servers\${line#server }$newline ;;
    'process '*) processes=$processes\${line#process }$newline ;;
    'remove '*) removals=$removals\${line#remove }$newline ;;
  esac
done
IFS=$newline
for directory in $servers; do
  { IFS= read -r pid < "$directory/postmaster.pid"; } 2>/dev/null || continue
  pid=\${pid#-}
  case $pid in ''|*[!0-9]*) continue ;; esac
  tries=0
  while [ "$(readlink "/proc/$pid/cwd")" = "$directory" ] && [ "$tries" -lt 100 ]; do
    if [ "$tries" -eq 0 ]; then kill -QUIT "$pid"; fi
    if [ "$tries" -eq 80 ]; then kill -KILL "$pid"; fi
    tries=$((tries + 1))
    sleep 0.1
  done
done
for process in $processes; do
  pid=\${process%% *}
  if [ "$(readlink "/proc/$pid/cwd")" = "\${process#* }" ]; then kill -KILL "$pid"; fi
done
for directory in $removals; do
  rm -rf -- "$directory" || { sleep 1; rm -rf -- "$directory"; }
done
`
