/**
 * The WAL of a test's server in an archive in memory: what `wal push` would have stored.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pushWalFile } from '../../src/archive/push-wal.ts'
import { parseWalFileName } from '../../src/archive/wal-file-name.ts'
import { ensureSystemIdentity } from '../../src/repository/system-identity.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import type { PostgresServer } from './postgres-server.ts'

export interface ArchivedWal {
  readonly storage: Storage
  readonly cluster: 'main'
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  /** Switches the segment, and archives every whole one that is not archived yet. */
  push(): Promise<string[]>
}

/** The server must keep its segments (wal_keep_size). */
export async function archiveWalOf(
  server: PostgresServer,
  storage: Storage = openMemoryStorage(),
): Promise<ArchivedWal> {
  const [row] = await server.sql(`
    SELECT system_identifier::text AS id,
           (SELECT setting::int8 * CASE unit WHEN 'B' THEN 1 ELSE 8192 END
              FROM pg_settings WHERE name = 'wal_segment_size')::text AS size
      FROM pg_control_system()`)
  const systemIdentifier = String(row?.['id'])
  const walSegmentSizeBytes = Number(row?.['size'])
  const { major } = server
  const identity = { systemIdentifier, major, walSegmentSizeBytes, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  const pushed = new Set<string>()
  const push = async (): Promise<string[]> => {
    const [last] = await server.sql(
      'SELECT pg_switch_wal(), pg_walfile_name(pg_current_wal_insert_lsn()) AS name',
    )
    const directory = join(server.dataDirectory, 'pg_wal')
    const names = (await readdir(directory))
      .filter((name) => parseWalFileName(name)?.kind === 'segment' && name < currentName(last))
      .filter((name) => !pushed.has(name))
      .sort()
    for (const name of names) {
      await pushWalFile({ storages: [storage], cluster: 'main', path: join(directory, name) })
      pushed.add(name)
    }
    return names
  }
  return { storage, cluster: 'main', systemIdentifier, walSegmentSizeBytes, push }
}

function currentName(row: Record<string, unknown> | undefined): string {
  return String(row?.['name'])
}
