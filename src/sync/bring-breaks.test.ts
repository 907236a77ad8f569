/** Marks of breaks are brought for segments that are there, whole ones only. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { INDEXED, storeSegment } from '../../test/harness/indexed-wal.ts'
import { MB } from '../../test/harness/wal-builder.ts'
import { breakKey, breakPrefix, type WalBreak, writeBreak } from '../archive/break-mark.ts'
import { lsn } from '../postgres/lsn.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { bringBreaks } from './bring-breaks.ts'

const { cluster, systemIdentifier } = INDEXED
const markIn = (segment: number): WalBreak => {
  return { timeline: 1, lsn: lsn(BigInt(segment * MB + 40)), kind: 'reset' }
}

test('of segments that the target has, and never a damaged one', async () => {
  const [source, target] = [openMemoryStorage(), openMemoryStorage()]
  for (const segment of [2, 3, 4]) {
    await writeBreak(source, cluster, systemIdentifier, markIn(segment))
  }
  for (const segment of [3n, 4n]) await storeSegment(target, segment)
  const damaged = breakKey(cluster, systemIdentifier, markIn(4))
  const bytes = Buffer.from((await source.read(damaged)) ?? assert.fail())
  bytes[20] = (bytes[20] ?? 0) ^ 1
  await source.write(damaged, bytes)
  const counts = { backups: 0, packs: 0, segments: 0, others: 0, bytes: 0 }
  const state = { source, target, cluster, counts, signal: new AbortController().signal }
  const identity = { systemIdentifier, walSegmentSizeBytes: MB }
  await bringBreaks(
    state as unknown as Parameters<typeof bringBreaks>[0],
    identity as Parameters<typeof bringBreaks>[1],
  )
  const brought: string[] = []
  for await (const { key } of target.list(breakPrefix(cluster, systemIdentifier))) {
    brought.push(key)
  }
  assert.deepEqual(brought, [breakKey(cluster, systemIdentifier, markIn(3))])
  assert.equal(counts.others, 1)
})
