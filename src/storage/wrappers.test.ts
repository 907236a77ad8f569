/** The wrappers over a storage in memory: the contract, and what each is there for. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { describeStorageContract, keysOf } from '../../test/harness/storage-contract.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { openCountingStorage } from './counting-storage.ts'
import {
  type BandwidthLimit,
  makeBandwidthLimit,
  openLimitedStorage,
  reserve,
} from './limited-storage.ts'
import { openMemoryStorage } from './memory-storage.ts'
import { choosePauseMs, openRetryingStorage } from './retrying-storage.ts'
import type { Storage } from './storage.ts'

const QUICK = { attempts: 4, firstPauseMs: 1, longestPauseMs: 4, patienceMs: 60_000 }
const wrappers: readonly (readonly [string, (storage: Storage) => Storage])[] = [
  ['retries', (storage) => openRetryingStorage(storage, QUICK)],
  ['a bandwidth limit', (storage) => openLimitedStorage(storage, makeBandwidthLimit(1e10))],
  ['counts', openCountingStorage],
]

for (const [name, wrap] of wrappers) {
  describeStorageContract(`${name} over memory`, async () => {
    const objects = new Map<string, Uint8Array>()
    const open = (): Storage => wrap(openMemoryStorage(objects))
    return { storage: open(), openAgain: async () => open(), dispose: async () => undefined }
  })
}

const away = (retryAfterMs = 0): Failure =>
  new Failure('TM1509', { message: 'away', fix: 'wait', details: { retryAfterMs } })

/** Every operation fails `times` times before it works. */
function openFlaky(times: number, failure = away()): { storage: Storage; calls: () => number } {
  const inner = openMemoryStorage()
  const failed = new Map<unknown, number>()
  let calls = 0
  const storage = new Proxy(inner, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]): unknown => {
        calls += 1
        const count = failed.get(name) ?? 0
        failed.set(name, count + 1)
        if (name === 'list')
          return listFlaky(
            target.list(...(args as Parameters<Storage['list']>)),
            count < times,
            failure,
          )
        if (count < times) return Promise.reject(failure)
        return value.apply(target, args)
      }
    },
  })
  return { storage, calls: () => calls }
}

/** Fails behind its second object. */
async function* listFlaky(found: ReturnType<Storage['list']>, fails: boolean, failure: Failure) {
  let given = 0
  for await (const object of found) {
    if (fails && given === 2) throw failure
    given += 1
    yield object
  }
}

test('every operation is tried until it works', async () => {
  const { storage: flaky } = openFlaky(QUICK.attempts - 1)
  const storage = openRetryingStorage(flaky, QUICK)
  for (const key of ['a', 'b', 'c', 'd', 'e']) {
    await storage.write(key, Buffer.from(key), { createOnly: true })
  }
  assert.equal(Buffer.from((await storage.read('a')) ?? []).toString(), 'a')
  assert.equal((await storage.readRange('a', 0, 1))?.length, 1)
  assert.equal(await storage.size('a'), 1)
  assert.deepEqual(await keysOf(storage), ['a', 'b', 'c', 'd', 'e'])
  await storage.confirmDurable(['a'])
  await storage.remove('a')
  await storage.removeMany(['b'])
  assert.equal(await storage.removeLeftovers(), 0)
  assert.equal(await storage.freeBytes(), undefined)
  const writer = await storage.openWriter('w')
  writer.append([Buffer.from('w')])
  await writer.commit()
  assert.deepEqual(await keysOf(storage), ['c', 'd', 'e', 'w'])
})

test('what does not end is given up, with the number of attempts', async () => {
  const { storage, calls } = openFlaky(100)
  await assert.rejects(openRetryingStorage(storage, QUICK).read('a'), (error) => {
    assert.ok(isFailure(error, 'TM1509'))
    assert.match(error.because ?? '', /tried 4 times in/)
    return true
  })
  assert.equal(calls(), 4)
})

test('patience ends before the attempts do', async () => {
  const { storage, calls } = openFlaky(100)
  const impatient = openRetryingStorage(storage, { ...QUICK, patienceMs: 0 })
  await assert.rejects(impatient.read('a'), (error) => isFailure(error, 'TM1509'))
  assert.equal(calls(), 1)
})

