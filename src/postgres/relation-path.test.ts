import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  formatRelationName,
  isTemporaryRelationName,
  parseRelationName,
  parseRelationPath,
  type RelationFork,
} from './relation-path.ts'

test('paths of relation forks', () => {
  const base = { tablespaceOid: 1663, databaseOid: 5, fork: 'main', segment: 0 }
  assert.deepEqual(parseRelationPath('base/5/16384'), { ...base, filenode: 16384 })
  assert.deepEqual(parseRelationPath('base/5/1259_fsm'), { ...base, filenode: 1259, fork: 'fsm' })
  assert.deepEqual(parseRelationPath('base/5/16384_vm.3'), {
    ...base,
    filenode: 16384,
    fork: 'vm',
    segment: 3,
  })
  assert.deepEqual(parseRelationPath('global/1262'), {
    ...base,
    tablespaceOid: 1664,
    databaseOid: 0,
    filenode: 1262,
  })
  assert.deepEqual(parseRelationPath('pg_tblspc/16400/PG_15_202209061/5/16401_init'), {
    ...base,
    tablespaceOid: 16400,
    filenode: 16401,
    fork: 'init',
  })
  assert.equal(parseRelationPath('base/5/4294967295')?.filenode, 4294967295)
})

test('paths of everything else', () => {
  const others = [
    'base/5/PG_VERSION',
    'base/5/pg_filenode.map',
    'base/5/t3_16390',
    'base/5/4294967296',
    'base/5/0123',
    'base/5/16384.0',
    'base/5/16384.01',
    'base/5/16384_foo',
    'base/5/16384_vm_fsm',
    'base/5/sub/16384',
    'base/pgsql_tmp/16384',
    '16384',
    'pg_xact/0000',
    'pg_multixact/members/0000',
    'global/pg_control',
    'global/5/1262',
    'pg_tblspc/16400/5/16401',
    'pg_tblspc/16400/PG_15_1/16401',
    'pg_tblspc/16400/PG_15_202209061/pgsql_tmp/1',
    'base/5/',
    '',
    'base/5/16384\n',
    '/base/5/16384',
  ]
  for (const path of others) assert.equal(parseRelationPath(path), undefined, path)
})

test('temporary relations', () => {
  for (const name of ['t3_16390', 't3_16390_fsm', 't12_99_vm.1', 't0_1.2']) {
    assert.ok(isTemporaryRelationName(name), name)
  }
  for (const name of ['16390', 't_16390', 't3_', 't3_16390_foo', 'xt3_1', 't3_1.', 'pgsql_tmp1']) {
    assert.ok(!isTemporaryRelationName(name), name)
  }
})

test('names survive formatting and parsing', () => {
  const forks: RelationFork[] = ['main', 'fsm', 'vm', 'init']
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 0xffffffff }),
      fc.constantFrom(...forks),
      fc.nat(40000),
      (filenode, fork, segment) => {
        const name = { filenode, fork, segment }
        assert.deepEqual(parseRelationName(formatRelationName(name)), name)
      },
    ),
  )
})
