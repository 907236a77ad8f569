/** Failures of a load that had begun: what went wrong where, and what stays in the target. */
import { Failure } from '../base/failure.ts'
import type { LoadedObject, ObjectState } from './load-report.ts'

export interface FailedLoad {
  readonly database: string
  readonly isOneTransaction: boolean
  readonly wasCreated: boolean
  readonly createdRoles: readonly string[]
  readonly counts: Readonly<Record<ObjectState, number>> | undefined
  readonly objects: readonly LoadedObject[] | undefined
}

/** What of it is there now. */
export function describeRemains(load: FailedLoad): string {
  const parts: string[] = []
  if (load.isOneTransaction) parts.push(`nothing of it stays in ${load.database}`)
  else if (load.counts === undefined) parts.push(`what came before stays in ${load.database}`)
  else parts.push(`${load.counts.restored} objects stay in ${load.database}`)
  if (load.wasCreated) parts.push(`the database ${load.database} was created and stays`)
  if (load.createdRoles.length > 0)
    parts.push(`created roles stay: ${load.createdRoles.join(', ')}`)
  return parts.join('; ')
}

export function describeRepeat(load: FailedLoad): string {
  if (load.wasCreated) return `drop database ${load.database} and load again`
  if (load.isOneTransaction) return 'load again'
  return 'load again with --clean --if-exists, or into a new database with --create'
}

export interface StatementError {
  /** `CONSTRAINT public.t t_check`; undefined where the tool does not tell. */
  readonly object: string | undefined
  readonly message: string
  readonly statement: string | undefined
}

const SHOWN_STATEMENT = 500

/** TM2034: the server refused a statement. */
export function statementFailed(load: FailedLoad, error: StatementError): Failure {
  const statement = error.statement?.slice(0, SHOWN_STATEMENT)
  const what = error.object === undefined ? '' : ` at ${error.object}`
  const words = statement === undefined ? '' : `; the statement: ${statement}`
  return new Failure('TM2034', {
    message: `the load into ${load.database} has failed${what}`,
    because: `${error.message}${words}`,
    fix: `${describeRemains(load)}; mend what the server says, or leave the object out (--list), then ${describeRepeat(load)}`,
    details: { ...load, ...error },
  })
}

/** TM2035: what was read of the repository is not what was written there. */
export function dumpDamaged(load: FailedLoad, cause: Failure): Failure {
  return new Failure('TM2035', {
    message: `the load into ${load.database} was stopped: ${cause.message}`,
    because: cause.because ?? 'a part of the dump is damaged or missing',
    fix: `${describeRemains(load)}; ${cause.fix}; then ${describeRepeat(load)}`,
    details: { ...load, cause: cause.code },
    cause,
  })
}

/** TM2037: the tool did not come to its end, or the server went away under it. */
export function loadCutOff(load: FailedLoad, because: string): Failure {
  return new Failure('TM2037', {
    message: `the load into ${load.database} was cut off`,
    because,
    fix: `${describeRemains(load)}; see to the server, then ${describeRepeat(load)}`,
    details: { ...load },
  })
}
