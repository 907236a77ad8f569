/** Breaks in the WAL end intervals by the listing alone. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { archiveOf, backup, placeIn as at, timeline } from '../../test/harness/listed-wal.ts'
import type { BreakKind, BreakPlace } from '../archive/break-mark.ts'
import type { WalListing } from '../archive/list-wal.ts'
import type { Lsn } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { planWindow } from './window.ts'
import { findWalWithoutBackup } from './wal-without-backup.ts'

function mark(kind: BreakKind, place: Lsn, onTimeline = 1): BreakPlace {
  return { timeline: onTimeline, lsn: place, kind, key: '' }
}

const ALL = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]

function shown(backups: BackupRecord[], archive: WalListing) {
  return planWindow(backups, archive).intervals.map((interval) => [
    interval.backups.map(({ id }) => id).join(' '),
    Number(interval.lastSegment),
    interval.break?.kind ?? (interval.gap === undefined ? 'archive' : 'gap'),
  ])
}

test('wal_level=minimal ends what began before it, however long ago', () => {
  const archive = archiveOf([timeline(1, ALL)], [mark('minimal', at(5, 200))])
  const backups = [backup('a', 1, 2), backup('b', 3, 3)]
  assert.deepEqual(shown(backups, archive), [['b a'.split(' ').sort().join(' '), 5, 'minimal']])
  const lost = findWalWithoutBackup(planWindow(backups, archive).intervals, archive)
  assert.deepEqual(
    lost.filter(({ isBeforeBackup }) => !isBeforeBackup).map(({ first }) => first),
    ['000000010000000000000006'],
  )
  assert.deepEqual(shown([...backups, backup('c', 7, 7)], archive), [
    ['a b', 5, 'minimal'],
    ['c', 20, 'archive'],
  ])
})

test('a backup that begins behind the break in its very segment is none of it', () => {
  const marks = [mark('minimal', at(5, 20)), mark('minimal', at(5, 600))]
  const archive = archiveOf([timeline(1, ALL)], marks)
  assert.deepEqual(shown([backup('a', 1, 2), backup('c', 5, 5)], archive), [
    ['a', 5, 'minimal'],
    ['c', 5, 'minimal'],
  ])
})

test('the first of a gap and a break counts', () => {
  const holed = timeline(1, [1, 2, 3, 4, 5, 8, 9])
  const a = [backup('a', 1, 2)]
  assert.deepEqual(shown(a, archiveOf([holed], [mark('minimal', at(8, 99))])), [['a', 5, 'gap']])
  assert.deepEqual(shown(a, archiveOf([holed], [mark('minimal', at(5, 99))])), [
    ['a', 5, 'minimal'],
  ])
})

test('pg_resetwal ends at the segment before, also behind the numbers that it passed over', () => {
  const a = [backup('a', 1, 2)]
  const whole = archiveOf([timeline(1, ALL)], [mark('reset', at(6, 40))])
  assert.deepEqual(shown(a, whole), [['a', 5, 'reset']])
  const passed = archiveOf([timeline(1, [1, 2, 3, 8, 9])], [mark('reset', at(8, 40))])
  assert.deepEqual(shown(a, passed), [['a', 3, 'reset']])
  const [interval] = planWindow(a, passed).intervals
  assert.equal(interval?.gap?.segments, 4)
  const later = archiveOf([timeline(1, [1, 2, 3, 8, 9])], [mark('reset', at(9, 40))])
  assert.deepEqual(shown(a, later), [['a', 3, 'gap']])
})

test('full_page_writes=off ends nothing and is told', () => {
  const marks = [mark('fpw-off', at(1, 50)), mark('fpw-off', at(7, 50))]
  const archive = archiveOf([timeline(1, ALL)], marks)
  const [interval] = planWindow([backup('a', 1, 2)], archive).intervals
  assert.equal(interval?.break, undefined)
  assert.deepEqual(interval?.withoutPageWrites, [marks[1]])
})

test('what a timeline wrote behind a fork breaks off its own branch alone', () => {
  const ancestors = [{ timeline: 1, endLsn: at(5, 100), reason: '' }]
  const child = timeline(2, [5, 6, 7], { timeline: 2, ancestors })
  const behind = archiveOf([timeline(1, [1, 2, 3, 4, 5, 6]), child], [mark('minimal', at(6, 9))])
  const a = [backup('a', 1, 2)]
  assert.deepEqual(shown(a, behind), [
    ['a', 7, 'archive'],
    ['a', 6, 'minimal'],
  ])
  // The copy of the fork's segment says it of both.
  const before = archiveOf([timeline(1, [1, 2, 3, 4]), child], [mark('minimal', at(5, 9), 2)])
  assert.deepEqual(shown(a, before), [['a', 5, 'minimal']])
})

test('a backup that a break goes through cannot be used', () => {
  const archive = archiveOf([timeline(1, ALL)], [mark('minimal', at(3, 9))])
  const { intervals, unusable } = planWindow([backup('a', 2, 4)], archive)
  assert.deepEqual(intervals, [])
  assert.equal(unusable[0]?.break?.kind, 'minimal')
})
