import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MB, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { findWalFile } from '../archive/fetch-wal.ts'
import { listWal } from '../archive/list-wal.ts'
import { readTailsOf } from '../archive/read-tail.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { formatSegmentName, lsn } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { openWalSink, type SinkEvent, type WalSinkOptions } from './wal-sink.ts'

const ID = SYSTEM.toString()
const PLACE = { cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }

/** An object store: nothing can be appended. */
class PieceStorage extends ForwardingStorage {
  override get openJournal(): undefined {
    return undefined
  }
}

async function repository(kind: 'journal' | 'pieces' = 'journal'): Promise<Storage> {
  const memory = openMemoryStorage()
  const identity = { major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(memory, 'main', { systemIdentifier: ID, ...identity })
  return kind === 'journal' ? memory : new PieceStorage(memory)
}

/** `segments` whole segments of records, and some of the next one. */
function makeWal(segments: number, more = 100_000): { wal: SyntheticWal; bytes: Buffer } {
  const wal = new SyntheticWal()
  const end = BigInt((segments + 1) * MB + more)
  for (let xid = 1; wal.position < end; xid++) {
    wal.append({ xid, info: 0, resourceManager: 1, mainData: Buffer.alloc(3000, xid % 251) })
  }
  const all = [...wal.segments.keys()].sort((a, b) => (a < b ? -1 : 1))
  const bytes = Buffer.concat(all.map((one) => wal.segments.get(one) as Buffer))
  return { wal, bytes: bytes.subarray(0, Number(wal.position) - MB) }
}

/** deepEqual of buffers that differ prints them all. */
function assertBytes(found: Buffer | undefined, expected: Buffer): void {
  assert.equal(found?.length, expected.length)
  assert.ok(found?.equals(expected))
}

const nameOf = (segment: number, timeline = 1) => formatSegmentName(timeline, BigInt(segment), MB)

async function open(required: readonly Storage[], more: Partial<WalSinkOptions> = {}) {
  const events: SinkEvent[] = []
  const options = { required, cluster: 'main', systemIdentifier: ID, flushEveryMs: 0, ...more }
  const opened = await openWalSink({ ...options, onEvent: (event) => events.push(event) })
  return { ...opened, events }
}

async function archived(storage: Storage, segment: number): Promise<Buffer | undefined> {
  const request = { storages: [storage], cluster: 'main', systemIdentifier: ID }
  return (await findWalFile({ ...request, name: nameOf(segment) }))?.content
}

async function tailOf(storage: Storage, segment: number, timeline = 1): Promise<Buffer> {
  const tails = await readTailsOf(storage, PLACE, nameOf(segment, timeline))
  assert.ok(tails.length <= 1, `${tails.length} tails`)
  return tails[0]?.bytes ?? Buffer.alloc(0)
}

for (const kind of ['journal', 'pieces'] as const) {
  test(`${kind}: whole segments are archived, the rest is the tail; it resumes there`, async () => {
    const storage = await repository(kind)
    const { bytes } = makeWal(2)
    const first = await open([storage])
    assert.equal(first.resume, undefined)
    let at = 0
    for (const step of [10, 8192, 500_000, 1, 1_200_000, 300_000, 140_000]) {
      first.sink.append(1, lsn(BigInt(MB + at)), bytes.subarray(at, at + step))
      at += step
      assert.equal(await first.sink.flush(), BigInt(MB + at))
      const segment = 1 + Math.floor(at / MB)
      const expected = bytes.subarray((segment - 1) * MB, at)
      assertBytes(await tailOf(storage, segment), expected)
    }
    await first.sink.close()
    for (const segment of [1, 2]) {
      assertBytes(
        await archived(storage, segment),
        bytes.subarray((segment - 1) * MB, segment * MB),
      )
    }
    assert.equal(await archived(storage, 3), undefined)
    assertBytes(await tailOf(storage, 3), bytes.subarray(2 * MB, at))
    const { tails, strangers } = await listWal(storage, 'main', ID)
    assert.deepEqual([tails.length, strangers], [1, []])
    const second = await open([storage])
    const flushed = lsn(BigInt(MB + at))
    assert.deepEqual(second.resume, { timeline: 1, lsn: lsn(BigInt(3 * MB)), flushed })
  })
}

test('many pieces are joined into one that holds all', async () => {
  const storage = await repository('pieces')
  const { bytes } = makeWal(1)
  const { sink } = await open([storage])
  for (let at = 0; at < 100_000; at += 1000) {
    sink.append(1, lsn(BigInt(MB + at)), bytes.subarray(at, at + 1000))
    await sink.flush()
    const { tails } = await listWal(storage, 'main', ID)
    assert.ok((tails[0]?.parts.length ?? 0) <= 32)
    assertBytes(await tailOf(storage, 1), bytes.subarray(0, at + 1000))
  }
})

test('a flush waits for the slowest of the required ones, and others are told behind', async () => {
  const [one, two] = [await repository(), await repository('pieces')]
  const third = await repository()
  const refusing = new ForwardingStorage(third)
  refusing.write = async () => {
    throw new Failure('TM1509', { message: 'away', fix: 'wait' })
  }
  const { bytes } = makeWal(1)
  const { sink, events } = await open([one, two], { others: [refusing] })
  sink.append(1, lsn(BigInt(MB)), bytes)
  assert.equal(await sink.flush(), BigInt(MB + bytes.length))
  await sink.close()
  for (const storage of [one, two]) {
    assertBytes(await archived(storage, 1), bytes.subarray(0, MB))
    assertBytes(await tailOf(storage, 2), bytes.subarray(MB))
  }
  assert.ok(events.some((event) => event.kind === 'behind' && event.segment === nameOf(1)))
})

test('two required repositories that differ: the least end counts', async () => {
  const [one, two] = [await repository(), await repository()]
  const { bytes } = makeWal(2)
  const alone = await open([one])
  alone.sink.append(1, lsn(BigInt(MB)), bytes)
  await alone.sink.close()
  const other = await open([two])
  other.sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, MB + 5000))
  await other.sink.close()
  const both = await open([one, two])
  const flushed = lsn(BigInt(2 * MB + 5000))
  assert.deepEqual(both.resume, { timeline: 1, lsn: lsn(BigInt(2 * MB)), flushed })
  both.sink.append(1, lsn(BigInt(2 * MB)), bytes.subarray(MB))
  await both.sink.close()
  assertBytes(await tailOf(two, 3), bytes.subarray(2 * MB))
})

