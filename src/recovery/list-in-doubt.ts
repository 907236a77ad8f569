/**
 * Transactions in doubt of a started server: prepared, and neither committed nor rolled
 * back up to the target. They hold their locks, and keep VACUUM from its work, until
 * somebody ends them.
 */
import { join } from 'node:path'
import { readFile } from 'node:fs/promises'
import { Failure } from '../base/failure.ts'
import { openServerSession } from '../postgres/server-session.ts'

export interface InDoubtTransaction {
  readonly gid: string
  readonly owner: string
  readonly database: string
  readonly preparedAt: string
  /** To be typed in that database. */
  readonly commit: string
  readonly rollback: string
}

interface Row extends Record<string, unknown> {
  readonly gid: string
  readonly owner: string
  readonly database: string
  readonly prepared: string
}

/** Undefined when the server does not let us in: its own rules may not. */
export async function listInDoubt(
  dataDirectory: string,
): Promise<readonly InDoubtTransaction[] | undefined> {
  const connection = await connectionOf(dataDirectory)
  if (connection === undefined) return undefined
  try {
    const session = await openServerSession({ connection, applicationName: 'tidemark restore' })
    try {
      const rows = await session.query<Row>(
        `SELECT gid, owner::text, database::text, prepared::text
           FROM pg_catalog.pg_prepared_xacts ORDER BY prepared, gid`,
      )
      return rows.map(describe)
    } finally {
      await session.close()
    }
  } catch (error) {
    if (error instanceof Failure) return undefined
    throw error
  }
}

function describe({ gid, owner, database, prepared }: Row): InDoubtTransaction {
  const literal = `'${gid.replaceAll("'", "''")}'`
  const commit = `COMMIT PREPARED ${literal};`
  const rollback = `ROLLBACK PREPARED ${literal};`
  return { gid, owner, database, preparedAt: prepared, commit, rollback }
}

/** Lines 4 and 5 of postmaster.pid: the port and the directory of the first socket. */
async function connectionOf(dataDirectory: string): Promise<string | undefined> {
  const lines = (await readFile(join(dataDirectory, 'postmaster.pid'), 'utf8')).split('\n')
  const [port, socketDirectory] = [lines[3]?.trim(), lines[4]?.trim()]
  if (port === undefined || socketDirectory === undefined || socketDirectory === '') {
    return undefined
  }
  const host = encodeURIComponent(socketDirectory)
  return `postgresql:///postgres?host=${host}&port=${port}&user=postgres`
}

export function adviseInDoubt(transactions: readonly InDoubtTransaction[]): string[] {
  if (transactions.length === 0) return []
  const many = transactions.length === 1 ? '1 transaction is' : `${transactions.length} are`
  return [
    `${many} prepared and in doubt; they hold their locks until each is ended, in its database:`,
    ...transactions.map(
      ({ database, owner, preparedAt, commit, rollback }) =>
        `  in ${database}, of ${owner}, prepared ${preparedAt}: ${commit} or ${rollback}`,
    ),
  ]
}
