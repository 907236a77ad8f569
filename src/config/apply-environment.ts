/**
 * The PG… variables that libpq knows, for what a connection URL leaves open. Pure.
 *
 * The result may hold a password (PGPASSWORD): it is for connecting, never for printing.
 */
import { join } from 'node:path'
import type { Environment } from './environment.ts'

/** URL parameter and variable, in the order of libpq's manual. */
const VARIABLES = [
  ['host', 'PGHOST'],
  ['port', 'PGPORT'],
  ['dbname', 'PGDATABASE'],
  ['user', 'PGUSER'],
  ['password', 'PGPASSWORD'],
  ['passfile', 'PGPASSFILE'],
  ['sslmode', 'PGSSLMODE'],
  ['sslrootcert', 'PGSSLROOTCERT'],
  ['sslcert', 'PGSSLCERT'],
  ['sslkey', 'PGSSLKEY'],
  ['connect_timeout', 'PGCONNECT_TIMEOUT'],
  ['options', 'PGOPTIONS'],
] as const

type Parameter = (typeof VARIABLES)[number][0]

/** A URL that is none is returned as it is: connecting with it says what is wrong. */
export function applyEnvironment(url: string, env: Environment): string {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(url)
  if (match === null) return url
  const [, credentials = '', address = '', database = '', query = ''] = match
  const said = new Set<string>(new URLSearchParams(query).keys())
  if (address.replace(/:\d*$/, '') !== '') said.add('host')
  if (/:\d+$/.test(address)) said.add('port')
  if (database !== '') said.add('dbname')
  if (credentials.split(':')[0] !== '') said.add('user')
  if (credentials.includes(':')) said.add('password')
  const added = VARIABLES.flatMap(([parameter, variable]) => {
    const value = env[variable] ?? defaultOf(parameter, env)
    if (value === undefined || value === '' || said.has(parameter)) return []
    return [`${parameter}=${encodeURIComponent(value)}`]
  })
  if (added.length === 0) return url
  return `${url}${url.includes('?') ? '&' : '?'}${added.join('&')}`
}

function defaultOf(parameter: Parameter, env: Environment): string | undefined {
  const home = env['HOME']
  return parameter === 'passfile' && home !== undefined ? join(home, '.pgpass') : undefined
}
