/** Every field of the control file against what a running server of each major says. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SAMPLED_MAJORS, startPostgres } from '../../test/harness/postgres-server.ts'
import { type ControlFile, readControlFile } from './control-file.ts'
import { formatLsn } from './lsn.ts'
import { POSTGRES_VERSIONS } from './versions.ts'
import { parseWalPageHeader } from './wal-page.ts'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'

const QUERY = `
  SELECT c.*, s.*, i.*, r.*,
    extract(epoch FROM c.checkpoint_time)::bigint AS checkpoint_seconds,
    extract(epoch FROM s.pg_control_last_modified)::bigint AS modified_seconds
  FROM pg_control_checkpoint() c, pg_control_system() s, pg_control_init() i,
    pg_control_recovery() r`

const SETTINGS = {
  max_connections: '37',
  max_worker_processes: '11',
  max_wal_senders: '7',
  max_prepared_transactions: '5',
  max_locks_per_transaction: '71',
  track_commit_timestamp: 'on',
  wal_level: 'logical',
  wal_log_hints: 'on',
} as const

for (const major of SAMPLED_MAJORS) {
  test(`PostgreSQL ${major}: the control file says what the server says`, async () => {
    await using server = await startPostgres({
      major,
      embedded: true,
      settings: SETTINGS,
      walSegmentSizeMb: major % 2 === 0 ? 16 : 1,
    })
    await server.sql('CREATE TABLE t AS SELECT generate_series(1, 1000) AS n')
    await server.sql('CHECKPOINT')
    const [row] = await server.sql(QUERY)
    const { control } = await readControlFile(server.dataDirectory)
    assert.deepEqual(asServerSays(control), pick(row ?? {}))
    assert.equal(control.state, 'in production')
    assert.deepEqual(settingsOf(control), SETTINGS)
    const version = POSTGRES_VERSIONS.find((entry) => entry.major === major)
    assert.equal(control.catalogVersion, version?.catalogVersion)
    assert.equal(control.controlFileVersion, version?.controlFileVersion)
    assert.equal(await walPageMagic(server.dataDirectory), version?.walPageMagic)
    await server.stop()
    assert.equal((await readControlFile(server.dataDirectory)).control.state, 'shut down')
  })
}

/** The row's fields as text, those that the control file's parser serves. */
function pick(row: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(FIELDS.map((name) => [name, String(row[name])]))
}

const FIELDS = [
  'checkpoint_lsn',
  'redo_lsn',
  'timeline_id',
  'prev_timeline_id',
  'full_page_writes',
  'next_xid',
  'next_oid',
  'next_multixact_id',
  'next_multi_offset',
  'oldest_xid',
  'oldest_xid_dbid',
  'oldest_active_xid',
  'oldest_multi_xid',
  'oldest_multi_dbid',
  'oldest_commit_ts_xid',
  'newest_commit_ts_xid',
  'checkpoint_seconds',
  'pg_control_version',
  'catalog_version_no',
  'system_identifier',
  'modified_seconds',
  'max_data_alignment',
  'database_block_size',
  'blocks_per_segment',
  'wal_block_size',
  'bytes_per_wal_segment',
  'data_page_checksum_version',
  'min_recovery_end_lsn',
  'min_recovery_end_timeline',
  'backup_start_lsn',
  'backup_end_lsn',
  'end_of_backup_record_required',
] as const

function asServerSays(control: ControlFile): Record<string, string> {
  const { checkpoint } = control
  const epoch = checkpoint.nextXid >> 32n
  const values: Record<(typeof FIELDS)[number], unknown> = {
    checkpoint_lsn: formatLsn(control.checkpointLsn),
    redo_lsn: formatLsn(checkpoint.redoLsn),
    timeline_id: checkpoint.timeline,
    prev_timeline_id: checkpoint.previousTimeline,
    full_page_writes: checkpoint.fullPageWrites,
    next_xid: `${epoch}:${checkpoint.nextXid & 0xffffffffn}`,
    next_oid: checkpoint.nextOid,
    next_multixact_id: checkpoint.nextMultiXact,
    next_multi_offset: checkpoint.nextMultiOffset,
    oldest_xid: checkpoint.oldestXid,
    oldest_xid_dbid: checkpoint.oldestXidDatabase,
    oldest_active_xid: checkpoint.oldestActiveXid,
    oldest_multi_xid: checkpoint.oldestMultiXact,
    oldest_multi_dbid: checkpoint.oldestMultiXactDatabase,
    oldest_commit_ts_xid: checkpoint.oldestCommitTimestampXid,
    newest_commit_ts_xid: checkpoint.newestCommitTimestampXid,
    checkpoint_seconds: checkpoint.time.getTime() / 1000,
    pg_control_version: control.controlFileVersion,
    catalog_version_no: control.catalogVersion,
    system_identifier: control.systemIdentifier,
    modified_seconds: control.modifiedAt.getTime() / 1000,
    max_data_alignment: control.maxAlign,
    database_block_size: control.blockSizeBytes,
    blocks_per_segment: control.relationSegmentBlocks,
    wal_block_size: control.walBlockSizeBytes,
    bytes_per_wal_segment: control.walSegmentSizeBytes,
    data_page_checksum_version: control.dataChecksumVersion,
    min_recovery_end_lsn: formatLsn(control.minRecoveryLsn),
    min_recovery_end_timeline: control.minRecoveryTimeline,
    backup_start_lsn: formatLsn(control.backupStartLsn),
    backup_end_lsn: formatLsn(control.backupEndLsn),
    end_of_backup_record_required: control.isBackupEndRequired,
  }
  return Object.fromEntries(FIELDS.map((name) => [name, String(values[name])]))
}

function settingsOf(control: ControlFile): Record<string, string> {
  return {
    max_connections: String(control.maxConnections),
    max_worker_processes: String(control.maxWorkerProcesses),
    max_wal_senders: String(control.maxWalSenders),
    max_prepared_transactions: String(control.maxPreparedTransactions),
    max_locks_per_transaction: String(control.maxLocksPerTransaction),
    track_commit_timestamp: control.trackCommitTimestamp ? 'on' : 'off',
    wal_level: control.walLevel,
    wal_log_hints: control.walLogHints ? 'on' : 'off',
  }
}

async function walPageMagic(dataDirectory: string): Promise<number> {
  const names = await readdir(join(dataDirectory, 'pg_wal'))
  const segment = names.find((name) => /^[0-9A-F]{24}$/.test(name))
  const file = await open(join(dataDirectory, 'pg_wal', segment as string))
  const bytes = Buffer.alloc(64)
  await file.read(bytes, 0, 64, 0)
  await file.close()
  assert.ok(parseWalPageHeader(bytes) !== undefined)
  return bytes.readUInt16LE(0)
}
