/**
 * Runs the demo's commands as child processes and shows what runs: the line that is
 * printed is the line that is executed, except that `tidemark` and PostgreSQL's programs
 * are shown without their directories.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { monotonicMs, sleep } from '../../base/clock.ts'
import { Failure } from '../../base/failure.ts'
import type { Environment } from '../../config/environment.ts'
import type { ServerUser } from './find-server.ts'
import { type Narrator, quoteForShell } from './narrator.ts'

export interface RunnerOptions {
  readonly narrator: Narrator
  readonly tidemark: string
  readonly serverPrograms: string
  readonly directory: string
  readonly user: ServerUser | undefined
  readonly env: Environment
  readonly signal: AbortSignal
}

export interface Finished {
  readonly stdout: string
  readonly durationMs: number
}

export interface Runner {
  /** Shows and runs `tidemark WORD…`; TM1813 unless it ends with status 0. */
  tidemark(...words: string[]): Promise<Finished>
  /** The same for a program of the server; what it prints matters only when it fails. */
  server(name: string, ...words: string[]): Promise<Finished>
  /** Runs `tidemark … --json` without showing it, for the figures. */
  ask(...words: string[]): Promise<unknown>
}

/** Output that a failure repeats. */
const LAST_LINES = 6

export function createRunner(options: RunnerOptions): Runner {
  const { narrator, tidemark, serverPrograms } = options
  const shown = async (
    name: string,
    program: string,
    words: readonly string[],
    onLine: (line: string) => void = (line) => narrator.output(line),
  ) => {
    const line = [name, ...words].map(quoteForShell).join(' ')
    narrator.command(line)
    return await runProgram(options, program, words, line, onLine)
  }
  return {
    tidemark: async (...words) => await shown('tidemark', tidemark, words),
    server: async (name, ...words) => {
      return await shown(name, `${serverPrograms}/${name}`, words, () => undefined)
    },
    async ask(...words) {
      const line = `tidemark --json ${words.join(' ')}`
      const { stdout } = await runProgram(options, tidemark, ['--json', ...words], line)
      return JSON.parse(stdout) as unknown
    },
  }
}

async function runProgram(
  options: RunnerOptions,
  program: string,
  words: readonly string[],
  shownAs: string,
  onLine: (line: string) => void = () => undefined,
): Promise<Finished> {
  options.signal.throwIfAborted()
  const started = monotonicMs()
  const child = spawn(program, [...words], {
    cwd: options.directory,
    env: childEnvironment(options),
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid }),
  })
  const ended = new AbortController()
  const stop = () => void endChild(child, ended.signal)
  options.signal.addEventListener('abort', stop)
  try {
    const { status, stdout, lines } = await collectOutput(child, onLine)
    options.signal.throwIfAborted()
    if (status !== 0) throw commandFailed(shownAs, status, lines)
    return { stdout, durationMs: monotonicMs() - started }
  } finally {
    ended.abort()
    options.signal.removeEventListener('abort', stop)
  }
}

/** Gives it time to clean up after itself. */
async function endChild(child: ChildProcess, ended: AbortSignal): Promise<void> {
  child.kill('SIGTERM')
  try {
    await sleep(STOP_GRACE_MS, ended)
    child.kill('SIGKILL')
  } catch {
    // It ended in time.
  }
}

/**
 * A server that pg_ctl starts inherits our pipes, so their end is not waited for: what
 * counts is the end of the command itself.
 */
async function collectOutput(
  child: ChildProcess,
  onLine: (line: string) => void,
): Promise<{ status: number | string; stdout: string; lines: string[] }> {
  const lines: string[] = []
  const stdout: string[] = []
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      if (stream === child.stdout) stdout.push(line)
      onLine(line)
    })
  }
  const status = await new Promise<number | string>((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => {
      const end = () => resolve(code ?? signal ?? 'unknown')
      child.on('close', end)
      void sleep(EXIT_GRACE_MS).then(end)
    })
  })
  child.stdout?.destroy()
  child.stderr?.destroy()
  return { status, stdout: stdout.join('\n'), lines }
}

const EXIT_GRACE_MS = 300
const STOP_GRACE_MS = 5000

/** The user's own servers and configuration are none of the demo's business. */
function childEnvironment({ env, directory, user }: RunnerOptions): Record<string, string> {
  const result: Record<string, string> = {}
  for (const [name, value] of Object.entries(env)) {
    const foreign = /^(PG|TIDEMARK_|NODE_OPTIONS)/.test(name) && name !== 'TIDEMARK_NODE'
    if (value !== undefined && !foreign) result[name] = value
  }
  if (user !== undefined) Object.assign(result, { HOME: directory, USER: user.name })
  return { ...result, LC_ALL: 'C' }
}

function commandFailed(line: string, status: number | string, lines: readonly string[]): Failure {
  return new Failure('TM1813', {
    message: `the demo's command failed: ${line}`,
    because: [`it ended with ${status}`, ...lines.slice(-LAST_LINES)].join('\n'),
    fix: 'run the demo again with --keep and repeat the command in its directory',
    details: { command: line, status },
  })
}
