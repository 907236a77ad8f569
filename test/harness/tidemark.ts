/** Runs `bin/tidemark` as a user would, and gives status, outputs and parsed JSON. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type RunningProgram,
  type RunOptions,
  type RunResult,
  startProgram,
} from './run-program.ts'

/** The sources, with what starts them. */
export const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

/** What `npm test` has built (scripts/test-program.ts); the sources where there is nothing. */
export const TIDEMARK = process.env['TEST_PROGRAM'] ?? join(CHECKOUT, 'bin/tidemark')

export interface TidemarkResult extends RunResult {
  /** Standard output as one JSON document; throws with both outputs when it is none. */
  json<T = Record<string, unknown>>(): T
}

export interface RunningTidemark extends Omit<RunningProgram, 'done'> {
  readonly done: Promise<TidemarkResult>
}

/** For tests that kill it, or that do something while it runs. */
export function startTidemark(args: readonly string[], options: RunOptions = {}): RunningTidemark {
  const program = startProgram(TIDEMARK, args, options)
  return { ...program, done: program.done.then((result) => withJson(args, result)) }
}

/** Runs to the end; never throws for an exit status. */
export async function tidemark(
  args: readonly string[],
  options: RunOptions = {},
): Promise<TidemarkResult> {
  return await startTidemark(args, options).done
}

/** Runs to the end and throws with both outputs unless the status is 0. */
export async function tidemarkOk(
  args: readonly string[],
  options: RunOptions = {},
): Promise<TidemarkResult> {
  const result = await tidemark(args, options)
  if (result.status !== 0) throw new Error(describe(args, result))
  return result
}

/** What a command with --json prints of its failure. */
export interface FailureJson {
  readonly code: string
  readonly message: string
  readonly because?: string
  readonly fix: string
  readonly details?: Record<string, unknown>
}

export function failureOf(result: TidemarkResult): FailureJson {
  const parsed = result.json<{ error?: FailureJson } & FailureJson>()
  return parsed.error ?? parsed
}

function withJson(args: readonly string[], result: RunResult): TidemarkResult {
  const json = <T>(): T => {
    try {
      return JSON.parse(result.stdout) as T
    } catch (cause) {
      throw new Error(`no JSON document: ${describe(args, result)}`, { cause })
    }
  }
  return { ...result, json }
}

function describe(args: readonly string[], result: RunResult): string {
  const end = result.signal ?? `status ${result.status}`
  return `tidemark ${args.join(' ')}\nended with ${end}\n${result.stdout}${result.stderr}`
}
