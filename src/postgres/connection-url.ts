/**
 * Connection URLs as libpq writes them: `postgresql://user@host:port/database?…`, and
 * `postgresql:///database?host=/directory` for a Unix socket.
 *
 * Invariant: no failure of this file quotes the URL, which may hold a password.
 */
import { Failure } from '../base/failure.ts'

export type TlsMode = 'disable' | 'allow' | 'prefer' | 'require' | 'verify-ca' | 'verify-full'

export interface ConnectionTarget {
  /** Host name, address, or the directory of a Unix socket; undefined: the default one. */
  readonly host: string | undefined
  readonly port: number
  readonly user: string | undefined
  /** Undefined: named like the user. */
  readonly database: string | undefined
  readonly password: string | undefined
  readonly passwordFile: string | undefined
  readonly tlsMode: TlsMode
  /** Files. `system` as root certificate: the authorities that Node.js trusts. */
  readonly tlsRootCertificate: string | undefined
  readonly tlsCertificate: string | undefined
  readonly tlsKey: string | undefined
  readonly connectTimeoutMs: number
  /** Command-line options for the server's session. */
  readonly options: string | undefined
}

/** What libpq takes from PG… variables where the URL says nothing. */
export type ConnectionDefaults = Partial<ConnectionTarget>

const DEFAULT_PORT = 5432
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000
const TLS_MODES: readonly string[] = [
  'disable',
  'allow',
  'prefer',
  'require',
  'verify-ca',
  'verify-full',
]

/** Parameters that change nothing for one session to one host. */
const IGNORED = new Set([
  'application_name',
  'fallback_application_name',
  'keepalives',
  'keepalives_idle',
  'keepalives_interval',
  'keepalives_count',
  'client_encoding',
])

/** Failure TM1116: not a URL of this kind, or a parameter that is not understood. */
export function parseConnectionUrl(
  text: string,
  defaults: ConnectionDefaults = {},
): ConnectionTarget {
  const url = parseUrl(text)
  const take = takeParameters(url)
  const host = take('host') ?? hostOf(url)
  const port = take('port') ?? nonEmpty(url.port)
  const database = take('dbname') ?? nonEmpty(decode(url.pathname.slice(1)))
  const timeout = parseTimeout(take('connect_timeout'))
  const mode = take('sslmode')
  const target: ConnectionTarget = {
    host: host ?? defaults.host,
    port: port === undefined ? (defaults.port ?? DEFAULT_PORT) : parsePort(port),
    user: take('user') ?? nonEmpty(decode(url.username)) ?? defaults.user,
    database: database ?? defaults.database,
    password: take('password') ?? nonEmpty(decode(url.password)) ?? defaults.password,
    passwordFile: take('passfile') ?? defaults.passwordFile,
    tlsMode: mode === undefined ? (defaults.tlsMode ?? 'prefer') : parseTlsMode(mode),
    tlsRootCertificate: take('sslrootcert') ?? defaults.tlsRootCertificate,
    tlsCertificate: take('sslcert') ?? defaults.tlsCertificate,
    tlsKey: take('sslkey') ?? defaults.tlsKey,
    connectTimeoutMs: timeout ?? defaults.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS,
    options: take('options') ?? defaults.options,
  }
  refuseRest(url)
  if (target.host?.includes(',') === true) {
    throw invalid('it names several hosts', 'name the one server that is to be protected')
  }
  return target
}

/** Stands for the host of `postgresql://user@/db`, a form that URL does not take. */
const NO_HOST = 'no-host.invalid'

function parseUrl(text: string): URL {
  const candidates = [text, text.replace('@/', `@${NO_HOST}/`)]
  const readable = candidates.find((candidate) => URL.canParse(candidate))
  const url = readable === undefined ? undefined : new URL(readable)
  if (url === undefined || !/^postgres(ql)?:$/.test(url.protocol)) {
    throw invalid('it does not read as postgresql://…')
  }
  return url
}

function hostOf(url: URL): string | undefined {
  if (url.hostname === NO_HOST) return undefined
  return nonEmpty(decode(url.hostname.replace(/^\[(.*)\]$/, '$1')))
}

function takeParameters(url: URL): (name: string) => string | undefined {
  return (name) => {
    const value = url.searchParams.get(name)
    url.searchParams.delete(name)
    return nonEmpty(value ?? '')
  }
}

function refuseRest(url: URL): void {
  for (const name of url.searchParams.keys()) {
    if (!IGNORED.has(name)) throw invalid(`its parameter ${name} is not known`)
  }
}

function parsePort(text: string): number {
  const port = Number(text)
  if (Number.isInteger(port) && port > 0 && port < 65536) return port
  throw invalid('its port is not a number from 1 to 65535')
}

function parseTlsMode(text: string): TlsMode {
  if (TLS_MODES.includes(text)) return text as TlsMode
  throw invalid(`its sslmode is none of ${TLS_MODES.join(', ')}`)
}

function parseTimeout(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const seconds = Number(text)
  if (Number.isFinite(seconds) && seconds > 0) return seconds * 1000
  throw invalid('its connect_timeout is not a number of seconds')
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid('it has a % that is not followed by two hexadecimal digits')
  }
}

function nonEmpty(text: string): string | undefined {
  return text === '' ? undefined : text
}

function invalid(because: string, fix?: string): Failure {
  return new Failure('TM1116', {
    message: 'the connection URL is not valid',
    because,
    fix:
      fix ??
      'write it like postgresql:///postgres?host=/var/run/postgresql or postgresql://user@host:5432/db',
  })
}

/** The same connection to another database of the cluster. */
export function withDatabase(connection: string, database: string): string {
  const match = /^(postgres(?:ql)?:\/\/[^/?]*)(?:\/[^?]*)?(\?.*)?$/.exec(connection)
  if (match === null) throw new Error('the connection is not a URL')
  const parameters = (match[2] ?? '')
    .replace(/^\?/, '')
    .split('&')
    .filter((parameter) => parameter !== '' && !parameter.startsWith('dbname='))
  const query = parameters.length === 0 ? '' : `?${parameters.join('&')}`
  return `${match[1]}/${encodeURIComponent(database)}${query}`
}
