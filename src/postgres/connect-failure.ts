/**
 * Turns what `pg` throws into failures. Decides by SQLSTATE, by system error code and by
 * the server's routine, never by message text, and never quotes a password.
 */
import { describeSystemError, Failure } from '../base/failure.ts'
import { describeLocalServers, findLocalServers } from './local-servers.ts'

/** Where a connection goes, for messages. */
export interface Address {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string
  readonly usesTls: boolean
}

/** An error of the server; `pg` has a class for it that it does not export everywhere. */
export interface ServerError extends Error {
  readonly code: string
  readonly severity: string
  readonly routine?: string
  readonly detail?: string
  readonly hint?: string
  /** `COPY t, line 3, column b: "x"` */
  readonly where?: string
}

export function isServerError(error: unknown): error is ServerError {
  return error instanceof Error && 'severity' in error && 'code' in error
}

export function describeAddress(address: Address): string {
  const { host, port } = address
  if (host.startsWith('/')) return `the socket ${host}/.s.PGSQL.${port}`
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

export function translateConnectError(
  error: unknown,
  address: Address,
  wasAskedForPassword: boolean,
): Failure {
  if (error instanceof Failure) return error
  if (isServerError(error)) return translateRefusal(error, address, wasAskedForPassword)
  if (address.usesTls && !isNetworkError(error)) return tlsFailure(error, address)
  return noAnswer(error, address)
}

const NETWORK_ERRORS = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EACCES',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTSOCK',
])

function isNetworkError(error: unknown): boolean {
  return NETWORK_ERRORS.has((error as NodeJS.ErrnoException)?.code ?? '')
}

function noAnswer(error: unknown, address: Address): Failure {
  const isLocal = address.host.startsWith('/') || /^(localhost|127\.|::1$)/.test(address.host)
  const servers = isLocal ? findLocalServers() : []
  const found = isLocal ? `; ${describeLocalServers(servers)}` : ''
  return new Failure('TM1101', {
    message: `no PostgreSQL server answers at ${describeAddress(address)}`,
    because: `${describeNetworkError(error)}${found}`,
    fix: 'start the server, or name its host (or socket directory) and port in the connection',
    details: { host: address.host, port: address.port, servers },
    cause: error,
  })
}

const NETWORK_REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket',
  ENOTFOUND: 'no such host is known',
  EAI_AGAIN: 'the name of the host cannot be looked up now',
  EHOSTUNREACH: 'there is no way to the host',
  ENETUNREACH: 'there is no way to the network',
  ECONNRESET: 'what answered closed the connection',
}

function describeNetworkError(error: unknown): string {
  const code = (error as NodeJS.ErrnoException)?.code ?? ''
  return NETWORK_REASONS[code] ?? describeSystemError(error)
}

function tlsFailure(error: unknown, address: Address): Failure {
  return new Failure('TM1115', {
    message: `no encrypted connection to ${describeAddress(address)}`,
    because: describeSystemError(error),
    fix: 'check ssl on the server, and sslmode and sslrootcert of the connection',
    cause: error,
  })
}

function translateRefusal(error: ServerError, address: Address, asked: boolean): Failure {
  const { user, database } = address
  const at = describeAddress(address)
  const because = `the server says: ${error.message}`
  const details = { sqlState: error.code, user, database }
  const fail = (code: Failure['code'], message: string, fix: string) =>
    new Failure(code, { message, because, fix, details, cause: error })
  if (error.code === '28P01') {
    return fail('TM1102', `the password of role ${user} is wrong at ${at}`, PASSWORD_FIX)
  }
  if (error.code === '3D000') {
    const fix = 'name a database that exists in the connection: postgres is nearly always there'
    return fail('TM1103', `the server at ${at} has no database ${database}`, fix)
  }
  // SQLSTATE 28000 has several causes; the routine tells the one with a fix of its own.
  if (error.code === '28000' && error.routine === 'InitializeSessionUserId' && !asked) {
    const create = `CREATE ROLE "${user}" LOGIN`
    const fix =
      user === 'root'
        ? `run as the server's user (sudo -u postgres …), or name a role in the connection`
        : `name a role that exists in the connection, or create it: ${create}`
    return fail('TM1104', `the server at ${at} has no role ${user}`, fix)
  }
  if (error.code.startsWith('28')) {
    const fix = 'name another role, run as its operating system user, or add a line to pg_hba.conf'
    return fail('TM1102', `the server at ${at} does not let role ${user} in`, fix)
  }
  if (error.code === '42501') {
    const fix = `GRANT CONNECT ON DATABASE "${database}" TO "${user}"`
    return fail('TM1105', `role ${user} may not connect to database ${database}`, fix)
  }
  if (error.code === '57P03' || error.code === '53300') {
    const fix = 'wait and try again; the server log says what it is doing'
    return fail('TM1113', `the server at ${at} takes no connections now`, fix)
  }
  return fail('TM1114', `the server at ${at} refused the connection`, 'see the server log')
}

export const PASSWORD_FIX =
  'put the right password into ~/.pgpass (mode 0600), or use a role with peer authentication'

/** The error of a statement on an open session. `what`: in the user's words. */
export function translateQueryError(error: unknown, user: string, what: string): Failure {
  if (error instanceof Failure) return error
  if (!isServerError(error) || error.code.startsWith('57P') || error.code.startsWith('08')) {
    return sessionLost(describeSystemError(error), error)
  }
  const because = `the server says: ${error.message}`
  const details = { sqlState: error.code }
  if (error.code === '42501') {
    return new Failure('TM1105', {
      message: `role ${user} may not ${what}`,
      because,
      fix: `connect as a superuser, or grant role ${user} what the message names`,
      details,
      cause: error,
    })
  }
  return new Failure('TM1114', {
    message: `the server could not ${what}`,
    because,
    fix: error.detail ?? 'see the server log',
    details,
    cause: error,
  })
}

export function sessionLost(because: string, cause?: unknown): Failure {
  return new Failure('TM1106', {
    message: 'the connection to the server was lost',
    because,
    fix: 'see the server log; when the server is up, run the command again',
    ...(cause === undefined ? {} : { cause }),
  })
}
