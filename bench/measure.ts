/**
 * Runs one command and measures it from outside: wall time, CPU time of it and all its
 * children, and the peak of the proportional set size (PSS: shared pages are counted once)
 * of the whole process tree, sampled every 100 ms.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { environment } from '../test/harness/run-program.ts'
import type { Owner } from '../test/harness/server-user.ts'

export interface Measurement {
  readonly wallSeconds: number
  readonly cpuSeconds: number
  readonly peakPssBytes: number
  /** Standard output and standard error. */
  readonly output: string
}

export interface Command {
  readonly program: string
  readonly args: readonly string[]
  readonly runAs: Owner | undefined
  readonly env: Readonly<Record<string, string>>
  /** Exit statuses that are no failure; 0 unless given. */
  readonly statuses?: readonly number[]
  readonly sampleMs?: number
}

const SAMPLE_MS = 100

/** `times` of POSIX sh: second line, user and system time of children that were waited for. */
const WITH_TIMES = '"$@"; status=$?; times >&3; exit "$status"'

/** Throws with the command's output unless it ends with status 0. */
export async function measure(command: Command): Promise<Measurement> {
  const begin = performance.now()
  const child = spawn('sh', ['-c', WITH_TIMES, 'sh', command.program, ...command.args], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    cwd: '/',
    env: environment(command.env),
    ...command.runAs,
  })
  let output = ''
  let times = ''
  child.stdout?.on('data', (chunk) => (output += chunk))
  child.stderr?.on('data', (chunk) => (output += chunk))
  child.stdio[3]?.on('data', (chunk) => (times += chunk))
  let peakPssBytes = 0
  const sampler = setInterval(() => {
    peakPssBytes = Math.max(peakPssBytes, treePssBytes(child.pid ?? 0))
  }, command.sampleMs ?? SAMPLE_MS)
  const { status, end } = await new Promise<{ status: number | null; end: number }>(
    (resolve, reject) => {
      let ended = 0
      child.on('error', reject)
      child.on('exit', () => (ended = performance.now()))
      child.on('close', (code) => resolve({ status: code, end: ended }))
    },
  ).finally(() => clearInterval(sampler))
  if (!(command.statuses ?? [0]).includes(status ?? -1)) {
    throw new Error(`${command.program} ${command.args.join(' ')}: status ${status}\n${output}`)
  }
  return {
    wallSeconds: (end - begin) / 1000,
    cpuSeconds: childrenSeconds(times),
    peakPssBytes,
    output,
  }
}

/** `0m1.230000s 0m0.450000s` twice; the second line is that of the children. */
function childrenSeconds(times: string): number {
  const [, children = ''] = times.trim().split('\n')
  return children
    .trim()
    .split(/\s+/)
    .map((text) => {
      const [minutes, seconds] = text.replace('s', '').split('m')
      return Number(minutes) * 60 + Number(seconds)
    })
    .reduce((sum, seconds) => sum + seconds, 0)
}

function treePssBytes(pid: number): number {
  const rollup = readProc(`/proc/${pid}/smaps_rollup`)
  const kilobytes = Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0)
  return childrenOf(pid).reduce((sum, child) => sum + treePssBytes(child), kilobytes * 1024)
}

function childrenOf(pid: number): number[] {
  const text = readProc(`/proc/${pid}/task/${pid}/children`).trim()
  return text === '' ? [] : text.split(' ').map(Number)
}

/** Empty when the process has ended meanwhile. */
function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}
