/**
 * One postmaster process: start, readiness, stop, kill. Knows nothing of SQL.
 *
 * A process belongs to the server when it is `postgres` with the data directory as its
 * working directory (ChangeToDataDir()); archive_command's children are not counted.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { environment } from './run-program.ts'
import type { Owner } from './server-user.ts'

export interface PostmasterOptions {
  readonly program: string
  readonly dataDirectory: string
  readonly logFile: string
  readonly runAs: Owner | undefined
  readonly env: Readonly<Record<string, string>>
}

/** pg_ctl's names of the shutdown modes, with the signals of postmaster.c. */
const STOP_SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const

const READY_TIMEOUT_MS = 120_000
const STOP_TIMEOUT_MS = 120_000
const POLL_MS = 15

export class Postmaster {
  readonly #options: PostmasterOptions
  #child: ChildProcess | undefined
  #spawnError: Error | undefined

  constructor(options: PostmasterOptions) {
    this.#options = options
  }

  /** Starts the process; `settings` go to its command line and so beat every file. */
  spawn(settings: Readonly<Record<string, string>>): void {
    if (this.isRunning()) throw new Error('the server is running')
    const { program, dataDirectory, logFile, runAs, env } = this.#options
    const args = ['-D', dataDirectory]
    for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`)
    const log = openSync(logFile, 'a', 0o644)
    try {
      this.#child = spawn(program, args, {
        stdio: ['ignore', log, log],
        detached: true,
        cwd: '/',
        env: environment(env),
        ...runAs,
      })
    } finally {
      closeSync(log)
    }
    this.#spawnError = undefined
    this.#child.on('error', (error) => {
      this.#spawnError = error
    })
    this.#child.unref()
  }

  isRunning(): boolean {
    const child = this.#child
    return child?.pid !== undefined && child.exitCode === null && child.signalCode === null
  }

  async log(): Promise<string> {
    return await readFile(this.#options.logFile, 'utf8')
  }

  /**
   * Ready is what pg_ctl takes for it: the status line of postmaster.pid
   * (AddToDataDirLockFile(), LOCK_FILE_LINE_PM_STATUS) says `ready` or, for a hot
   * standby, `standby`.
   */
  async waitUntilReady(): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS
    while (!this.#isReady()) {
      if (this.#spawnError !== undefined) throw this.#spawnError
      if (!this.isRunning()) throw new Error(`the server ended at its start:\n${await this.log()}`)
      if (performance.now() > deadline) throw new Error(`not ready in time:\n${await this.log()}`)
      await sleep(POLL_MS)
    }
  }

  #isReady(): boolean {
    const lines = this.#pidFileLines()
    const status = lines[7]?.trim()
    return Number(lines[0]) === this.#child?.pid && (status === 'ready' || status === 'standby')
  }

  #pidFileLines(): string[] {
    try {
      return readFileSync(join(this.#options.dataDirectory, 'postmaster.pid'), 'utf8').split('\n')
    } catch {
      return []
    }
  }

  async stop(mode: keyof typeof STOP_SIGNALS): Promise<void> {
    if (!this.isRunning()) return
    this.#child?.kill(STOP_SIGNALS[mode])
    await this.waitForExit(STOP_TIMEOUT_MS)
  }

  /** The exit status, or undefined when a signal ended it. Throws after the timeout. */
  async waitForExit(timeoutMs = STOP_TIMEOUT_MS): Promise<number | undefined> {
    const deadline = performance.now() + timeoutMs
    while (this.isRunning()) {
      if (performance.now() > deadline) {
        throw new Error(`the server did not end within ${timeoutMs} ms:\n${await this.log()}`)
      }
      await sleep(POLL_MS)
    }
    return this.#child?.exitCode ?? undefined
  }

  /** SIGKILL to postmaster and children; returns when none is left. */
  async kill(): Promise<void> {
    if (this.isRunning()) this.#child?.kill('SIGKILL')
    await this.waitForExit()
    const deadline = performance.now() + STOP_TIMEOUT_MS
    for (;;) {
      const left = serverProcesses(this.#options.dataDirectory)
      if (left.length === 0) return
      for (const pid of left) killQuietly(pid)
      if (performance.now() > deadline) throw new Error(`processes do not end: ${left.join(' ')}`)
      await sleep(POLL_MS)
    }
  }
}

/** Pids of all processes of the server on a data directory; none when it is gone. */
export function serverProcesses(dataDirectory: string): number[] {
  let directory: string
  try {
    directory = realpathSync(dataDirectory)
  } catch {
    return []
  }
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => isServerProcess(pid, directory))
}

function isServerProcess(pid: number, directory: string): boolean {
  try {
    const program = basename(readlinkSync(`/proc/${pid}/exe`))
    return program.startsWith('postgres') && readlinkSync(`/proc/${pid}/cwd`) === directory
  } catch {
    return false // ended while we looked, or not ours to look at
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended in between.
  }
}
