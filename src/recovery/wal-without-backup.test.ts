import assert from 'node:assert/strict'
import { test } from 'node:test'
import { archiveOf, backup, SEGMENT, timeline } from '../../test/harness/listed-wal.ts'
import type { WalListing } from '../archive/list-wal.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { lsn } from '../postgres/lsn.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { findWalWithoutBackup } from './wal-without-backup.ts'
import { planWindow } from './window.ts'

/** Last digit of the names, and whether it is merely old. */
function found(archive: WalListing, backups: BackupRecord[]): [number, string, string, boolean][] {
  const { intervals } = planWindow(backups, archive)
  return findWalWithoutBackup(intervals, archive).map((one) => [
    one.timeline,
    one.first.slice(-1),
    one.last.slice(-1),
    one.isBeforeBackup,
  ])
}

const FORK_IN_3: TimelineHistory = {
  timeline: 2,
  ancestors: [{ timeline: 1, endLsn: lsn(BigInt(3 * SEGMENT) + 100n), reason: '' }],
}

test('before the first backup it is old, behind a hole it is an alarm', () => {
  const archive = archiveOf([timeline(1, [1, 2, 3, 4, 6, 7])])
  assert.deepEqual(found(archive, [backup('a', 3, 3)]), [
    [1, '1', '2', true],
    [1, '6', '7', false],
  ])
  assert.deepEqual(found(archive, [backup('a', 3, 3), backup('b', 6, 6)]), [[1, '1', '2', true]])
  assert.deepEqual(found(archive, []), [
    [1, '1', '4', false],
    [1, '6', '7', false],
  ])
})

test('a backup leads along its path, the old copy of the segment of the fork included', () => {
  const archive = archiveOf([timeline(1, [1, 2, 3]), timeline(2, [3, 4], FORK_IN_3)])
  assert.deepEqual(found(archive, [backup('a', 1, 2)]), [])
})

test('WAL before the fork is old when the first backup is on the new timeline', () => {
  const archive = archiveOf([timeline(1, [1, 2, 3]), timeline(2, [3, 4, 5], FORK_IN_3)])
  assert.deepEqual(found(archive, [backup('a', 4, 4, 2)]), [
    [1, '1', '3', true],
    [2, '3', '3', true],
  ])
})

test('a timeline that forked before the backup ended is an alarm', () => {
  const archive = archiveOf([timeline(1, [1, 2, 3, 4, 5]), timeline(2, [3, 4], FORK_IN_3)])
  assert.deepEqual(found(archive, [backup('a', 4, 5)]), [
    [1, '1', '3', true],
    [2, '3', '4', false],
  ])
})
