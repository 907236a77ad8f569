/**
 * The connection service file of libpq: sections `[name]`, lines `key=value`, comments with
 * `#`. `PGSERVICEFILE`, else `~/.pg_service.conf`; then `pg_service.conf` in `PGSYSCONFDIR`
 * or where packages have it.
 *
 * PostgreSQL: parseServiceInfo() and parseServiceFile() of interfaces/libpq/fe-connect.c.
 * Invariant: no failure of this file quotes a line, which may hold a password.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import type { Environment } from './environment.ts'

/** Where Debian's and the PostgreSQL project's libpq look. */
const SYSTEM_DIRECTORIES = ['/etc/postgresql-common', '/etc/sysconfig/pgsql']

export type Service = Readonly<Record<string, string>>

/** TM1116 when no file has it, or one has it in a form that libpq does not take. */
export function readService(name: string, env: Environment): Service {
  const files = listServiceFiles(env)
  for (const path of files) {
    const text = readIfThere(path)
    const service = text === undefined ? undefined : parseService(text, name, path)
    if (service !== undefined) return service
  }
  throw new Failure('TM1116', {
    message: `there is no connection service ${name}`,
    because: `it is in none of ${files.join(', ')}`,
    fix: 'correct PGSERVICE, or the parameter service of the connection, or name the file in PGSERVICEFILE',
  })
}

function listServiceFiles(env: Environment): string[] {
  const { PGSERVICEFILE: named, HOME: home, PGSYSCONFDIR: system } = env
  const own = named !== undefined && named !== '' ? [named] : ownFile(home)
  const directories = system !== undefined && system !== '' ? [system] : SYSTEM_DIRECTORIES
  return [...own, ...directories.map((directory) => join(directory, 'pg_service.conf'))]
}

function ownFile(home: string | undefined): string[] {
  return home === undefined || home === '' ? [] : [join(home, '.pg_service.conf')]
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Failure('TM1116', {
      message: `the service file ${path} cannot be read`,
      because: describeSystemError(error),
      fix: 'let this user read it, or name another one in PGSERVICEFILE',
      cause: error,
    })
  }
}

/** The first section of that name; of a key that comes twice the first counts. */
export function parseService(text: string, name: string, path: string): Service | undefined {
  let service: Record<string, string> | undefined
  for (const [index, whole] of text.split('\n').entries()) {
    const line = whole.trim()
    if (line === '' || line.startsWith('#')) continue
    if (line.startsWith('[')) {
      if (service !== undefined) return service
      if (line === `[${name}]`) service = {}
      continue
    }
    if (service === undefined) continue
    const at = line.indexOf('=')
    const key = line.slice(0, Math.max(at, 0))
    if (at === -1 || key === 'service' || line.startsWith('ldap')) {
      throw refuseLine(path, index + 1, name)
    }
    service[key] ??= line.slice(at + 1)
  }
  return service
}

function refuseLine(path: string, line: number, name: string): Failure {
  return new Failure('TM1116', {
    message: `line ${line} of ${path} is not understood`,
    because: `service ${name} needs lines like host=db.example; no services within services, no LDAP`,
    fix: 'correct the line',
  })
}
