/**
 * Finds the PostgreSQL programs that tests use. Servers: npm's embedded builds in
 * `.tools/postgres` (postgres, initdb and pg_ctl only) and Debian's. Client tools:
 * Debian's, and those in `.tools/postgres-tools` for majors that Debian lacks.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const NEWEST = 30
const OLDEST = 13

export function embeddedDirectory(major: number): string {
  return join(ROOT, `.tools/postgres/node_modules/postgres-${major}/native/bin`)
}

export function debianDirectory(major: number): string {
  return `/usr/lib/postgresql/${major}/bin`
}

function unpackedDirectory(major: number): string {
  return join(ROOT, `.tools/postgres-tools/${major}/bin`)
}

/**
 * The directory that holds `postgres` and `initdb` of a major. Debian's is preferred (it
 * has its client tools beside it) unless `embedded` says otherwise.
 */
export function serverDirectory(major: number, embedded?: boolean): string {
  const candidates =
    embedded === true
      ? [embeddedDirectory(major)]
      : embedded === false
        ? [debianDirectory(major)]
        : [debianDirectory(major), embeddedDirectory(major)]
  for (const directory of candidates) {
    if (existsSync(join(directory, 'postgres')) && existsSync(join(directory, 'initdb'))) {
      return directory
    }
  }
  throw new Error(
    `no PostgreSQL ${major} in ${candidates.join(' or ')}; \`npm test\` installs it (scripts/run)`,
  )
}

/** Debian's newest server, else the embedded 17, whose client tools npm has as well. */
export function defaultMajor(): number {
  for (let major = NEWEST; major >= OLDEST; major--) {
    if (existsSync(join(debianDirectory(major), 'postgres'))) return major
  }
  return 17
}

/** Tools that only talk SQL to a server serve every major up to their own. */
const SERVES_OLDER = new Set([
  'psql',
  'pgbench',
  'pg_dump',
  'pg_dumpall',
  'pg_amcheck',
  'pg_isready',
  'vacuumdb',
  'createdb',
  'dropdb',
])

/**
 * The path of a client tool that fits a server of this major, or undefined where this
 * machine has none: the test is skipped then, and says so.
 */
export function findTool(name: string, major: number): string | undefined {
  for (let candidate = major; candidate <= NEWEST; candidate++) {
    for (const directory of toolDirectories(candidate)) {
      const path = join(directory, name)
      if (existsSync(path)) return path
    }
    if (!servesOlder(name, candidate + 1)) return undefined
  }
  return undefined
}

function toolDirectories(major: number): string[] {
  return [debianDirectory(major), unpackedDirectory(major), embeddedDirectory(major)]
}

/** pg_verifybackup reads manifests of version 1 up to 16; 17 added the system identifier. */
function servesOlder(name: string, major: number): boolean {
  return SERVES_OLDER.has(name) || (name === 'pg_verifybackup' && major <= 16)
}
