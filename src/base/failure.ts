/**
 * Failures: the expected ways in which an operation can end badly.
 *
 * A failure has a stable code from the one list (failure-codes.ts), and says what
 * happened (message), why if known (because) and what to do (fix). An assertion is a
 * defect of ours and is a plain Error.
 */
import { FAILURE_CODES, type FailureCode } from './failure-codes.ts'

export interface FailureText {
  /** What happened, one sentence, no full stop, no path of a stack trace. */
  readonly message: string
  /** Why, if known. */
  readonly because?: string
  /** What the reader can do about it. */
  readonly fix: string
  /** Facts for scripts; appears in --json output as it is. */
  readonly details?: Readonly<Record<string, unknown>>
  readonly cause?: unknown
}

/** 1 failed, 2 wrong usage or configuration, 3 a check found a problem. */
export type ExitStatus = 1 | 2 | 3

export class Failure extends Error {
  readonly code: FailureCode
  readonly because: string | undefined
  readonly fix: string
  readonly details: Readonly<Record<string, unknown>> | undefined

  constructor(code: FailureCode, text: FailureText) {
    super(text.message, text.cause === undefined ? undefined : { cause: text.cause })
    this.name = 'Failure'
    this.code = code
    this.because = text.because
    this.fix = text.fix
    this.details = text.details
  }

  get exitStatus(): ExitStatus {
    return FAILURE_CODES[this.code].exitStatus
  }
}

export function isFailure(error: unknown, code?: FailureCode): error is Failure {
  return error instanceof Failure && (code === undefined || error.code === code)
}

/** Failures cross worker threads as plain objects: structured clone drops our class. */
export interface FailureMessage extends FailureText {
  readonly code: FailureCode
}

export function toFailureMessage(failure: Failure): FailureMessage {
  return {
    code: failure.code,
    message: failure.message,
    fix: failure.fix,
    ...(failure.because === undefined ? {} : { because: failure.because }),
    ...(failure.details === undefined ? {} : { details: failure.details }),
  }
}

export function fromFailureMessage(message: FailureMessage): Failure {
  return new Failure(message.code, message)
}

/** The reason of a system error for a `because`: `ENOSPC` -> `no space left on device`. */
export function describeSystemError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const known = SYSTEM_ERRORS[(error as NodeJS.ErrnoException).code ?? '']
  return known ?? error.message
}

const SYSTEM_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  ENOSPC: 'no space left on device',
  EDQUOT: 'disk quota exceeded',
  EROFS: 'read-only file system',
  EIO: 'input/output error',
  EMFILE: 'too many open files',
  ENOTDIR: 'not a directory',
  EISDIR: 'is a directory',
  ENOTEMPTY: 'directory not empty',
  EEXIST: 'file exists',
  ECONNREFUSED: 'connection refused',
  ETIMEDOUT: 'timed out',
}
