/**
 * Where programs of PostgreSQL are installed: Debian's, the PostgreSQL project's RPMs',
 * self-built ones. What lies there is judged by who asks.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

const SELF_BUILT = '/usr/local/pgsql/bin'

/** Of one major; a self-built one may be of any. */
export function programDirectories(major: number): string[] {
  return [`/usr/lib/postgresql/${major}/bin`, `/usr/pgsql-${major}/bin`, SELF_BUILT]
}

/** Of all majors that are installed. */
export async function listProgramDirectories(): Promise<string[]> {
  const debian = await listMajors('/usr/lib/postgresql', /^\d+$/)
  const rpm = await listMajors('/usr', /^pgsql-\d+$/)
  return [...debian, ...rpm, SELF_BUILT]
}

async function listMajors(parent: string, name: RegExp): Promise<string[]> {
  // Only a place to look at is lost: absent, or not for us to read.
  const names = await readdir(parent).catch(() => [])
  return names
    .filter((one) => name.test(one))
    .sort()
    .map((one) => join(parent, one, 'bin'))
}

export async function isProgramThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}
