/**
 * Runs a program to its end and gives what it wrote. Leaves judging the exit status to
 * the caller, except runChecked().
 */
import { spawn } from 'node:child_process'
import type { Owner } from './server-user.ts'

export interface RunOptions {
  readonly runAs?: Owner | undefined
  /** Added to the environment; `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  readonly input?: string
  /** Sends `signal` (SIGTERM unless given) this long after the start. */
  readonly signalAfterMs?: number
  readonly signal?: NodeJS.Signals
}

export interface RunResult {
  /** undefined when a signal ended the program. */
  readonly status: number | undefined
  readonly signal: NodeJS.Signals | undefined
  readonly stdout: string
  readonly stderr: string
}

export interface RunningProgram {
  readonly pid: number
  kill(signal?: NodeJS.Signals): void
  /** What it has said so far, on both outputs. */
  said(): string
  readonly done: Promise<RunResult>
}

export function startProgram(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): RunningProgram {
  const child = spawn(program, [...args], {
    env: environment(options.env),
    stdio: ['pipe', 'pipe', 'pipe'],
    cwd: options.cwd ?? (options.runAs === undefined ? process.cwd() : '/'),
    ...options.runAs,
  })
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const timer =
    options.signalAfterMs === undefined
      ? undefined
      : setTimeout(() => child.kill(options.signal), options.signalAfterMs)
  const done = new Promise<RunResult>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      resolve({
        status: status ?? undefined,
        signal: signal ?? undefined,
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: Buffer.concat(stderr).toString('utf8'),
      })
    })
  })
  const said = (): string => Buffer.concat([...stdout, ...stderr]).toString('utf8')
  return { pid: child.pid ?? 0, kill: (signal) => child.kill(signal), said, done }
}

export async function runProgram(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return await startProgram(program, args, options).done
}

/** Throws with both outputs unless the program ends with status 0. */
export async function runChecked(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const result = await runProgram(program, args, options)
  if (result.status !== 0) {
    const end = result.signal ?? `status ${result.status}`
    const command = [program, ...args].join(' ')
    throw new Error(`${command}\nended with ${end}\n${result.stdout}${result.stderr}`)
  }
  return result
}

/** Settings of the developer's own PostgreSQL and Tidemark must not leak into a test. */
export function environment(
  added: Readonly<Record<string, string | undefined>> = {},
): Record<string, string> {
  const result: Record<string, string> = {}
  for (const [name, value] of Object.entries({ ...process.env, LC_ALL: 'C', ...added })) {
    const foreign = !(name in added) && /^(PG|TIDEMARK_|NODE_)/.test(name)
    if (value !== undefined && !foreign) result[name] = value
  }
  return result
}
