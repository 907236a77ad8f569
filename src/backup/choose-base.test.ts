import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BackupRecord } from '../repository/backup-record.ts'
import { type BaseCriteria, chooseBase, commonBackups } from './choose-base.ts'

const SIZES = {
  blockSizeBytes: 8192,
  relationSegmentBlocks: 131072,
  walBlockSizeBytes: 8192,
  walSegmentSizeBytes: 16777216,
}
const CRITERIA: BaseCriteria = {
  systemIdentifier: '1',
  sizes: SIZES,
  dataChecksumVersion: 1,
  dataDirectory: '/data',
  bootId: 'boot',
  bootedAtMs: 1_000_000,
  now: new Date('2026-01-08T00:00:00Z'),
  full: false,
}

function backup(change: Partial<BackupRecord> = {}): BackupRecord {
  return {
    id: 'a',
    systemIdentifier: '1',
    sizes: SIZES,
    dataChecksumVersion: 1,
    server: { dataDirectory: '/data' },
    bootId: 'boot',
    bootedAtMs: 1_000_020,
    lastFullReadAt: '2026-01-05T00:00:00Z',
    ...change,
  } as BackupRecord
}

test('the newest backup of the same server and sizes is compared with', () => {
  const chosen = chooseBase(
    [backup({ id: 'x' }), backup({ id: 'y' }), backup({ id: 'z', systemIdentifier: '2' })],
    CRITERIA,
  )
  assert.equal(chosen?.backup.id, 'y')
  assert.equal(chosen?.trustStatus, true)
  const otherSizes = { ...SIZES, walSegmentSizeBytes: 1048576 }
  assert.equal(chooseBase([backup({ sizes: otherSizes })], CRITERIA), undefined)
})

test('files are left unread only within one boot, one clock, one directory and a week', () => {
  const cases: [string, Partial<BackupRecord>, Partial<BaseCriteria>][] = [
    ['--full', {}, { full: true }],
    ['another boot', { bootId: 'other' }, {}],
    ['the clock was set', { bootedAtMs: 1_005_000 }, {}],
    ['no boot time then', { bootedAtMs: undefined as never }, {}],
    ['no boot time now', {}, { bootedAtMs: undefined }],
    ['another directory', {}, { dataDirectory: '/other' }],
    ['checksums were enabled', { dataChecksumVersion: 0 }, {}],
    ['a week has gone by', { lastFullReadAt: '2026-01-01T00:00:00Z' }, {}],
    ['a full read of the future', { lastFullReadAt: '2026-01-09T00:00:00Z' }, {}],
  ]
  for (const [why, change, criteria] of cases) {
    const chosen = chooseBase([backup(change)], { ...CRITERIA, ...criteria })
    assert.equal(chosen?.trustStatus, false, why)
  }
})

test('what is compared with is in every required repository, and in others if in any', () => {
  const common = (...targets: [required: boolean, ids: string][]): string => {
    const given = targets.map(([required, ids], target) => {
      return { target, required, backups: [...ids].map((id) => backup({ id })) }
    })
    return commonBackups(given)
      .map(({ id }) => id)
      .join('')
  }
  assert.equal(common([true, 'abc'], [true, 'bcd']), 'bc')
  assert.equal(common([true, 'abc'], [true, 'd']), '')
  assert.equal(common([true, 'abc'], [false, 'ab']), 'ab')
  assert.equal(common([true, 'abc'], [false, '']), 'abc')
  assert.equal(common([false, 'a'], [true, 'abc'], [false, 'b']), 'a')
  assert.equal(common([false, 'd'], [true, 'abc'], [true, 'bc'], [false, 'c']), 'c')
})
