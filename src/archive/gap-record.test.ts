import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachCrashPoint } from '../../test/harness/faulty-storage.ts'
import { lsn } from '../postgres/lsn.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { gapKey, readGaps, type WalGap, writeGap } from './gap-record.ts'

const GAP: WalGap = {
  systemIdentifier: '7000',
  timeline: 2,
  from: lsn(0x16_0000_0010n),
  to: lsn(0x16_0100_0000n),
  foundAt: '2026-01-01T00:00:00.000Z',
  because: 'requested WAL segment has already been removed',
}

test('a gap is read as it was written, and found again under the same key', async () => {
  const storage = openMemoryStorage()
  await writeGap(storage, 'main', GAP)
  await writeGap(storage, 'main', { ...GAP, foundAt: '2027-01-01T00:00:00.000Z' })
  const later = { ...GAP, from: lsn(0x20_0000_0000n), to: lsn(0x20_0100_0000n) }
  await writeGap(storage, 'main', later)
  assert.deepEqual(await readGaps(storage, 'main', '7000'), [GAP, later])
  assert.deepEqual(await readGaps(storage, 'main', '7001'), [])
})

test('a damaged record is damage, never no gap', async () => {
  const storage = openMemoryStorage()
  await writeGap(storage, 'main', GAP)
  const key = gapKey('main', GAP)
  const bytes = Buffer.from((await storage.read(key)) ?? assert.fail())
  bytes[60] = (bytes[60] ?? 0) ^ 1
  await storage.write(key, bytes)
  await assert.rejects(readGaps(storage, 'main', '7000'), { code: 'TM1601' })
})

test('killed at any call, a second try leaves exactly the record', async () => {
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(),
    run: async (storage) => await writeGap(storage, 'main', GAP),
    async check(storage) {
      await writeGap(storage, 'main', GAP)
      assert.deepEqual(await readGaps(storage, 'main', '7000'), [GAP])
    },
  })
  assert.ok(crashes >= 2)
})
