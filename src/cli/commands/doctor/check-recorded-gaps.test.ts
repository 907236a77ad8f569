import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lsn } from '../../../postgres/lsn.ts'
import type { BackupRecord } from '../../../repository/backup-record.ts'
import type { ServerProtection } from '../../protection.ts'
import { checkRecordedGaps } from './check-recorded-gaps.ts'

const MB = 1 << 20
const GAP = { timeline: 1, from: lsn(BigInt(3 * MB + 5)), to: lsn(BigInt(6 * MB)), key: '' }

function server(...ranges: (readonly [number, number])[]): ServerProtection {
  const listed = ranges.map(([first, last]) => ({ first: BigInt(first), last: BigInt(last) }))
  const archive = { recordedGaps: [GAP], timelines: [{ timeline: 1, ranges: listed }] }
  return {
    systemIdentifier: '7',
    walSegmentSizeBytes: MB,
    archive,
  } as unknown as ServerProtection
}

function backup(startLsn: string, systemIdentifier = '7'): BackupRecord {
  return { startLsn, systemIdentifier } as unknown as BackupRecord
}

test('a gap counts until a backup has begun behind it, or its segments have come', () => {
  const judge = (one: ServerProtection, ...backups: BackupRecord[]): string =>
    checkRecordedGaps(one, backups).result
  assert.equal(judge(server([1, 2], [6, 9])), 'problem')
  assert.equal(judge(server([1, 2], [6, 9]), backup('0/500000')), 'problem')
  assert.equal(judge(server([1, 2], [6, 9]), backup('0/600028', '8')), 'problem')
  assert.equal(judge(server([1, 2], [6, 9]), backup('0/600028')), 'ok')
  assert.equal(judge(server([1, 4], [6, 9])), 'problem')
  assert.equal(judge(server([1, 9])), 'ok')
})
