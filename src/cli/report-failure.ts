/**
 * How an operation that ended badly is told: code, message, because, fix; with --json as an
 * object on standard output. A stack trace only with --verbose.
 */
import { Failure, toFailureMessage } from '../base/failure.ts'

export interface ReportOptions {
  readonly json: boolean
  readonly verbose: boolean
}

/** Status of a defect: something that is not one of our failures. */
const EXIT_DEFECT = 1

/** Prints and gives the exit status. */
export function reportFailure(error: unknown, options: ReportOptions): number {
  if (options.json) process.stdout.write(`${formatFailureJson(error)}\n`)
  else process.stderr.write(`${formatFailure(error)}\n`)
  if (options.verbose) process.stderr.write(`${formatTrace(error)}\n`)
  return error instanceof Failure ? error.exitStatus : EXIT_DEFECT
}

export function reportWarning(failure: Failure): void {
  process.stderr.write(`${formatFailure(failure).replace('error', 'warning')}\n`)
}

export function formatFailure(error: unknown): string {
  if (!(error instanceof Failure)) return formatDefect(error)
  const lines = [`error ${error.code}: ${error.message}`]
  if (error.because !== undefined) lines.push(indent('because: ', error.because))
  lines.push(indent('fix: ', error.fix))
  return lines.join('\n')
}

/** All of it in one line, with further remarks behind, for a log that repeats it. */
export function formatFailureLine(failure: Failure, remarks: readonly string[]): string {
  const { code, message, because, fix } = failure
  const why = because === undefined ? '' : ` (${because})`
  const text = [`error ${code}: ${message}${why}`, fix, ...remarks].join('; ')
  return text.replaceAll(/\s*\n\s*/g, ' ')
}

/** Further lines of a text stand below its first word. */
function indent(label: string, text: string): string {
  const below = `\n${' '.repeat(label.length + 2)}`
  return `  ${label}${text.split(/\n\s*/).join(below)}`
}

function formatDefect(error: unknown): string {
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return [
    'error: Tidemark met something that it does not expect',
    indent('because: ', message),
    '  fix: this is a defect of Tidemark; please report it with the output of --verbose',
  ].join('\n')
}

export function formatFailureJson(error: unknown): string {
  const object =
    error instanceof Failure
      ? toFailureMessage(error)
      : { code: null, message: error instanceof Error ? error.message : String(error) }
  return JSON.stringify({ error: object }, jsonValue, 2)
}

function jsonValue(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}

function formatTrace(error: unknown): string {
  const traces: string[] = []
  for (let at: unknown = error; at instanceof Error; at = at.cause) traces.push(at.stack ?? '')
  return traces.join('\ncaused by: ')
}
