/**
 * The directory that the whole demo lives in, and its end: no process and no file is left,
 * whatever happened.
 */
import * as fs from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monotonicMs, sleep } from '../../base/clock.ts'
import type { ServerUser } from './find-server.ts'
import { startWatchdog, WATCHDOG_NAME } from './watchdog.ts'

export interface Workspace {
  readonly directory: string
  /** Data directory of the living server. */
  readonly server: string
  readonly repository: string
  /** Data directory of the restored copy. */
  readonly copy: string
  /** Stops both servers and removes everything. May be called again. */
  cleanUp(): Promise<void>
  /** Leaves everything as it is; the caller says so. */
  keep(): void
}

const STOP_LIMIT_MS = 10_000
const POLL_MS = 20

export function createWorkspace(user: ServerUser | undefined): Workspace {
  // Socket paths have at most 107 bytes: a long TMPDIR would not do.
  const parent = tmpdir().length <= 40 ? tmpdir() : '/tmp'
  const directory = fs.mkdtempSync(join(fs.realpathSync(parent), 'tidemark-demo-'))
  fs.chmodSync(directory, 0o700)
  if (user !== undefined) fs.chownSync(directory, user.uid, user.gid)
  const server = join(directory, 'server')
  const copy = join(directory, 'copy')
  const watchdog = startWatchdog(directory, [server, copy])
  return {
    directory,
    server,
    repository: join(directory, 'repository'),
    copy,
    async cleanUp() {
      await Promise.all([stopServer(copy), stopServer(server)])
      await endProcesses(directory)
      await rm(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
      watchdog.dismiss()
    },
    keep: () => watchdog.dismiss(),
  }
}

/** Immediate shutdown; nothing of the demo's data is wanted any more. */
async function stopServer(dataDirectory: string): Promise<void> {
  const started = monotonicMs()
  for (let sent: NodeJS.Signals | undefined; ; await sleep(POLL_MS)) {
    const pid = findPostmaster(dataDirectory)
    if (pid === undefined) return
    const next = monotonicMs() - started > STOP_LIMIT_MS ? 'SIGKILL' : 'SIGQUIT'
    if (next !== sent) signalProcess(pid, next)
    sent = next
  }
}

/** The postmaster of a data directory: its working directory proves that the id is its own. */
function findPostmaster(dataDirectory: string): number | undefined {
  try {
    const pid = Number(
      fs.readFileSync(join(dataDirectory, 'postmaster.pid'), 'utf8').split('\n')[0],
    )
    return fs.readlinkSync(`/proc/${pid}/cwd`) === dataDirectory ? pid : undefined
  } catch {
    return undefined
  }
}

/**
 * What is still there: a server that has not written its pid file yet, an archive_command
 * whose server is gone. All of them were started with the directory's unique name.
 */
async function endProcesses(directory: string): Promise<void> {
  const started = monotonicMs()
  for (;;) {
    const pids = findProcesses(directory)
    if (pids.length === 0) return
    const signal = monotonicMs() - started > STOP_LIMIT_MS / 2 ? 'SIGKILL' : 'SIGTERM'
    for (const pid of pids) signalProcess(pid, signal)
    await sleep(POLL_MS)
  }
}

function findProcesses(directory: string): number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      try {
        const command = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        if (command.includes(WATCHDOG_NAME)) return false
        return command.includes(directory) || isServerIn(pid, command, directory)
      } catch {
        return false
      }
    })
    .map(Number)
}

/** Server processes show only their titles, but work in their data directory. */
function isServerIn(pid: string, command: string, directory: string): boolean {
  if (!command.startsWith('postgres')) return false
  return fs.readlinkSync(`/proc/${pid}/cwd`).startsWith(`${directory}/`)
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended in between.
  }
}
