import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findGaps, findRanges } from '../archive/find-gaps.ts'
import type { WalListing } from '../archive/list-wal.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { lsn } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { describeMissing, judgeBackup, judgeServer } from './protection.ts'

const MB16 = 16 * 1024 * 1024

function listing(
  timelines: readonly { timeline: number; segments: number[]; history?: TimelineHistory }[],
): WalListing {
  return {
    systemIdentifier: '7',
    walSegmentSizeBytes: MB16,
    timelines: timelines.map(({ timeline, segments, history }) => {
      const ranges = findRanges(segments.map(BigInt))
      const gaps = findGaps(ranges)
      const count = segments.length
      return {
        timeline,
        history,
        historyFailure: undefined,
        ranges,
        gaps,
        segments: count,
        bytes: 0,
      }
    }),
    labels: [],
    partials: [],
    quarantine: [],
    tails: [],
    strangers: [],
    bytes: 0,
  }
}

function backup(timeline: number, segment: number): BackupRecord {
  const hex = segment.toString(16).toUpperCase()
  const name = `0000000${timeline}00000000${hex.padStart(8, '0')}`
  return {
    id: `20261121-000000-000${segment}`,
    systemIdentifier: '7',
    timeline,
    startLsn: `0/${hex}000028`,
    stopLsn: `0/${hex}000100`,
    walFirst: name,
    walLast: name,
    sizes: { walSegmentSizeBytes: MB16 },
    packs: [{ id: 'a' }, { id: 'b' }],
  } as unknown as BackupRecord
}

const FORK: TimelineHistory = {
  timeline: 2,
  ancestors: [{ timeline: 1, endLsn: lsn(0x5000100n), reason: 'promotion' }],
}

test('a hole behind the oldest backup is found, one before it does not matter', () => {
  const archive = listing([{ timeline: 1, segments: [1, 3, 4, 6] }])
  const { missing, newest } = judgeServer(archive, [backup(1, 3)])
  assert.deepEqual(describeMissing(missing, MB16), ['000000010000000000000005'])
  assert.equal(newest?.name, '000000010000000000000006')
  assert.equal(newest?.endLsn, 0x7000000n)
})

test('what a parent wrote behind the fork neither fills nor makes a hole', () => {
  const archive = listing([
    { timeline: 1, segments: [3, 4, 5, 6, 7] },
    { timeline: 2, segments: [5, 7], history: FORK },
  ])
  const { missing, path, newest } = judgeServer(archive, [backup(1, 3)])
  assert.equal(path.timeline, 2)
  assert.deepEqual(describeMissing(missing, MB16), ['000000020000000000000006'])
  assert.equal(newest?.name, '000000020000000000000007')
})

test('without a backup nothing is missing yet', () => {
  const { missing, newest } = judgeServer(listing([{ timeline: 1, segments: [1, 3] }]), [])
  assert.deepEqual(missing, [])
  assert.equal(newest?.name, '000000010000000000000003')
  assert.equal(judgeServer(listing([]), []).newest, undefined)
})

test('a backup that lacks a pack or its own WAL', () => {
  const archive = listing([{ timeline: 1, segments: [3] }])
  const whole = judgeBackup(backup(1, 3), new Set(['a', 'b']), archive)
  assert.deepEqual([whole.missingPacks, whole.missingWal], [[], []])
  const broken = judgeBackup(backup(1, 4), new Set(['a']), archive)
  assert.deepEqual(broken.missingPacks, ['b'])
  assert.deepEqual(broken.missingWal, ['000000010000000000000004'])
})

test('neighbours are told as a range', () => {
  const missing = [5n, 6n, 7n, 9n].map((segment) => ({ timeline: 1, segment }))
  assert.deepEqual(describeMissing(missing, MB16), [
    '000000010000000000000005 to 000000010000000000000007 (3 segments)',
    '000000010000000000000009',
  ])
})
