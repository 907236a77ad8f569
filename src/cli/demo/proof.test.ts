import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Evidence, judgeEvidence } from './proof.ts'

const balance = {
  branches: '70',
  tellers: '70',
  accounts: '70',
  history: '70',
  transactions: 1200,
  newest: new Date('2026-01-01T00:00:01.000Z'),
}
const living = { startedAt: 'then', timeline: 1, customers: null, failedPushes: 0 }

const evidence: Evidence = {
  customersBefore: { count: 5, checksum: 'aa' },
  customersInCopy: { count: 5, checksum: 'aa' },
  copy: balance,
  living: { ...balance, transactions: 1500 },
  livingBefore: living,
  livingAfter: living,
  acknowledged: 1195,
  droppedAt: new Date('2026-01-01T00:00:01.007Z'),
}

const broken = (change: Partial<Evidence>): string[] =>
  judgeEvidence({ ...evidence, ...change })
    .filter(({ holds }) => !holds)
    .map(({ name }) => name)

test('all claims hold for what should be seen', () => {
  assert.deepEqual(broken({}), [])
  const texts = judgeEvidence(evidence).map(({ text }) => text)
  assert.match(texts[2] ?? '', /1,200 transfers.* 7 ms older.* 1,195/)
  assert.match(texts[3] ?? '', /300 more transfers/)
})

test('each claim fails for what would break it', () => {
  const table = ['tableIsBack']
  assert.deepEqual(broken({ customersInCopy: { count: 4, checksum: 'aa' } }), table)
  assert.deepEqual(broken({ customersInCopy: { count: 5, checksum: 'ab' } }), table)
  const torn = { ...balance, accounts: '71' }
  assert.deepEqual(broken({ copy: torn }), ['balanceHolds'])
  const moment = ['momentIsRight']
  assert.deepEqual(broken({ acknowledged: 1201 }), moment)
  assert.deepEqual(broken({ droppedAt: new Date('2026-01-01T00:00:00.999Z') }), moment)
  const disturbed = ['livingServerUntouched']
  assert.deepEqual(broken({ livingAfter: { ...living, startedAt: 'now' } }), disturbed)
  assert.deepEqual(broken({ livingAfter: { ...living, timeline: 2 } }), disturbed)
  assert.deepEqual(broken({ livingAfter: { ...living, failedPushes: 1 } }), disturbed)
  assert.deepEqual(broken({ livingAfter: { ...living, customers: 'customers' } }), disturbed)
  assert.deepEqual(broken({ living: balance }), disturbed, 'no work went on')
  assert.deepEqual(broken({ living: { ...balance, ...torn, transactions: 1500 } }), disturbed)
})
