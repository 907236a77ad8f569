/**
 * The PG… variables that libpq knows, and the service that PGSERVICE or the URL names, for what a
 * connection URL leaves open. What a service says counts more than what variables say.
 *
 * The result may hold a password (PGPASSWORD): it is for connecting, never for printing.
 */
import { join } from 'node:path'
import type { Environment } from './environment.ts'
import { readService, type Service } from './service-file.ts'

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

/**
 * A URL that is none is returned as it is: connecting with it says what is wrong. TM1116 when
 * the service is not there.
 */
export function applyEnvironment(url: string, env: Environment): string {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(url)
  if (match === null) return url
  const [, credentials = '', address = '', database = '', query = ''] = match
  const parameters = new URLSearchParams(query)
  const said = new Set<string>(parameters.keys())
  if (address.replace(/:\d*$/, '') !== '') said.add('host')
  if (/:\d+$/.test(address)) said.add('port')
  if (database !== '') said.add('dbname')
  if (credentials.split(':')[0] !== '') said.add('user')
  if (credentials.includes(':')) said.add('password')
  const service = findService(parameters.get('service') ?? env['PGSERVICE'], env)
  const variables = VARIABLES.flatMap(([parameter, variable]) => {
    const value = service[parameter] ?? env[variable] ?? defaultOf(parameter, env)
    return value === undefined || value === '' ? [] : [[parameter, value] as const]
  })
  // What is not known here is refused where the URL is read.
  const added = new Map([...Object.entries(service), ...variables])
  return addParameters(withoutService(url), added, said)
}

function findService(name: string | undefined, env: Environment): Service {
  return name === undefined || name === '' ? {} : readService(name, env)
}

function addParameters(
  url: string,
  added: ReadonlyMap<string, string>,
  said: ReadonlySet<string>,
): string {
  const words = [...added].flatMap(([parameter, value]) => {
    return said.has(parameter) ? [] : [`${parameter}=${encodeURIComponent(value)}`]
  })
  if (words.length === 0) return url
  return `${url}${url.includes('?') ? '&' : '?'}${words.join('&')}`
}

function withoutService(url: string): string {
  const at = url.indexOf('?')
  if (at === -1) return url
  const address = url.slice(0, at)
  const words = url
    .slice(at + 1)
    .split('&')
    .filter((word) => !word.startsWith('service='))
  return words.length === 0 ? address : `${address}?${words.join('&')}`
}

function defaultOf(parameter: Parameter, env: Environment): string | undefined {
  const home = env['HOME']
  return parameter === 'passfile' && home !== undefined ? join(home, '.pgpass') : undefined
}
