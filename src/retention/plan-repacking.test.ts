import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BackupRecord } from '../repository/backup-record.ts'
import type { Hold, HoldList } from '../repository/holds.ts'
import { packKey } from '../repository/keys.ts'
import { planRepacking, type SecondLook, takeOutHeld } from './plan-repacking.ts'

const packId = (digit: string): string => `${digit.repeat(24)}00000000`
const survey = (digit: string) => ({
  packId: packId(digit),
  sizeBytes: 4 << 20,
  deadBytes: 3 << 20,
  expiredRecords: [],
  isKeptWhole: false,
})
const PLAN = planRepacking(['a', 'b', 'c'].map(survey))

const record = (id: string, ...digits: string[]): BackupRecord =>
  ({ id, packs: digits.map((digit) => ({ id: packId(digit) })) }) as unknown as BackupRecord
const held = (more: object): HoldList => ({
  holds: [{ needs: [], ...more } as unknown as Hold],
  unreadable: [],
})

function left(more: Partial<SecondLook>): string[] {
  const nothing = { holds: { holds: [], unreadable: [] }, backups: [], damagedRecords: 0 }
  const look = { known: new Set(['known']), ...nothing, ...more }
  return takeOutHeld('main', PLAN, look).packs.map((one) => one.packId[0] as string)
}

test('what a record names that is there only since the plan was made is not repacked', () => {
  const backups = [record('known', 'a', 'b'), record('new', 'b')]
  assert.deepEqual(left({ backups }), ['a', 'c'])
})

test('what is held, by its attempt or its key, is not repacked', () => {
  assert.deepEqual(left({}), ['a', 'b', 'c'])
  assert.deepEqual(left({ holds: held({ attemptId: 'a'.repeat(24) }) }), ['b', 'c'])
  assert.deepEqual(left({ holds: held({ keys: [packKey('main', packId('c'))] }) }), ['a', 'b'])
  assert.deepEqual(left({ holds: { holds: [], unreadable: ['x'] } }), [])
  assert.deepEqual(left({ damagedRecords: 1 }), [])
})
