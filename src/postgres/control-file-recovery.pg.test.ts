/**
 * The recovery fields of the control file, which are zero on a primary: a copy that waits
 * for the end of its backup, against pg_controldata of the same version.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chownSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import {
  SAMPLED_MAJORS,
  openServerOn,
  type PostgresServer,
  startPostgres,
} from '../../test/harness/postgres-server.ts'
import { runChecked } from '../../test/harness/run-program.ts'
import { sleep } from '../base/clock.ts'
import { type ControlFile, readControlFile } from './control-file.ts'
import { formatLsn } from './lsn.ts'
import { openServerSession } from './server-session.ts'

for (const major of SAMPLED_MAJORS) {
  const tool = findTool('pg_controldata', major)
  const skip = tool === undefined && `no pg_controldata for PostgreSQL ${major} here`
  test(`PostgreSQL ${major}: recovery fields as pg_controldata has them`, { skip }, async () => {
    await using server = await startPostgres({ major, embedded: true })
    const copy = join(server.socketDirectory, 'copy')
    await copyInBackupMode(server, copy)
    await using standby = await openServerOn(copy, { major, embedded: true, wait: 'none' })
    const control = await untilBackupBegins(copy)
    const { stdout } = await runChecked(tool ?? '', ['-D', standby.dataDirectory], {
      env: { LC_ALL: 'C' },
    })
    assert.notEqual(control.minRecoveryLsn, 0n)
    const fields = ours(control)
    assert.deepEqual(fields, theirs(stdout, Object.keys(fields)))
  })
}

/** The copy has the WAL of the backup's start, but not of its end. */
async function copyInBackupMode(server: PostgresServer, copy: string): Promise<void> {
  const session = await openServerSession({ connection: server.url(), applicationName: 'test' })
  const { start, stop } = session.facts.version.backupStatements
  await session.query(start, ['a label', true])
  execFileSync('cp', ['-a', server.dataDirectory, copy])
  await server.sql('CREATE TABLE t (n int)')
  await server.sql('SELECT pg_switch_wal()')
  await server.sql('CREATE TABLE u (n int)')
  const [row] = await session.query<{ labelfile: string }>(stop, [false])
  await session.close()
  for (const name of ['postmaster.pid', 'postmaster.opts']) rmSync(join(copy, name))
  writeFileSync(join(copy, 'backup_label'), row?.labelfile ?? '')
  writeFileSync(join(copy, 'standby.signal'), '')
  const owner = server.runAs
  for (const name of owner === undefined ? [] : ['backup_label', 'standby.signal']) {
    chownSync(join(copy, name), owner?.uid ?? 0, owner?.gid ?? 0)
  }
  assert.ok(readdirSync(join(copy, 'pg_wal')).some((name) => /^[0-9A-F]{24}$/.test(name)))
}

async function untilBackupBegins(dataDirectory: string): Promise<ControlFile> {
  for (let round = 0; round < 1000; round++) {
    const { control } = await readControlFile(dataDirectory)
    if (control.backupStartLsn !== 0n) return control
    await sleep(20)
  }
  return assert.fail('the copy did not begin its recovery')
}

function ours(control: ControlFile): Record<string, string> {
  return {
    'Database cluster state': control.state,
    'Minimum recovery ending location': formatLsn(control.minRecoveryLsn),
    "Min recovery ending loc's timeline": String(control.minRecoveryTimeline),
    'Backup start location': formatLsn(control.backupStartLsn),
    'Backup end location': formatLsn(control.backupEndLsn),
    'End-of-backup record required': control.isBackupEndRequired ? 'yes' : 'no',
    'Latest checkpoint location': formatLsn(control.checkpointLsn),
    "Latest checkpoint's REDO location": formatLsn(control.checkpoint.redoLsn),
  }
}

function theirs(text: string, names: readonly string[]): Record<string, string> {
  const lines = new Map(text.split('\n').map((line) => line.split(/: +/, 2) as [string, string]))
  return Object.fromEntries(names.map((name) => [name, lines.get(name) ?? 'no such line']))
}
