/**
 * Runs one of PostgreSQL's client tools to its end.
 *
 * Invariant: it counts as done only when it has ended by itself with status 0, what it wrote
 * was read to its end, and all of that was taken. When this returns or throws, the process
 * is gone and so is all that it has started (workers of `pg_dump --jobs`). When this very
 * process is killed they are gone soon after.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { basename } from 'node:path'
import { Failure } from '../base/failure.ts'
import { sleep } from '../base/clock.ts'
import { describeStartError } from './find-tools.ts'

export interface ToolRun {
  readonly program: string
  readonly args: readonly string[]
  /** All of it: nothing is inherited. */
  readonly env: Readonly<Record<string, string>>
  /** Why it aborts is what is thrown. */
  readonly signal: AbortSignal
  /** What it does, for messages: `dump database shop`. */
  readonly task: string
  /** Each piece of its standard output; the next one comes when it has returned. */
  readonly onOutput: (bytes: Uint8Array) => Promise<void> | void
}

export interface ToolEnd {
  /** Lines of its standard error: warnings, since it has ended well. */
  readonly remarks: readonly string[]
}

/** Failures: TM2002 (its own error), TM2003 (ended by a signal, not started). */
export async function runTool(run: ToolRun): Promise<ToolEnd> {
  run.signal.throwIfAborted()
  const child = spawn('/bin/sh', ['-c', START, 'sh', run.program, ...run.args], {
    env: run.env,
    stdio: ['pipe', 'pipe', 'pipe'],
    cwd: '/',
    // A process group of its own.
    detached: true,
  })
  child.stdin.on('error', () => undefined)
  const ended = waitForEnd(child)
  const errors = new LastLines()
  child.stderr.on('data', (bytes: Buffer) => errors.push(bytes))
  const stop = (): void => void stopTool(child, ended)
  run.signal.addEventListener('abort', stop, { once: true })
  try {
    await takeOutput(child, run)
    const end = await ended
    run.signal.throwIfAborted()
    judgeEnd(run, end, errors.lines())
    return { remarks: errors.lines() }
  } catch (error) {
    await stopTool(child, ended)
    run.signal.throwIfAborted()
    throw error
  } finally {
    run.signal.removeEventListener('abort', stop)
  }
}

/**
 * The tool takes the place of the shell: its process, status and signal are the tool's own. In
 * its group a watcher waits for the end of a pipe that only this process holds open: it comes
 * when the tool has ended (Node closes the pipe then) and when this process is gone, however
 * that happened. Then the group is told to end, which cancels what the server does for it; it
 * has five seconds. While the watcher is there the group's number is nobody else's.
 */
const START = `
exec 3<&0 </dev/null
( {
  trap '' TERM INT HUP
  IFS= read -r word <&3
  kill -TERM 0
  tries=0
  while kill -0 "$$" && [ "$tries" -lt 5 ]; do
    tries=$((tries + 1))
    sleep 1
  done
  kill -KILL 0
} >/dev/null 2>&1 & )
exec "$@" 3<&-
`

/** What a shell ends with when it cannot start a program. */
const NOT_STARTED: readonly (number | null)[] = [126, 127]

interface ProcessEnd {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  /** It did not even start. */
  readonly error?: unknown
}

/** `close` comes when the process has ended and its pipes have too. */
async function waitForEnd(child: ChildProcess): Promise<ProcessEnd> {
  try {
    const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
    return { status, signal }
  } catch (error) {
    return { status: null, signal: null, error }
  }
}

async function takeOutput(child: ChildProcess, run: ToolRun): Promise<void> {
  if (child.stdout === null) return
  for await (const bytes of child.stdout) {
    await run.onOutput(bytes as Buffer)
    run.signal.throwIfAborted()
  }
}

/** SIGTERM lets it cancel what the server does for it; some time later it must go. */
const GRACE_MS = 10_000

/**
 * When the tool has ended the watcher kills what it has left, and with that its standard error
 * ends: that is what is waited for, since of a group the dead count until somebody takes them
 * away. What has left the group may hold it open, so that is waited for no longer than this.
 */
async function stopTool(child: ChildProcess, ended: Promise<ProcessEnd>): Promise<void> {
  // Nobody reads any more: a tool that writes must not wait for that.
  child.stdout?.destroy()
  if (child.exitCode === null && child.signalCode === null) signalGroup(child, 'SIGTERM')
  const grace = new AbortController()
  const kill = async (): Promise<void> => {
    await sleep(GRACE_MS, grace.signal)
    if (child.exitCode === null && child.signalCode === null) signalGroup(child, 'SIGKILL')
    child.stderr?.destroy()
  }
  const killing = kill().catch(() => undefined)
  await ended
  grace.abort()
  await killing
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    // It has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function judgeEnd(run: ToolRun, end: ProcessEnd, lines: readonly string[]): void {
  const name = basename(run.program)
  if (end.error !== undefined) throw describeStartError(run.program, end.error)
  if (end.signal !== null) {
    throw new Failure('TM2003', {
      message: `${name} was ended by ${end.signal} while it was to ${run.task}`,
      because:
        end.signal === 'SIGKILL'
          ? 'somebody ended it, or the kernel did since memory was short'
          : 'somebody ended it, or it has crashed',
      fix: 'look into the log of the system, then run it again',
      details: { tool: name, signal: end.signal },
    })
  }
  if (NOT_STARTED.includes(end.status)) {
    throw describeStartError(run.program, new Error(lines.at(-1) ?? `status ${end.status}`))
  }
  if (end.status !== 0) throw toolFailure(run, end.status, lines)
}

function toolFailure(run: ToolRun, status: number | null, lines: readonly string[]): Failure {
  const name = basename(run.program)
  return new Failure('TM2002', {
    message: `${name} could not ${run.task}`,
    because: chooseError(lines, name) ?? `it ended with status ${status} and said nothing`,
    fix: 'mend what it says, then run the same command again; nothing was kept of this run',
    details: { tool: name, status, lines },
  })
}

/** Its last error with what belongs to it (detail, hint, query), else the last line. */
function chooseError(lines: readonly string[], name: string): string | undefined {
  const last = lines.findLastIndex((line) => line.startsWith(`${name}: error: `))
  const told = last === -1 ? lines.slice(-1) : lines.slice(last)
  if (told.length === 0) return undefined
  return told.join('; ').replace(`${name}: error: `, '')
}

const KEPT_LINES = 20
const KEPT_CHARACTERS = 2000

/** The end of what a tool says, however much that is. */
class LastLines {
  readonly #lines: string[] = []
  #rest = ''

  push(bytes: Buffer): void {
    const [last, ...complete] = (this.#rest + bytes.toString('utf8')).split('\n').reverse()
    this.#rest = (last ?? '').slice(-KEPT_CHARACTERS)
    this.#lines.push(...complete.reverse().map((line) => line.slice(0, KEPT_CHARACTERS)))
    this.#lines.splice(0, this.#lines.length - KEPT_LINES)
  }

  lines(): string[] {
    return [...this.#lines, this.#rest].filter((line) => line.trim() !== '')
  }
}
