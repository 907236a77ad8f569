/** Where the server's programs are: Debian's, the PostgreSQL project's RPMs', self-built. */
import { join } from 'node:path'
import { isProgramThere, programDirectories } from '../postgres/program-directories.ts'

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
  const candidates = pgBin === undefined ? programDirectories(major) : [pgBin]
  for (const directory of candidates) {
    const programs = ['pg_ctl', 'postgres'].map((name) => isProgramThere(join(directory, name)))
    if ((await Promise.all(programs)).every(Boolean)) return { candidates, directory }
  }
  return { candidates, directory: undefined }
}
