/** Failures of dumps by COPY and of loading them, with all that the server says. */
import { Failure, isFailure } from '../base/failure.ts'
import { isServerError, type ServerError } from '../postgres/connect-failure.ts'

/** What the server said, if that is what failed: not a session that was lost. */
export function findServerError(error: unknown): ServerError | undefined {
  if (isFailure(error, 'TM1106') || !isFailure(error)) return undefined
  return isServerError(error.cause) ? error.cause : undefined
}

/** With line and column, which the server tells as `where`. */
export function describeServerError(error: ServerError): string {
  const { message, detail, where, hint } = error
  return [message, detail, where, hint].filter((part) => part !== undefined).join('; ')
}

export function noRows(message: string, because: string | undefined, fix: string): Failure {
  return new Failure('TM2080', { message, ...(because === undefined ? {} : { because }), fix })
}

/** SQLSTATE classes 42 (names, syntax, rights), 22 and the like: the statement is at fault. */
export function explainDescribeError(error: unknown, what: string): unknown {
  const told = findServerError(error)
  if (told === undefined) return error
  return new Failure('TM2080', {
    message: `${what} cannot be dumped`,
    because: `the server says: ${describeServerError(told)}`,
    fix: 'write names as SQL does; a query is one SELECT, VALUES or TABLE',
    details: { sqlState: told.code },
    cause: error,
  })
}

export function explainCopyOutError(error: unknown, what: string, rowSecurity: boolean): unknown {
  const told = findServerError(error)
  if (told === undefined) return error
  const hides = told.code === '42501' && !rowSecurity
  return new Failure('TM2082', {
    message: `the rows of ${what} could not be read to their end`,
    because: `the server says: ${describeServerError(told)}`,
    fix: hides
      ? 'connect as a role with BYPASSRLS; --enable-row-security dumps what this one may see'
      : 'mend what the server says, then run the dump again',
    details: { sqlState: told.code },
    cause: error,
  })
}

export function explainCopyInError(error: unknown, table: string): unknown {
  const told = findServerError(error)
  if (told === undefined) return error
  return new Failure('TM2084', {
    message: `the server refused rows for ${table}`,
    because: `it says: ${describeServerError(told)}`,
    fix: 'nothing was loaded; mend what the server says, then load again',
    details: { sqlState: told.code, where: told.where ?? null },
    cause: error,
  })
}
