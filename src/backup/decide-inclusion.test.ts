import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeVersion } from '../postgres/versions.ts'
import { decideInclusion, type Inclusion } from './decide-inclusion.ts'

function decide(path: string, siblings: readonly string[] = [], versionNum = 170000): Inclusion {
  const { exclusions } = describeVersion(versionNum)
  const rules = { ...exclusions, tablespaceVersionDirectory: 'PG_17_202406281' }
  return decideInclusion(path, new Set(siblings), rules)
}

test('what describes the running server or this directory is left out', () => {
  for (const path of [
    'postmaster.pid',
    'postmaster.opts',
    'backup_label',
    'global/pg_control',
    'global/pg_internal.init',
    'base/5/pg_internal.init.123',
    'base/pgsql_tmp',
    'pg_wal/000000010000000000000001',
    'pg_replslot/slot',
    'tidemark.restored',
    'standby.signal',
    'recovery.signal',
    'lost+found',
  ]) {
    assert.equal(decide(path), 'leave-out', path)
  }
})

test('directories whose content is left out stay as directories', () => {
  for (const path of ['pg_replslot', 'pg_stat_tmp', 'pg_wal/archive_status', 'pg_wal/summaries']) {
    assert.equal(decide(path), 'directory-only', path)
  }
  assert.equal(decide('pg_wal/summaries', [], 160000), 'leave-out')
})

test('of unlogged relations only the init fork is taken, of temporary ones nothing', () => {
  const siblings = ['16384', '16384_init', '16384.1', '16384_vm', '16385']
  for (const name of ['16384', '16384.1', '16384_vm']) {
    assert.equal(decide(`base/5/${name}`, siblings), 'leave-out', name)
  }
  assert.equal(decide('base/5/16384_init', siblings), 'take')
  assert.equal(decide('base/5/16385', siblings), 'take')
  assert.equal(decide('base/5/t3_16386', siblings), 'leave-out')
  assert.equal(decide('pg_tblspc/9/PG_17_202406281/5/t3_16386_vm', siblings), 'leave-out')
})

test('everything else is taken, known or not', () => {
  for (const path of ['PG_VERSION', 'pg_xact/0000', 'global/1262', 'notes.txt', 'base/5/t3_x']) {
    assert.equal(decide(path), 'take', path)
  }
})
