/**
 * Finds a PostgreSQL server on this machine for the demo: Debian's, the embedded one that
 * set-up installs beside a checkout, or one on the PATH; and whom to run it as.
 */
import { execFile } from 'node:child_process'
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Failure } from '../../base/failure.ts'

export interface ServerPrograms {
  readonly directory: string
  readonly major: number
  /** As the server says it: `15.18 (Debian 15.18-0+deb12u1)`. */
  readonly version: string
}

export interface ServerUser {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

const OLDEST_MAJOR = 13
const NEWEST_MAJOR = 18
const PROGRAMS = ['postgres', 'initdb', 'pg_ctl']
const DEBIAN = '/usr/lib/postgresql'

const run = promisify(execFile)

/** TM1811 when there is none. `asked` is a directory that somebody named. */
export async function findServerPrograms(
  packageRoot: string,
  path: string,
  asked?: string,
): Promise<ServerPrograms> {
  const candidates = asked === undefined ? listCandidates(packageRoot, path) : [asked]
  for (const directory of candidates) {
    if (!PROGRAMS.every((name) => isProgram(join(directory, name)))) continue
    const found = await readVersion(directory)
    if (found !== undefined) return found
  }
  const programs = `postgres, initdb and pg_ctl of PostgreSQL ${OLDEST_MAJOR} to ${NEWEST_MAJOR}`
  throw new Failure('TM1811', {
    message: 'the demo found no PostgreSQL server to start',
    because: `none of these directories holds ${programs}: ${candidates.join(', ')}`,
    fix: 'install one (apt install postgresql), or name the directory: --server-programs DIR',
    details: { directories: candidates },
  })
}

/** Newest Debian server first, then the embedded ones, then the PATH. */
function listCandidates(packageRoot: string, path: string): string[] {
  const embedded = join(packageRoot, '.tools/postgres/node_modules')
  return [
    ...majorsIn(DEBIAN, /^(\d+)$/).map((name) => join(DEBIAN, name, 'bin')),
    ...majorsIn(embedded, /^postgres-(\d+)$/).map((name) => join(embedded, name, 'native/bin')),
    ...path.split(':').filter((directory) => directory.startsWith('/')),
  ]
}

function majorsIn(directory: string, pattern: RegExp): string[] {
  const majorOf = (name: string) => Number(pattern.exec(name)?.[1] ?? 0)
  return namesIn(directory)
    .filter((name) => majorOf(name) >= OLDEST_MAJOR && majorOf(name) <= NEWEST_MAJOR)
    .sort((left, right) => majorOf(right) - majorOf(left))
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

async function readVersion(directory: string): Promise<ServerPrograms | undefined> {
  try {
    const { stdout } = await run(join(directory, 'postgres'), ['--version'])
    const match = /^postgres \(PostgreSQL\) ((\d+).*)$/m.exec(stdout)
    const major = Number(match?.[2] ?? 0)
    if (major < OLDEST_MAJOR || major > NEWEST_MAJOR) return undefined
    return { directory, major, version: match?.[1] ?? String(major) }
  } catch {
    return undefined
  }
}

/**
 * PostgreSQL refuses to run as root (check_root() in src/backend/main/main.c), so root runs
 * everything as Debian's `postgres`, or as `nobody`. Undefined: as who runs the demo.
 */
export function findServerUser(): ServerUser | undefined {
  if (process.geteuid?.() !== 0) return undefined
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  for (const wanted of ['postgres', 'nobody']) {
    const [name, , uid, gid] = users.find(([user]) => user === wanted) ?? []
    if (name !== undefined) return { name, uid: Number(uid), gid: Number(gid) }
  }
  throw new Failure('TM1811', {
    message: 'root cannot run the demo on this machine',
    because: 'PostgreSQL does not run as root, and there is no user postgres or nobody',
    fix: 'run the demo as an ordinary user',
  })
}
