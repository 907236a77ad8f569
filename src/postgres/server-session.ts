/** Provisional: replaced by the engineer who owns src/postgres (keep these names). */
import pg from 'pg'

export interface ServerSession {
  readonly versionNum: number
  readonly versionText: string
  readonly systemIdentifier: bigint
  readonly postmasterStartTime: Date
  readonly inRecovery: boolean
  query(text: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>
  close(): Promise<void>
}

export async function openServerSession(options: {
  connection: string
  applicationName: string
}): Promise<ServerSession> {
  const client = new pg.Client({
    connectionString: options.connection,
    application_name: options.applicationName,
  })
  client.on('error', () => undefined)
  await client.connect()
  const query = async (text: string, values: readonly unknown[] = []) =>
    (await client.query(text, [...values])).rows as Record<string, unknown>[]
  const [row] = await query(`SELECT current_setting('server_version_num')::int AS num,
    current_setting('server_version') AS text, pg_postmaster_start_time() AS started,
    pg_is_in_recovery() AS standby, (SELECT system_identifier::text FROM pg_control_system()) AS id`)
  return {
    versionNum: Number(row?.['num']),
    versionText: String(row?.['text']),
    systemIdentifier: BigInt(String(row?.['id'])),
    postmasterStartTime: row?.['started'] as Date,
    inRecovery: row?.['standby'] === true,
    query,
    close: () => client.end(),
  }
}
