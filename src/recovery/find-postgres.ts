/** Where the server's programs are: Debian's, the PostgreSQL project's RPMs', self-built. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface PostgresPrograms {
  readonly candidates: readonly string[]
  /** The first candidate with pg_ctl and postgres in it. */
  readonly directory: string | undefined
}

/** `pgBin` alone is looked at where it is given. */
export async function findPostgresPrograms(
  major: number,
  pgBin: string | undefined,
): Promise<PostgresPrograms> {
  const candidates =
    pgBin === undefined
      ? [`/usr/lib/postgresql/${major}/bin`, `/usr/pgsql-${major}/bin`, '/usr/local/pgsql/bin']
      : [pgBin]
  for (const directory of candidates) {
    const programs = ['pg_ctl', 'postgres'].map((name) => isThere(join(directory, name)))
    if ((await Promise.all(programs)).every(Boolean)) return { candidates, directory }
  }
  return { candidates, directory: undefined }
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}
