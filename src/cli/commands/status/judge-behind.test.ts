import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WalListing } from '../../../archive/list-wal.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import { findLacking, type HeldByRepository, judgeBehind } from './judge-behind.ts'

const SEGMENT_BYTES = 16 * 1024 * 1024

/** Backup n ended on day n, and needs WAL from segment 10·n on. */
function backup(day: number): BackupRecord {
  const first = `0000000100000000000000${(day * 10).toString(16).padStart(2, '0').toUpperCase()}`
  return {
    id: `2026010${day}-000000-aaaa`,
    stoppedAt: `2026-01-0${day}T00:00:00Z`,
    systemIdentifier: '7',
    walFirst: first,
  } as unknown as BackupRecord
}

function held(name: string, days: number[], ranges: [bigint, bigint][]): HeldByRepository {
  const timeline = { timeline: 1, ranges: ranges.map(([first, last]) => ({ first, last })) }
  const archive = { systemIdentifier: '7', walSegmentSizeBytes: SEGMENT_BYTES }
  const archives = [{ ...archive, timelines: [timeline] } as unknown as WalListing]
  return { name, backups: days.map(backup), archives }
}

test('later backups and WAL from its newest backup on are lacking, older ones are not', () => {
  const local = held('local', [1, 2, 3, 4], [[1n, 50n]])
  const offsite = held(
    'offsite',
    [2],
    [
      [20n, 24n],
      [30n, 31n],
    ],
  )
  const lacking = findLacking(offsite, [local])
  assert.deepEqual(lacking, { name: 'offsite', backups: 2, segments: 24, from: 'local' })
  assert.equal(findLacking(local, [offsite]), undefined)
})

test('one that expired more than the other is not behind', () => {
  const local = held('local', [4], [[40n, 50n]])
  const offsite = held('offsite', [1, 2, 3, 4], [[1n, 50n]])
  assert.deepEqual(judgeBehind('main', [local, offsite]), [])
})

test('a new one lacks everything, one that differs by a segment is only warned of', () => {
  const local = held('local', [1], [[10n, 20n]])
  const [fresh] = judgeBehind('main', [local, { name: 'fresh', backups: [], archives: [] }])
  assert.equal(fresh?.result, 'problem')
  assert.match(fresh?.detail ?? '', /fresh is behind: it lacks 1 backup and 11 WAL segments that/)
  assert.equal(fresh?.fix, 'tidemark sync main --from local --to fresh')
  const [almost] = judgeBehind('main', [local, held('offsite', [1], [[10n, 19n]])])
  assert.equal(almost?.result, 'warning')
})