test('holes that the server still has are wanted again, others are not', async () => {
  const storage = await repository()
  const { bytes } = makeWal(3, 1000)
  const first = await open([storage])
  first.sink.append(1, lsn(BigInt(MB)), bytes)
  await first.sink.close()
  const { tails } = await listWal(storage, 'main', ID)
  await storage.removeMany(tails.flatMap(({ parts }) => parts.map(({ key }) => key)))
  const prefix = 'clusters/main/wal/'
  for await (const { key } of storage.list(prefix)) {
    if (key.endsWith(`${nameOf(2)}.wal`)) await storage.remove(key)
  }
  assert.equal((await open([storage])).resume?.lsn, BigInt(4 * MB))
  const availableFrom = lsn(BigInt(2 * MB))
  assert.equal((await open([storage], { availableFrom })).resume?.lsn, BigInt(2 * MB))
  const later = lsn(BigInt(3 * MB))
  assert.equal((await open([storage], { availableFrom: later })).resume?.lsn, BigInt(4 * MB))
})

test('other WAL than what was flushed is refused, and nothing is written over', async () => {
  const storage = await repository()
  const { bytes } = makeWal(1)
  const first = await open([storage])
  first.sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, 50_000))
  await first.sink.close()
  const other = Buffer.from(bytes)
  other[20_000] = (other[20_000] as number) ^ 1
  const { sink } = await open([storage])
  sink.append(1, lsn(BigInt(MB)), other.subarray(0, 60_000))
  await assert.rejects(sink.flush(), (error) => isFailure(error, 'TM1442'))
  assert.throws(() => sink.append(1, lsn(BigInt(MB + 60_000)), other), /TM1442|other WAL/)
  assertBytes(await tailOf(storage, 1), bytes.subarray(0, 50_000))
})

