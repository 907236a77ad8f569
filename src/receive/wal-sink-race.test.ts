/**
 * The sink between two calls to its storage: segments that complete while one is stored, openings
 * that follow one another in one process, what others have left.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { damageObject, forEachCrashPoint } from '../../test/harness/faulty-storage.ts'
import { PausingStorage } from '../../test/harness/pausing-storage.ts'
import { MB, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { listWal } from '../archive/list-wal.ts'
import { findTail } from '../archive/read-tail.ts'
import { lsn } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { openWalSink } from './wal-sink.ts'

const ID = SYSTEM.toString()
const PLACE = { cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }

async function prepare(): Promise<Storage> {
  const storage = openMemoryStorage()
  const identity = { major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', { systemIdentifier: ID, ...identity })
  return storage
}

async function open(storage: Storage) {
  return await openWalSink({
    required: [storage],
    cluster: 'main',
    systemIdentifier: ID,
    flushEveryMs: 0,
  })
}

/** From the start of segment 1 on. */
function makeWal(length: number): Buffer {
  const wal = new SyntheticWal()
  for (let xid = 1; wal.position < BigInt(MB + length); xid++) {
    wal.append({ xid, info: 0, resourceManager: 1, mainData: Buffer.alloc(7000, xid % 251) })
  }
  const all = [...wal.segments.keys()].sort((a, b) => (a < b ? -1 : 1))
  const bytes = Buffer.concat(all.map((one) => wal.segments.get(one) as Buffer))
  return bytes.subarray(0, length)
}

async function tailsOf(storage: Storage): Promise<string[]> {
  const { tails } = await listWal(storage, 'main', ID)
  return tails.map(({ segment }) => segment.slice(-8))
}

test('a flush whose segment is stored meanwhile begins no tail of it any more', async () => {
  const storage = await prepare()
  const bytes = makeWal(3 * MB + 1000)
  const slow = new PausingStorage(storage, (call) => /^write .*000000000001\.wal$/.test(call))
  const { sink } = await open(slow)
  sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, MB + 5000))
  await slow.reached
  const flushing = sink.flush()
  sink.append(1, lsn(BigInt(2 * MB + 5000)), bytes.subarray(MB + 5000, 3 * MB))
  await new Promise((resolve) => setTimeout(resolve, 300))
  slow.resume()
  assert.ok((await flushing) >= BigInt(2 * MB + 5000))
  sink.append(1, lsn(BigInt(4 * MB)), bytes.subarray(3 * MB))
  await sink.flush()
  await sink.close()
  assert.deepEqual(await tailsOf(storage), ['00000004'])
})

test('a flush into a segment that becomes whole waits until that is archived', async () => {
  const bytes = makeWal(MB)
  const slow = new PausingStorage(await prepare(), (call) => /^write .*01\.wal$/.test(call))
  const { sink } = await open(slow)
  sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, 5000))
  let isFlushed = false
  const flushing = sink.flush().then(() => {
    isFlushed = true
  })
  // The flush has begun, and nothing of it has been written yet.
  sink.append(1, lsn(BigInt(MB + 5000)), bytes.subarray(5000))
  await slow.reached
  await new Promise((resolve) => setTimeout(resolve, 100))
  assert.equal(isFlushed, false, 'nothing of the segment is durable yet')
  slow.resume()
  await flushing
  await sink.close()
})

test('openings of one process that follow one another leave one tail', async () => {
  const storage = await prepare()
  const bytes = makeWal(MB + 1000)
  for (let end = 50_000; end < 250_000; end += 50_000) {
    const { sink } = await open(storage)
    sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, end))
    await sink.flush()
    assert.deepEqual(await tailsOf(storage), ['00000001'])
    await sink.close()
  }
  const { sink } = await open(storage)
  sink.append(1, lsn(BigInt(MB)), bytes)
  await sink.close()
  assert.deepEqual(await tailsOf(storage), ['00000002'])
})

test('a segment that is read after it was archived keeps its bytes meanwhile', async () => {
  const storage = await prepare()
  const bytes = makeWal(4 * MB)
  const permission = Promise.withResolvers<void>()
  const given: Uint8Array[] = []
  const { sink } = await openWalSink({
    required: [storage],
    cluster: 'main',
    systemIdentifier: ID,
    onArchived: async (_name, content) => {
      given.push(content)
      await permission.promise
    },
  })
  for (let at = 0; at < bytes.length; at += MB) {
    sink.append(1, lsn(BigInt(MB + at)), bytes.subarray(at, at + MB))
    await sink.flush()
  }
  assert.equal(given.length, 4)
  given.forEach((content, index) => {
    assert.ok(bytes.subarray(index * MB, (index + 1) * MB).equals(content), `segment ${index}`)
  })
  permission.resolve()
  await sink.close()
})

