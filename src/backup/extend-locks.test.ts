import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Failure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import type { BackupRecord, NamedPack } from '../repository/backup-record.ts'
import { packKey } from '../repository/keys.ts'
import { createRepository } from '../repository/repository.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { decodeLocks, encodeLocks, extendLocks } from './extend-locks.ts'

const DAY = 86_400_000
const AT = new Date('2026-11-21T00:00:00Z')

interface Locked {
  readonly storage: Storage
  readonly until: Map<string, number>
  /** Keys that the store was asked to lock. */
  readonly asked: string[]
  isRefused: boolean
}

async function openLocked(days: number): Promise<Locked> {
  const memory = openMemoryStorage(new Map())
  await createRepository(memory, AT)
  const until = new Map<string, number>()
  const asked: string[] = []
  const locked: Locked = { storage: memory, until, asked, isRefused: false }
  const locks = {
    days,
    lockedUntil: async (key: string) => {
      const ms = until.get(key)
      return ms === undefined ? undefined : new Date(ms)
    },
    extend: async (key: string, to: Date) => {
      asked.push(key)
      if (locked.isRefused) throw new Failure('TM1514', { message: 'cannot lock', fix: '' })
      until.set(key, to.getTime())
    },
    prove: async () => {},
  }
  Object.assign(memory, { locks })
  return locked
}

function packs(...ids: string[]): NamedPack[] {
  return ids.map((id) => ({ id: id.repeat(32) }))
}

async function extend(
  storages: readonly Storage[],
  at: Date,
  named: readonly NamedPack[],
  written: readonly NamedPack[],
  base?: BackupRecord,
) {
  const own = new Set(written.map(({ id }) => id))
  const request = { cluster: 'main', packs: named, written: own, beganAt: at, base, at }
  const { locks, notes } = await extendLocks(storages, { ...request, progress: SILENT })
  return { record: { packs: named, locks } as unknown as BackupRecord, notes }
}

function later(days: number): Date {
  return new Date(AT.getTime() + days * DAY)
}

test('a lock is extended once less than half of its time is left, not before', async () => {
  const { storage, asked } = await openLocked(30)
  const named = packs('a', 'b', 'c')
  const first = await extend([storage], AT, named, named)
  assert.deepEqual(asked, ['tidemark.repository'])
  const second = await extend([storage], later(10), named, [], first.record)
  const third = await extend(
    [storage],
    later(14),
    [...named, ...packs('d')],
    packs('d'),
    second.record,
  )
  assert.equal(asked.length, 1)
  const fourth = await extend([storage], later(16), [...named, ...packs('d')], [], third.record)
  assert.deepEqual(
    asked.filter((key) => key.endsWith('.pack')),
    named.map(({ id }) => packKey('main', id)),
  )
  assert.match(fourth.notes.join(), /^3 packs in .* are locked until 2027-01-06/)
  assert.equal(asked.filter((key) => key === 'tidemark.repository').length, 2)
  await extend([storage], later(17), named, [], fourth.record)
  assert.equal(asked.filter((key) => key.endsWith('.pack')).length, 3)
})

test('each repository has its own times', async () => {
  const [long, short] = [await openLocked(30), await openLocked(4)]
  const named = packs('a', 'b')
  const first = await extend([long.storage, short.storage], AT, named, named)
  await extend([long.storage, short.storage], later(3), named, [], first.record)
  const count = (asked: readonly string[]) => asked.filter((key) => key.endsWith('.pack')).length
  assert.deepEqual([count(long.asked), count(short.asked)], [0, 2])
  const none = openMemoryStorage(new Map())
  assert.deepEqual((await extend([none], AT, named, named)).record.locks, [])
})

test('a store that refuses is told of, and nothing is noted down that is not so', async () => {
  const locked = await openLocked(30)
  const named = packs('a', 'b')
  const first = await extend([locked.storage], AT, named, packs('a'))
  locked.isRefused = true
  const second = await extend([locked.storage], later(20), named, [], first.record)
  assert.match(second.notes.join(), /^3 objects in .* are NOT locked for longer.*TM1514/)
  assert.deepEqual(second.record.locks, first.record.locks)
  locked.isRefused = false
  const third = await extend([locked.storage], later(21), named, [], second.record)
  assert.match(third.notes.join(), /^2 packs/)
})

test('locks come back from a record as they were', () => {
  const ends = fc.array(fc.option(fc.integer({ min: 0, max: 4 })), { maxLength: 40 })
  fc.assert(
    fc.property(ends, (all) => {
      const named = all.map((_, n) => ({ id: String(n).padStart(32, '0') }))
      const known = new Map(
        all.flatMap((end, n) => (end === null ? [] : [[named[n]?.id as string, end * DAY]])),
      )
      const locks = [...encodeLocks('x', named, known), ...encodeLocks('y', named, new Map())]
      const record = { packs: named, locks } as unknown as BackupRecord
      assert.deepEqual([...decodeLocks('x', record)].sort(), [...known].sort())
      assert.ok(locks.length <= 5)
      assert.deepEqual(decodeLocks('y', record), new Map())
    }),
  )
})
