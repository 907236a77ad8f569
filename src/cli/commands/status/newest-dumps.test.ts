import assert from 'node:assert/strict'
import { test } from 'node:test'
import { handMadeDumpRecord } from '../../../../test/harness/hand-made-dump.ts'
import { chooseNewestDumps } from './newest-dumps.ts'

test('of each set of databases the newest dump by the server counts', () => {
  const app = handMadeDumpRecord(3)
  const [database] = app.databases
  assert.ok(database !== undefined)
  const other = { ...database, name: 'other' }
  const newer = handMadeDumpRecord(1, [1], { databases: [other, database] })
  const older = handMadeDumpRecord(2, [2], {
    databases: [database, other].map((one) => ({ ...one, at: '2026-11-02T00:00:00Z' })),
  })
  const ids = chooseNewestDumps([app, handMadeDumpRecord(0), older, newer]).map(({ id }) => id)
  assert.deepEqual(new Set(ids), new Set([app.id, newer.id]))
})
