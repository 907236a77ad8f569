import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TimelineHistory } from '../../../postgres/history-file.ts'
import { lsn } from '../../../postgres/lsn.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import { covers } from './open-events.ts'

const MB = 1024 * 1024
const PARENT: TimelineHistory = { timeline: 1, ancestors: [] }
const CHILD: TimelineHistory = {
  timeline: 2,
  ancestors: [{ timeline: 1, endLsn: lsn(0x500000n), reason: '' }],
}
const BACKUP = { timeline: 1, startLsn: '0/200028', stopLsn: '0/200100' } as unknown as BackupRecord

function reaches(
  at: bigint,
  on: TimelineHistory,
  interval: { path: TimelineHistory; lastSegment: bigint; tail?: string },
): boolean {
  const { path, lastSegment, tail } = interval
  return covers({ path, backups: [BACKUP], lastSegment, tail }, lsn(at), on, MB)
}

test('from the end of the backup to the last segment, and to the tail behind it', () => {
  const interval = { path: PARENT, lastSegment: 4n }
  const reached = [0x2000ffn, 0x200100n, 0x4fffffn, 0x500000n].map((at) =>
    reaches(at, PARENT, interval),
  )
  assert.deepEqual(reached, [false, true, true, false])
  const flushed = { ...interval, tail: '000000010000000000000005' }
  assert.deepEqual(
    [0x500000n, 0x600000n].map((at) => reaches(at, PARENT, flushed)),
    [true, false],
  )
})

test('what another timeline wrote behind the fork is not on the way', () => {
  const interval = { path: CHILD, lastSegment: 9n }
  assert.equal(reaches(0x4fffffn, PARENT, interval), true)
  assert.equal(reaches(0x500000n, PARENT, interval), false)
  assert.equal(reaches(0x500000n, CHILD, interval), true)
})
