/**
 * Runs one of PostgreSQL's client tools to its end.
 *
 * Invariant: it counts as done only when it has ended by itself with status 0, what it wrote
 * was read to its end, and all of that was taken. When this returns or throws, the process
 * is gone.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { basename } from 'node:path'
import { isFailure, Failure } from '../base/failure.ts'
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
  const child = spawn(run.program, [...run.args], {
    env: run.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: '/',
  })
  const ended = waitForEnd(child, run.program)
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

interface ProcessEnd {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  /** It did not even start. */
  readonly error?: unknown
}

/** `close` comes when the process has ended and its pipes have too. */
async function waitForEnd(child: ChildProcess, program: string): Promise<ProcessEnd> {
  try {
    const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
    return { status, signal }
  } catch (error) {
    return { status: null, signal: null, error: describeStartError(program, error) }
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

async function stopTool(child: ChildProcess, ended: Promise<ProcessEnd>): Promise<void> {
  // Nobody reads any more: a tool that writes must not wait for that.
  child.stdout?.destroy()
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
  const grace = new AbortController()
  const kill = async (): Promise<void> => {
    await sleep(GRACE_MS, grace.signal)
    child.kill('SIGKILL')
    // What it has started may hold its pipes open for as long as it likes.
    child.stderr?.destroy()
  }
  const killing = kill().catch(() => undefined)
  await ended
  grace.abort()
  await killing
}

function judgeEnd(run: ToolRun, end: ProcessEnd, lines: readonly string[]): void {
  const name = basename(run.program)
  if (isFailure(end.error)) throw end.error
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
