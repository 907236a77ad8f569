import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { lsn } from '../postgres/lsn.ts'
import { describeVersion } from '../postgres/versions.ts'
import {
  formatCopyConfiguration,
  formatRecoverySettings,
  formatRestoreCommand,
  type RecoverySettings,
  requiredMaxima,
} from './format-recovery-settings.ts'

const MAXIMA = {
  max_connections: 100,
  max_worker_processes: 8,
  max_wal_senders: 10,
  max_prepared_transactions: 0,
  max_locks_per_transaction: 64,
}

const ORIGINAL = Object.fromEntries(Object.entries(MAXIMA).map(([k, v]) => [k, String(v)]))

function recovery(changes: Partial<RecoverySettings> = {}): string {
  return formatRecoverySettings({
    names: describeVersion(150000).settings,
    stop: { kind: 'lsn', lsn: lsn(0x3000060n), inclusive: false },
    timeline: 3,
    action: 'promote',
    walGet: '/opt/tidemark wal get',
    inWalDirectory: [],
    maxima: MAXIMA,
    original: { ...ORIGINAL, max_connections: '40' },
    mayFaultFollow: false,
    takeOver: false,
    ...changes,
  })
}

test('only a proved absence becomes what PostgreSQL takes for the end of WAL', () => {
  for (const [given, mapped] of [
    [0, 0],
    [44, 1],
    [1, 255],
    [2, 255],
    [126, 255],
    [127, 255],
    [255, 255],
  ]) {
    const command = formatRestoreCommand(`sh -c 'exit ${given}'`)
    const { status } = spawnSync('sh', ['-c', command.replace('%f', 'F').replace('%p', 'P')])
    assert.equal(status, mapped, `exit ${given}`)
  }
  const killed = formatRestoreCommand(`sh -c 'kill -9 $$'`)
  assert.equal(spawnSync('sh', ['-c', killed]).status, 255)
})

test('paths survive the quoting of the shell, of PostgreSQL and of its configuration', () => {
  const text = recovery({ walGet: `'/o'\\''pt/100% a\\b' wal get` })
  const line = text.split('\n').find((one) => one.startsWith('restore_command')) ?? ''
  assert.match(line, /100%% a\\\\b/)
  assert.match(line, /''\/o''\\\\''''pt/)
})

test('one target, and every other emptied before it', () => {
  const lines = recovery().split('\n')
  const index = (name: string): number => lines.findIndex((line) => line.startsWith(`${name} = `))
  assert.equal(lines[index('recovery_target_lsn')], `recovery_target_lsn = '0/3000060'`)
  assert.equal(lines[index('recovery_target_inclusive')], `recovery_target_inclusive = 'off'`)
  assert.equal(lines[index('recovery_target_timeline')], `recovery_target_timeline = '3'`)
  for (const kind of ['recovery_target', 'recovery_target_time', 'recovery_target_xid']) {
    assert.equal(lines[index(kind)], `${kind} = ''`)
    assert.ok(index(kind) < index('recovery_target_lsn'), kind)
  }
  assert.match(recovery({ stop: { kind: 'immediate' } }), /recovery_target = 'immediate'/)
})

test('hot standby is on to pause, and is left to the original with take-over', () => {
  assert.match(recovery(), /hot_standby = 'off'/)
  assert.match(recovery({ action: 'pause' }), /hot_standby = 'on'/)
  const takeOver = recovery({ takeOver: true })
  assert.doesNotMatch(takeOver, /hot_standby/)
  assert.match(takeOver, /max_connections = '100'/)
  assert.doesNotMatch(takeOver, /max_wal_senders/)
})

test('the required maxima take every change in the WAL into account', () => {
  const control = {
    maxConnections: 100,
    maxWorkerProcesses: 8,
    maxWalSenders: 10,
    maxPreparedTransactions: 0,
    maxLocksPerTransaction: 64,
  }
  const change = {
    ...control,
    kind: 'parameter-change' as const,
    maxConnections: 500,
    walLevel: 'replica' as const,
    walLogHints: false,
    trackCommitTimestamp: false,
  }
  const settings = { max_prepared_transactions: '7', max_connections: '40' }
  assert.deepEqual(requiredMaxima(control, settings, [change]), {
    ...MAXIMA,
    max_connections: 500,
    max_prepared_transactions: 7,
  })
})

test('a copy neither archives, nor listens, nor runs what the original runs', () => {
  for (const major of [13, 15, 17, 18]) {
    const { settings } = describeVersion(major * 10000)
    const text = formatCopyConfiguration({
      names: settings,
      maxima: MAXIMA,
      original: { shared_preload_libraries: 'pg_cron', max_replication_slots: '20' },
      port: 5433,
      socketDirectory: '/data/copy',
      walSegmentSizeBytes: 64 * 1024 * 1024,
      hasInPlaceTablespaces: false,
      preload: '',
    })
    for (const line of [
      `archive_mode = 'off'`,
      `archive_command = ''`,
      `listen_addresses = ''`,
      `max_logical_replication_workers = '0'`,
      `shared_preload_libraries = ''`,
      `min_wal_size = '320MB'`,
      `${settings.replicationOrigins} = '20'`,
    ]) {
      assert.ok(text.includes(`${line}\n`), `${major}: ${line}`)
    }
    assert.equal(text.includes(`archive_library = ''`), major >= 15)
    assert.equal(text.includes(`event_triggers = 'off'`), major >= 17)
  }
})