test('other failures and defects are passed at once', async () => {
  const refused = new Failure('TM1501', { message: 'no', fix: 'never' })
  const { storage, calls } = openFlaky(1, refused)
  await assert.rejects(openRetryingStorage(storage, QUICK).read('a'), (error) => error === refused)
  assert.equal(calls(), 1)
  const faulty = openFaultyStorage(openMemoryStorage(), [{ at: 1, kind: 'crash', when: 'before' }])
  await assert.rejects(openRetryingStorage(faulty, QUICK).read('a'), /crashed/)
})

test('all attempts of one creation have one id, and another creation has another', async () => {
  const ids: (string | undefined)[] = []
  const inner = openMemoryStorage()
  const spy = new Proxy(inner, {
    get(target, name) {
      if (name !== 'write') return Reflect.get(target, name, target)
      return (_key: string, _bytes: Uint8Array, options: { writeId?: string }) => {
        ids.push(options.writeId)
        return ids.length === 2 ? Promise.resolve() : Promise.reject(away())
      }
    },
  })
  const storage = openRetryingStorage(spy, { ...QUICK, attempts: 2 })
  await storage.write('a', Buffer.from('a'), { createOnly: true })
  await assert.rejects(storage.write('a', Buffer.from('a'), { createOnly: true }))
  assert.equal(ids.length, 4)
  assert.equal(ids[0], ids[1])
  assert.equal(ids[2], ids[3])
  assert.notEqual(ids[0], ids[2])
})

test('pauses grow, are random below their bound, and heed what the store asks', () => {
  const policy = { attempts: 7, firstPauseMs: 250, longestPauseMs: 8000, patienceMs: 1 }
  const most = (attempt: number, asked = 0) => choosePauseMs(policy, attempt, asked, (x) => x)
  assert.deepEqual(
    [2, 3, 4, 5, 6, 7, 8].map((n) => most(n)),
    [250, 500, 1000, 2000, 4000, 8000, 8000],
  )
  assert.equal(
    choosePauseMs(policy, 5, 0, () => 0),
    0,
  )
  assert.equal(most(2, 3000), 3000)
  assert.equal(most(2, 60_000), 8000, 'nobody is parked for an hour')
})

test('a limit grants bytes one after the other, to all who share it', () => {
  const limit = makeBandwidthLimit(1000)
  const sameLimit: BandwidthLimit = structuredClone(limit)
  assert.equal(reserve(limit, 500, 0n), 500_000_000n)
  assert.equal(reserve(sameLimit, 500, 0n), 1_000_000_000n)
  assert.equal(reserve(limit, 1000, 400_000_000n), 1_600_000_000n)
  assert.equal(reserve(limit, 1000, 60_000_000_000n), 1_000_000_000n, 'silence earns nothing')
})

test('what is read and written waits for its turn', async () => {
  const limit = makeBandwidthLimit(1e6)
  const storage = openLimitedStorage(openMemoryStorage(), limit)
  const booked = () => new BigInt64Array(limit.schedule)[0] ?? 0n
  await storage.write('a', Buffer.alloc(20_000))
  const before = booked()
  await storage.read('a')
  await storage.readRange('a', 0, 10_000)
  const writer = await storage.openWriter('b')
  writer.append([Buffer.alloc(10_000), Buffer.alloc(10_000)])
  const beforeCommit = booked()
  await writer.commit()
  assert.ok(beforeCommit - before >= 30_000_000n)
  assert.ok(booked() - beforeCommit >= 20_000_000n)
  assert.equal(await storage.size('b'), 20_000)
})

test('calls and bytes are counted', async () => {
  const storage = openCountingStorage(openMemoryStorage())
  await storage.write('a', Buffer.alloc(100))
  await storage.read('a')
  await storage.readRange('a', 0, 30)
  await storage.read('nothing')
  const writer = await storage.openWriter('b')
  writer.append([Buffer.alloc(7), Buffer.alloc(5)])
  await writer.commit()
  await assert.rejects(storage.write('a', Buffer.alloc(9), { createOnly: true }))
  await storage.removeMany(['a', 'b'])
  const { calls, bytesRead, bytesWritten } = storage.counts
  assert.deepEqual(Object.fromEntries(calls), {
    write: 2,
    read: 2,
    readRange: 1,
    openWriter: 1,
    commit: 1,
    removeMany: 1,
  })
  assert.equal(bytesRead, 130)
  assert.equal(bytesWritten, 112)
})
