/** A server whose clock was ahead once. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DumpFacts, type ListedDump, planDumpExpiration } from './plan-dump-expiration.ts'

const DAY = 24 * 3600 * 1000
const NOW = 100 * DAY

function dump(number: number, atMs: number, more: Partial<ListedDump> = {}): ListedDump {
  const id = `20260101-00000${number}-aaaa`
  const key = `clusters/main/dumps/${id}.dump`
  const what = { kind: 'app', databases: ['app'], isPinned: false, isIncomplete: false }
  const system = { systemIdentifier: '7000000000000000001', lsn: BigInt(number) }
  const packs = [`${number}`.repeat(32)]
  return { id, key, ...what, ...system, atMs, startedMs: atMs, packs, ...more }
}

function expireOf(dumps: readonly ListedDump[], keepLast: number): string {
  const facts: DumpFacts = {
    dumps,
    unreadableRecords: [],
    holds: [],
    unreadableHolds: [],
    condemnedElsewhere: new Set(),
    takenOver: [],
    packs: [],
    marks: [],
  }
  const { expire } = planDumpExpiration(facts, { policy: { keepLast, keepDays: 0 }, nowMs: NOW })
  return expire.map(({ id }) => id[14]).join('')
}

test('the dump that was taken last stays, also when an older one claims a later time', () => {
  // 0 was taken while the clocks were a year ahead; the others came after it.
  const ahead = dump(0, NOW + 365 * DAY)
  const dumps = [ahead, dump(1, NOW - 3 * DAY), dump(2, NOW - 2 * DAY), dump(3, NOW - DAY)]
  assert.equal(expireOf(dumps, 1), '12')
  assert.equal(expireOf(dumps, 2), '1')
  // Without a rule but the newest, too.
  assert.equal(expireOf(dumps, 0), '12')
  // The server's clock alone was ahead.
  assert.equal(expireOf([{ ...ahead, startedMs: NOW - 4 * DAY }, ...dumps.slice(1)], 1), '012')
})

test('after a recovery to an earlier moment the dump that was taken last stays', () => {
  const dumps = [dump(0, NOW - 3 * DAY, { lsn: 90n }), dump(1, NOW - 2 * DAY), dump(2, NOW - DAY)]
  assert.equal(expireOf(dumps, 1), '1')
})

test('positions of another system are compared with none', () => {
  const other = { systemIdentifier: '7000000000000000002' }
  const ahead = dump(0, NOW + 365 * DAY, { lsn: 90n })
  assert.equal(expireOf([ahead, dump(1, NOW - DAY, other), dump(2, NOW, other)], 1), '1')
  // Globals alone have no position.
  assert.equal(expireOf([dump(0, NOW - DAY), dump(1, NOW, { lsn: undefined })], 1), '')
})
