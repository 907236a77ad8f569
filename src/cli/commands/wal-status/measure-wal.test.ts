import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lsn } from '../../../postgres/lsn.ts'
import { judgeSlots } from './judge-wal.ts'
import { measureLag, measureRate } from './measure-wal.ts'
import type { SlotState } from './read-wal-server.ts'

const at = (position: number, seconds: number) => ({
  lsn: lsn(BigInt(position)),
  atMs: seconds * 1000,
})

test('the rate is that between the oldest and the newest point', () => {
  const points = [at(7000, 30), undefined, at(1000, 10), at(3000, 20)]
  assert.deepEqual(measureRate(points), { bytesPerSecond: 300, seconds: 20 })
  assert.equal(measureRate([at(1000, 10)]), undefined)
  assert.equal(measureRate([at(1000, 10), { lsn: lsn(2000n), atMs: 10_400 }]), undefined)
  // Another timeline, or a clock that was set: no rate is better than a wrong one.
  assert.equal(measureRate([at(5000, 10), at(1000, 20)]), undefined)
})

test('the lag: what the server has written beyond, and the age of what is there', () => {
  const archived = at(1000, 10)
  assert.deepEqual(measureLag(archived, at(1500, 40)), { bytes: 500, seconds: 30 })
  assert.deepEqual(measureLag(archived, at(1000, 40)), { bytes: 0, seconds: 0 })
  // The archive may be ahead of what an asynchronous question saw.
  assert.deepEqual(measureLag(archived, at(900, 40)), { bytes: 0, seconds: 0 })
  const unreachable = { lsn: undefined, atMs: 40_000 }
  assert.deepEqual(measureLag(archived, unreachable), { bytes: undefined, seconds: 30 })
  assert.deepEqual(measureLag(undefined, at(900, 40)), { bytes: undefined, seconds: undefined })
})

function slot(name: string, state: Partial<SlotState>): SlotState {
  return {
    name,
    kind: 'physical',
    isActive: true,
    flushLagSeconds: null,
    restartLsn: '0/3000000',
    keptBytes: 4096,
    walStatus: 'reserved',
    safeWalBytes: null,
    ...state,
  }
}

test('a lost slot is a problem when it is ours, and a warning when it is not', () => {
  const lost = { walStatus: 'lost', isActive: false, restartLsn: null, keptBytes: null }
  const found = judgeSlots([slot('ours', lost), slot('theirs', lost), slot('good', {})], 'ours')
  assert.deepEqual(
    found.map(({ result, detail }) => [result, detail.split(':')[0]]),
    [
      ['problem', 'slot ours was lost'],
      ['warning', 'slot theirs was lost'],
    ],
  )
})

test('a slot that nobody reads from is told of when it keeps much', () => {
  const idle = { isActive: false, keptBytes: 3 * 1024 ** 3 }
  const [told] = judgeSlots([slot('old', idle)], undefined)
  assert.match(told?.detail ?? '', /keeps 3.00 GiB of WAL and nobody reads from it, and no limit/)
  assert.deepEqual(judgeSlots([slot('old', { ...idle, isActive: true })], undefined), [])
  assert.deepEqual(judgeSlots([slot('new', { isActive: false })], undefined), [])
  const [danger] = judgeSlots([slot('late', { walStatus: 'unreserved' })], 'late')
  assert.equal(danger?.result, 'problem')
})
