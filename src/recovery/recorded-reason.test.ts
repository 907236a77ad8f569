/** What the receiver recorded of a hole is told with it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type GapPlace, gapKey, type WalGap, writeGap } from '../archive/gap-record.ts'
import type { WalListing } from '../archive/list-wal.ts'
import { lsn } from '../postgres/lsn.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { readReason } from './recorded-reason.ts'

const SEGMENT = 16 * 1024 * 1024
const GAP: WalGap = {
  systemIdentifier: '7000',
  timeline: 1,
  from: lsn(BigInt(5 * SEGMENT)),
  to: lsn(BigInt(8 * SEGMENT)),
  foundAt: '2026-01-01T00:00:00.000Z',
  because: 'the slot was lost',
}
const KEY = gapKey('main', GAP)
const PLACE: GapPlace = { timeline: 1, from: GAP.from, to: GAP.to, key: KEY }
const ARCHIVE = { recordedGaps: [PLACE], walSegmentSizeBytes: SEGMENT } as unknown as WalListing

const hole = (first: number, last: number) => ({
  first: `0000000100000000${first.toString(16).toUpperCase().padStart(8, '0')}`,
  last: `0000000100000000${last.toString(16).toUpperCase().padStart(8, '0')}`,
})

test('of the hole that it lies in, and of no other', async () => {
  const storage = openMemoryStorage()
  await writeGap(storage, 'main', GAP)
  const told = await readReason(storage, ARCHIVE, hole(5, 7))
  assert.deepEqual([told?.because, told?.foundAt], [GAP.because, GAP.foundAt])
  assert.equal((await readReason(storage, ARCHIVE, hole(7, 9)))?.to, '0/8000000')
  assert.equal(await readReason(storage, ARCHIVE, hole(3, 4)), undefined)
  assert.equal(await readReason(storage, ARCHIVE, hole(8, 9)), undefined)
})

test('a damaged or vanished record leaves the hole without a reason', async () => {
  const storage = openMemoryStorage()
  assert.equal(await readReason(storage, ARCHIVE, hole(5, 7)), undefined)
  await storage.write(KEY, Buffer.alloc(100))
  assert.equal(await readReason(storage, ARCHIVE, hole(5, 7)), undefined)
})