test('a damaged segment beside its own tail keeps nobody from receiving', async () => {
  const storage = await prepare()
  const bytes = makeWal(2 * MB + 1000)
  const first = await open(storage)
  first.sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, MB - 1000))
  await first.sink.close()
  const tails = new Map<string, Uint8Array>()
  for await (const { key } of storage.list('clusters/main/wal/')) {
    if (key.endsWith('.journal')) tails.set(key, (await storage.read(key)) as Uint8Array)
  }
  const second = await open(storage)
  second.sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, MB))
  await second.sink.close()
  for (const [key, content] of tails) await storage.write(key, content)
  for await (const { key } of storage.list('clusters/main/wal/')) {
    if (key.endsWith('01.wal')) await damageObject(storage, key, { kind: 'flip-bit', byte: 5000 })
  }
  const { sink, resume } = await open(storage)
  assert.equal(resume?.lsn, BigInt(2 * MB))
  assert.deepEqual(await tailsOf(storage), ['00000001'])
  await sink.close()
})

test('a crash while a timeline is ended loses nothing of its tail', async () => {
  const bytes = makeWal(100_000)
  let acknowledged = 0
  const crashes = await forEachCrashPoint({
    prepare: async () => {
      acknowledged = 0
      const storage = await prepare()
      const { sink } = await open(storage)
      sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, 10))
      await sink.close()
      return storage
    },
    run: async (storage) => {
      const { sink } = await open(storage)
      sink.append(1, lsn(BigInt(MB)), bytes)
      acknowledged = Number(await sink.flush()) - MB
      await sink.endTimeline(1, lsn(BigInt(MB + bytes.length)))
      await sink.close()
    },
    check: async (storage) => {
      const tail = await findTail([storage], PLACE, '000000010000000000000001')
      assert.ok((tail?.bytes.length ?? 0) >= acknowledged)
      assert.equal(tail?.loss, undefined)
    },
  })
  assert.ok(crashes > 10)
})

test('a required repository that has nothing yet: nothing is taken for durable there', async () => {
  const [one, two] = [await prepare(), await prepare()]
  const { sink } = await open(one)
  sink.append(1, lsn(BigInt(MB)), makeWal(50_000))
  await sink.close()
  const both = { required: [one, two], cluster: 'main', systemIdentifier: ID }
  const { resume } = await openWalSink(both)
  assert.deepEqual(resume, { timeline: 1, lsn: BigInt(MB), flushed: BigInt(MB) })
})

test('the tail of a sink that is still open is left to it', async () => {
  const storage = await prepare()
  const bytes = makeWal(MB)
  const first = await open(storage)
  first.sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, 50_000))
  await first.sink.flush()
  const own = (await listWal(storage, 'main', ID)).tails.map(({ opening }) => opening)
  const isThere = async () => {
    const { tails } = await listWal(storage, 'main', ID)
    return tails.some(({ opening }) => own.includes(opening))
  }
  const second = await open(storage)
  second.sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, 60_000))
  await second.sink.flush()
  assert.equal(await isThere(), true)
  second.sink.append(1, lsn(BigInt(MB + 60_000)), bytes.subarray(60_000))
  await second.sink.close()
  assert.equal(await isThere(), true)
  first.sink.append(1, lsn(BigInt(MB + 50_000)), bytes.subarray(50_000))
  await first.sink.close()
  assert.deepEqual(await tailsOf(storage), [])
})

test('a damaged tail stays beside one that covers it', async () => {
  const storage = await prepare()
  const bytes = makeWal(100_000)
  const first = await open(storage)
  for (let at = 0; at < 60_000; at += 20_000) {
    first.sink.append(1, lsn(BigInt(MB + at)), bytes.subarray(at, at + 20_000))
    await first.sink.flush()
  }
  await first.sink.close()
  const [tail] = (await listWal(storage, 'main', ID)).tails
  const key = tail?.parts[0]?.key ?? ''
  await damageObject(storage, key, { kind: 'flip-bit', byte: 30_000 })
  const second = await open(storage)
  second.sink.append(1, lsn(BigInt(MB)), bytes)
  await second.sink.close()
  assert.notEqual(await storage.read(key), undefined)
  assert.equal((await tailsOf(storage)).length, 2)
})
