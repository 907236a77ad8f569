/** The marks of breaks: which records make one, and that no index is stored without them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachCrashPoint } from '../../test/harness/faulty-storage.ts'
import { INDEXED, indexedKey, indexedName } from '../../test/harness/indexed-wal.ts'
import { MB } from '../../test/harness/wal-builder.ts'
import { breakKey, type WalBreak } from '../archive/break-mark.ts'
import { lsn } from '../postgres/lsn.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { findBreaks } from './find-breaks.ts'
import type { SegmentIndex } from './segment-index.ts'
import { storeDerived } from './store-derived.ts'

const NO_EDGES = { walSegmentSizeBytes: MB, head: undefined, rest: undefined }
const PARAMETERS = { kind: 'parameters', walLevel: 'minimal' }
const FIRST = { kind: 'checkpoint', isFirst: true }
const OFF = { kind: 'full-page-writes', on: false }

function breaksOf(segment: number, contents: readonly object[]): string[] {
  const others = contents.map((content, n) => ({ offset: 40 + n, xid: 0, content }))
  const segmentStart = lsn(BigInt(segment * MB))
  const header = { timeline: 3, segmentStart, walSegmentSizeBytes: MB }
  const found = findBreaks({ header, events: { others } } as unknown as SegmentIndex)
  for (const { timeline } of found) assert.equal(timeline, 3)
  return found.map(({ kind, lsn: at }) => `${kind} ${at - segmentStart}`)
}

test('every change to wal_level=minimal, every reset, and the first full_page_writes=off', () => {
  const replica = { ...PARAMETERS, walLevel: 'replica' }
  const others = [FIRST, replica, PARAMETERS, { ...FIRST, isFirst: false }, PARAMETERS, OFF, OFF]
  const expected = ['reset 40', 'minimal 42', 'minimal 44', 'fpw-off 45']
  assert.deepEqual(breaksOf(7, others), expected)
  assert.deepEqual(breaksOf(7, [{ ...OFF, on: true }, { kind: 'switch' }]), [])
})

test('initdb begins the first segment, and resets nothing', () => {
  assert.deepEqual(breaksOf(1, [FIRST]), [])
  assert.deepEqual(breaksOf(2, [FIRST]), ['reset 40'])
})

test('killed at any call, no index is there without its marks', async () => {
  const { cluster, systemIdentifier } = INDEXED
  const marks = [1n, 2n].map((at): WalBreak => ({ timeline: 1, lsn: lsn(at), kind: 'minimal' }))
  const index = { bytes: Buffer.from('index'), breaks: marks, edges: NO_EDGES }
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(),
    run: async (storage) => await storeDerived(storage, INDEXED, indexedName(1n), index),
    async check(storage) {
      if ((await storage.size(indexedKey(1n))) === undefined) return
      for (const mark of marks) {
        assert.ok(await storage.size(breakKey(cluster, systemIdentifier, mark)))
      }
    },
  })
  assert.ok(crashes >= 4)
})
