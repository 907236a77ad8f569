/** Standbys of test servers, by streaming. */
import { writeFileSync } from 'node:fs'
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openServerOn, type PostgresServer, type Settings } from './postgres-server.ts'
import { temporaryDirectory } from './temporary-directory.ts'

/** A standby of `primary`, taken by pg_basebackup, that streams from it. */
export async function startStandby(
  primary: PostgresServer,
  settings: Settings = {},
): Promise<PostgresServer> {
  const directory = join(temporaryDirectory(primary.runAs), 'standby')
  await primary.tool('pg_basebackup', ['-D', directory, '-X', 'stream', '-c', 'fast'])
  const source = `host=${primary.socketDirectory} port=${primary.port} user=${primary.user}`
  await appendFile(join(directory, 'postgresql.conf'), `\nprimary_conninfo = '${source}'\n`)
  writeFileSync(join(directory, 'standby.signal'), '')
  return await openServerOn(directory, { major: primary.major, settings })
}

/** Fulfilled when the standby has replayed what its primary has flushed now. */
export async function waitForReplay(
  primary: PostgresServer,
  standby: PostgresServer,
): Promise<void> {
  const [row] = await primary.sql<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn')
  for (;;) {
    const [seen] = await standby.sql<{ is: boolean }>(
      `SELECT pg_last_wal_replay_lsn() >= '${row?.lsn}' AS is`,
    )
    if (seen?.is === true) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Ends recovery; fulfilled when the server takes writes. */
export async function promote(standby: PostgresServer): Promise<void> {
  await standby.sql('SELECT pg_promote(true)')
}
