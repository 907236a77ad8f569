/**
 * The environment of PostgreSQL's client tools: the connection, and little else.
 *
 * Invariant: they go to the very server that our own session goes to. No PG… variable is
 * passed on that could say otherwise (PGSERVICE and PGHOSTADDR would win over PGHOST), and
 * what our session has assumed is written out. A password is given only where URL or
 * configuration has one; nothing of it is ever an argument. Secrets of Tidemark's own
 * (TIDEMARK_…, AWS_…) are not passed on.
 */
import { userInfo } from 'node:os'
import type { ConnectionTarget } from '../postgres/connection-url.ts'
import { defaultSocketDirectory } from '../postgres/local-servers.ts'

export type Variables = Readonly<Record<string, string | undefined>>

/** Of our own environment. */
const PASSED_ON = [
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'KRB5CCNAME',
  'KRB5_CONFIG',
  'KRB5_KTNAME',
  'OPENSSL_CONF',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'PGCHANNELBINDING',
  'PGGSSENCMODE',
  'PGGSSLIB',
  'PGKRBSRVNAME',
  'PGREQUIREAUTH',
  'PGREQUIREPEER',
  'PGSSLCRL',
  'PGSSLCRLDIR',
  'PGSSLMAXPROTOCOLVERSION',
  'PGSSLMINPROTOCOLVERSION',
  'PGSSLNEGOTIATION',
  'PGSSLSNI',
] as const

export function toolEnvironment(
  target: ConnectionTarget,
  database: string,
  own: Variables,
): Record<string, string> {
  const user = target.user ?? userInfo().username
  const variables: Variables = {
    ...Object.fromEntries(PASSED_ON.map((name) => [name, own[name]])),
    LC_ALL: 'C',
    PGHOST: target.host ?? defaultSocketDirectory(target.port),
    PGPORT: String(target.port),
    PGUSER: user,
    // As it is: libpq expands connection strings only in a parameter, not in a variable.
    PGDATABASE: database,
    PGPASSWORD: target.password,
    PGPASSFILE: target.passwordFile,
    PGSSLMODE: target.tlsMode,
    PGSSLROOTCERT: target.tlsRootCertificate,
    PGSSLCERT: target.tlsCertificate,
    PGSSLKEY: target.tlsKey,
    PGOPTIONS: target.options,
    PGCONNECT_TIMEOUT: String(Math.ceil(target.connectTimeoutMs / 1000)),
  }
  const given = Object.entries(variables).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given) as Record<string, string>
}