test('what follows the last whole record may differ after a crash', async () => {
  const storage = await repository()
  const { bytes } = makeWal(1)
  const first = await open([storage])
  first.sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, 50_000))
  await first.sink.close()
  const other = Buffer.from(bytes)
  other[49_990] = (other[49_990] as number) ^ 1
  const { sink } = await open([storage])
  sink.append(1, lsn(BigInt(MB)), other.subarray(0, 60_000))
  assert.equal(await sink.flush(), BigInt(MB + 60_000))
})

test('the end of a timeline leaves its tail as a piece; the next begins at the fork', async () => {
  const storage = await repository()
  const { wal, bytes } = makeWal(1)
  const { sink } = await open([storage])
  sink.append(1, lsn(BigInt(MB)), bytes)
  await sink.endTimeline(1, lsn(wal.position))
  const { tails } = await listWal(storage, 'main', ID)
  assert.deepEqual(
    tails.map(({ parts }) => parts.map(({ piece }) => piece?.to)),
    [[bytes.length - MB]],
  )
  const child = wal.fork(2)
  child.append({ info: 0, resourceManager: 1, mainData: Buffer.alloc(100) })
  const forked = (child.segments.get(2n) as Buffer).subarray(0, Number(child.position) - 2 * MB)
  sink.append(2, lsn(BigInt(2 * MB)), forked)
  await sink.close()
  assertBytes(await tailOf(storage, 2, 1), bytes.subarray(MB))
  assertBytes(await tailOf(storage, 2, 2), forked)
})

test('a slow repository that is not required gets the right bytes', async () => {
  const [required, inner] = [await repository(), await repository()]
  const slow = new ForwardingStorage(inner)
  slow.write = async (key, bytes, options) => {
    await new Promise((resolve) => setTimeout(resolve, 40))
    await inner.write(key, bytes, options)
  }
  const { bytes } = makeWal(4)
  const { sink, events } = await open([required], { others: [slow], patienceMs: 10_000 })
  for (let at = 0; at < bytes.length; at += 300_000) {
    sink.append(1, lsn(BigInt(MB + at)), bytes.subarray(at, at + 300_000))
    await sink.flush()
  }
  await sink.close()
  const behind = events.flatMap((event) => (event.kind === 'behind' ? [event.segment] : []))
  for (let segment = 1; segment <= 4; segment++) {
    const expected = bytes.subarray((segment - 1) * MB, segment * MB)
    assertBytes(await archived(required, segment), expected)
    const found = await archived(inner, segment)
    if (found === undefined) assert.ok(behind.includes(nameOf(segment)))
    else assertBytes(found, expected)
  }
  const tail = await tailOf(inner, 5)
  assert.ok(tail.equals(bytes.subarray(4 * MB, 4 * MB + tail.length)))
})

test('a process that connects again and again leaves one tail', async () => {
  for (const kind of ['journal', 'pieces'] as const) {
    const storage = await repository(kind)
    const { bytes } = makeWal(1)
    for (let round = 1; round <= 4; round++) {
      const { sink } = await open([storage])
      sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, 20_000 * round))
      await sink.close()
      assertBytes(await tailOf(storage, 1), bytes.subarray(0, 20_000 * round))
    }
    // One that ends before the tail does leaves both, until the segment is whole.
    const short = await open([storage])
    short.sink.append(1, lsn(BigInt(MB)), bytes.subarray(0, 5000))
    await short.sink.close()
    assert.equal((await listWal(storage, 'main', ID)).tails.length, 2)
    const last = await open([storage])
    last.sink.append(1, lsn(BigInt(MB)), bytes)
    await last.sink.close()
    const { tails } = await listWal(storage, 'main', ID)
    assert.deepEqual(
      tails.map(({ segment }) => segment),
      [nameOf(2)],
    )
  }
})
