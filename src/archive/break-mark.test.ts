import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lsn } from '../postgres/lsn.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import {
  breakKey,
  breakPrefix,
  parseBreakKey,
  proveBreak,
  removeBreaks,
  type WalBreak,
  writeBreak,
} from './break-mark.ts'

const MARK: WalBreak = { timeline: 2, lsn: lsn(0x16_0000_0010n), kind: 'minimal' }
const PLACE = { cluster: 'main', systemIdentifier: '7000', timeline: 2 }

test('the key alone tells place and kind', () => {
  const key = breakKey('main', '7000', MARK)
  assert.equal(key, 'clusters/main/wal/7000/breaks/00000002/0000001600000010-minimal.break')
  assert.deepEqual(parseBreakKey(key), { ...MARK, key })
  assert.equal(parseBreakKey(key.replace('minimal', 'other')), undefined)
})

test('it is proved against its key, and damage is damage', async () => {
  const storage = openMemoryStorage()
  await writeBreak(storage, 'main', '7000', MARK)
  await writeBreak(storage, 'main', '7000', MARK)
  const key = breakKey('main', '7000', MARK)
  const bytes = Buffer.from((await storage.read(key)) ?? assert.fail())
  proveBreak(key, '7000', bytes)
  assert.throws(() => proveBreak(key, '7001', bytes), { code: 'TM1601' })
  const other = breakKey('main', '7000', { ...MARK, kind: 'reset' })
  assert.throws(() => proveBreak(other, '7000', bytes), { code: 'TM1601' })
  bytes[60] = (bytes[60] ?? 0) ^ 1
  assert.throws(() => proveBreak(key, '7000', bytes), { code: 'TM1601' })
})

test('those behind a place of one timeline are removed', async () => {
  const storage = openMemoryStorage()
  const later: WalBreak = { ...MARK, lsn: lsn(0x17_0000_0000n) }
  const other: WalBreak = { ...later, timeline: 3 }
  for (const mark of [MARK, later, other]) await writeBreak(storage, 'main', '7000', mark)
  await removeBreaks(storage, PLACE, later.lsn)
  const left: string[] = []
  for await (const { key } of storage.list(breakPrefix('main', '7000'))) left.push(key)
  assert.deepEqual(left, [breakKey('main', '7000', MARK), breakKey('main', '7000', other)])
})
