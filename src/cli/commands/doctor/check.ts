/** One check of doctor: what was looked at, what came out, how to mend it. */
import type { Failure } from '../../../base/failure.ts'
import type { FailureCode } from '../../../base/failure-codes.ts'
import type { Terminal } from '../../terminal.ts'

export type CheckResult = 'ok' | 'warning' | 'problem' | 'skipped'

export interface Check {
  readonly code: FailureCode
  /** A word for scripts and for the first column. */
  readonly name: string
  readonly result: CheckResult
  /** One sentence. */
  readonly detail: string
  readonly fix?: string
}

export function ok(code: FailureCode, name: string, detail: string): Check {
  return { code, name, result: 'ok', detail }
}

export function skipped(code: FailureCode, name: string, detail: string): Check {
  return { code, name, result: 'skipped', detail }
}

export function found(
  result: 'warning' | 'problem',
  code: FailureCode,
  name: string,
  detail: string,
  fix: string,
): Check {
  return { code, name, result, detail, fix }
}

/** A failure as the outcome of a check. */
export function failed(code: FailureCode, name: string, failure: Failure): Check {
  const because = failure.because === undefined ? '' : ` (${failure.because})`
  return found('problem', code, name, `${failure.code}: ${failure.message}${because}`, failure.fix)
}

const NAME_WIDTH = 20

export function printCheck(terminal: Terminal, check: Check): void {
  const { colours } = terminal
  const marks = {
    ok: colours.green('ok      '),
    warning: colours.yellow('warning '),
    problem: colours.red('PROBLEM '),
    skipped: colours.dim('skipped '),
  }
  const isBad = check.result === 'warning' || check.result === 'problem'
  const code = isBad ? ` ${colours.dim(`(${check.code})`)}` : ''
  terminal.print(`${marks[check.result]} ${check.name.padEnd(NAME_WIDTH)} ${check.detail}${code}`)
  if (check.fix !== undefined) {
    const below = `\n${' '.repeat(NAME_WIDTH + 15)}`
    const fix = check.fix.split(/\n\s*/).join(below)
    terminal.print(`${' '.repeat(NAME_WIDTH + 10)}fix: ${fix}`)
  }
}
