import assert from 'node:assert/strict'
import { test } from 'node:test'
import { collect, forEachCrashPoint } from '../../test/harness/faulty-storage.ts'
import { formatSegmentName, lsn } from '../postgres/lsn.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import {
  breakKey,
  breakPrefix,
  parseBreakKey,
  proveBreak,
  removeBreaks,
  type WalBreak,
  writeBreak,
} from './break-mark.ts'
import { eventsKey } from './wal-file-name.ts'

const MARK: WalBreak = { timeline: 2, lsn: lsn(0x16_0000_0010n), kind: 'minimal' }
const SIZE = 16 * 1024 * 1024
const PLACE = { cluster: 'main', systemIdentifier: '7000', timeline: 2, walSegmentSizeBytes: SIZE }
const FIRST = 0x1700n
const BEFORE = eventsKey('main', '7000', formatSegmentName(2, FIRST - 1n, SIZE))

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

const listMarks = async (storage: Storage): Promise<string[]> =>
  (await collect(storage.list(breakPrefix('main', '7000')))).map(({ key }) => key)

test('those behind a place of one timeline are removed', async () => {
  const storage = openMemoryStorage()
  const later: WalBreak = { ...MARK, lsn: lsn(0x17_0000_0000n) }
  const other: WalBreak = { ...later, timeline: 3 }
  for (const mark of [MARK, later, other]) await writeBreak(storage, 'main', '7000', mark)
  await storage.write(BEFORE, Buffer.from('index'))
  await removeBreaks(storage, PLACE, FIRST)
  const left = [breakKey('main', '7000', MARK), breakKey('main', '7000', other)]
  assert.deepEqual(await listMarks(storage), left)
  assert.ok(await storage.size(BEFORE))
})

test('one that may go on behind that place goes, and the index before it first', async () => {
  const start = 0x17_0000_0000n
  const near: WalBreak = { ...MARK, lsn: lsn(start - 48n) }
  const far: WalBreak = { ...MARK, lsn: lsn(start - 64n - 8n) }
  await forEachCrashPoint({
    async prepare() {
      const storage = openMemoryStorage()
      for (const mark of [near, far]) await writeBreak(storage, 'main', '7000', mark)
      await storage.write(BEFORE, Buffer.from('index'))
      return storage
    },
    run: async (storage) => await removeBreaks(storage, PLACE, FIRST),
    async check(storage, { when }) {
      const marks = await listMarks(storage)
      assert.ok(marks.includes(breakKey('main', '7000', far)))
      const isThere = marks.includes(breakKey('main', '7000', near))
      // Without its mark the segment must be computed again.
      if (!isThere) assert.equal(await storage.size(BEFORE), undefined)
      if (when === 'never') assert.equal(isThere, false)
    },
  })
})
