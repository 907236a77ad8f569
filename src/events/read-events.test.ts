/** Reading of indexes where WAL is made by hand: crossings, holes, damage, crashes, forks. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MB, SWITCH, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { segmentKey, walKey, parseWalFileName } from '../archive/wal-file-name.ts'
import { encodeWalObject, hashContent } from '../archive/wal-object.ts'
import { Failure } from '../base/failure.ts'
import { formatSegmentName, lsn } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { buildIndex } from './build-index.ts'
import type { FoldedEvent, FoldedTransaction } from './folded-event.ts'
import { eventsKey } from './index-keys.ts'
import { indexWal } from './index-wal.ts'
import { type ReadEventsOptions, readEvents } from './read-events.ts'
import { writeIndex } from './store-index.ts'

const ID = SYSTEM.toString()
const ARCHIVE = { cluster: 'main', systemIdentifier: ID }
const RM_XLOG = 0
const RM_XACT = 1
const RM_STANDBY = 8
const RM_MESSAGE = 21
const EPOCH = 946_684_800_000_000n

function time(second: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64LE(BigInt(second) * 1_000_000n)
  return bytes
}

function commit(xid: number, second: number, subxids: readonly number[] = []) {
  const list = Buffer.alloc(8 + 4 * subxids.length)
  list.writeUInt32LE(2, 0)
  list.writeUInt32LE(subxids.length, 4)
  for (const [n, subxid] of subxids.entries()) list.writeUInt32LE(subxid, 8 + 4 * n)
  const mainData = subxids.length === 0 ? time(second) : Buffer.concat([time(second), list])
  return { xid, info: subxids.length === 0 ? 0 : 0x80, resourceManager: RM_XACT, mainData }
}

function running(nextXid: number, oldestXid: number) {
  const mainData = Buffer.alloc(24)
  mainData.writeUInt32LE(nextXid, 12)
  mainData.writeUInt32LE(oldestXid, 16)
  return { info: 0x10, resourceManager: RM_STANDBY, mainData }
}

const filler = (bytes: number) => ({
  info: 0,
  resourceManager: RM_MESSAGE,
  mainData: Buffer.alloc(bytes, 0x5a),
})

function fillSegment(wal: SyntheticWal, left: number): void {
  const size = BigInt(wal.sizeBytes)
  const end = (wal.position / size + 1n) * size
  while (end - wal.position > 20_000n) wal.append(filler(4000))
  while (end - wal.position > BigInt(left)) wal.append(filler(40))
}

async function archive(wal: SyntheticWal, timeline = 1, storage = openMemoryStorage()) {
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  for (const [segment, content] of wal.segments) {
    const name = formatSegmentName(timeline, segment, MB)
    await store(storage, name, content, timeline)
  }
  return storage
}

async function store(storage: Storage, name: string, content: Buffer, headerTimeline: number) {
  const object = encodeWalObject({ systemIdentifier: ID, name, headerTimeline, content })
  const file = parseWalFileName(name)
  if (file === undefined) throw new Error(name)
  await storage.write(walKey('main', ID, file, hashContent(content)), object)
}

async function readAll(
  storage: Storage,
  more: Partial<ReadEventsOptions> = {},
): Promise<FoldedEvent[]> {
  const path = { timeline: 1, ancestors: [] }
  const base = { storages: [storage], ...ARCHIVE, walSegmentSizeBytes: MB, path }
  const events: FoldedEvent[] = []
  for await (const event of readEvents({ ...base, from: 'start', to: 'end', ...more })) {
    events.push(event)
  }
  return events
}

function ends(events: readonly FoldedEvent[]): FoldedTransaction[] {
  return events.filter((event) => event.kind === 'transaction')
}

const xids = (events: readonly FoldedEvent[]): number[] => ends(events).map(({ xid }) => xid)

/** Computes and stores the index of every segment, so that it is read from there. */
async function index(storage: Storage): Promise<void> {
  const result = await indexWal({ storages: [storage], ...ARCHIVE, walSegmentSizeBytes: MB })
  assert.deepEqual(result.failed, [])
}

test('a commit that lies across segments is read once, wherever it is cut', async () => {
  for (const left of [8, 24, 400, 12_000]) {
    const wal = new SyntheticWal()
    wal.append(commit(100, 1))
    fillSegment(wal, left)
    const subxids = Array.from({ length: 3000 }, (_, n) => 200 + n)
    const at = wal.append(commit(199, 2, subxids))
    wal.append(commit(5000, 3))
    const storage = await archive(wal)
    const computed = await readAll(storage)
    assert.deepEqual(xids(computed), [100, 199, 5000], `cut ${left} bytes before the end`)
    const found = ends(computed)[1] as FoldedTransaction
    assert.equal(found.lsn, at)
    assert.deepEqual(found.subxids, subxids)
    assert.equal(found.time, EPOCH + 2_000_000n)
    await index(storage)
    assert.deepEqual(await readAll(storage), computed)
  }
})

test('a commit that is longer than a segment', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(100, 1))
  const subxids = Array.from({ length: 700_000 }, (_, n) => 200 + n)
  wal.append(commit(199, 2, subxids))
  wal.append(commit(900_000, 3))
  assert.ok(wal.segments.size >= 3)
  const storage = await archive(wal)
  await index(storage)
  const events = await readAll(storage)
  assert.deepEqual(xids(events), [100, 199, 900_000])
  assert.equal(ends(events)[1]?.subxids.length, 700_000)
})

test('a record that the server gave up after a crash is no damage', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(100, 1))
  fillSegment(wal, 100)
  const given = wal.append(
    commit(
      199,
      2,
      Array.from({ length: 3000 }, (_, n) => n + 1),
    ),
  )
  const next = (given / BigInt(MB) + 1n) * BigInt(MB)
  wal.cutAt(next)
  wal.last = given
  wal.overwriteContinuation()
  const overwritten = Buffer.alloc(16)
  overwritten.writeBigUInt64LE(given)
  wal.append({ info: 0xd0, resourceManager: RM_XLOG, mainData: overwritten })
  wal.append(commit(300, 3))
  const events = await readAll(await archive(wal))
  assert.deepEqual(xids(events), [100, 300])
  assert.ok(!events.some(({ kind }) => kind === 'gap'))
  assert.ok(events.some((event) => event.kind === 'overwritten' && event.overwrittenLsn === given))
})

test('a hole is told, and what may have lost a part in it is incomplete', async () => {
  const wal = new SyntheticWal()
  wal.append(running(101, 101))
  wal.append(commit(101, 1))
  wal.append(SWITCH)
  wal.append(commit(102, 2))
  wal.append(SWITCH)
  wal.append(commit(103, 3))
  wal.append(running(105, 104))
  wal.append(commit(104, 4))
  wal.append(commit(105, 5))
  const storage = await archive(wal)
  await storage.remove(segmentKey('main', ID, formatSegmentName(1, 2n, MB)))
  const events = await readAll(storage)
  assert.deepEqual(
    ends(events).map(({ xid, isIncomplete }) => [xid, isIncomplete]),
    [
      [101, false],
      [103, true],
      [104, true],
      [105, false],
    ],
  )
  const gap = events.find((event) => event.kind === 'gap')
  assert.deepEqual(
    [gap?.firstSegment, gap?.reason, gap?.lsn],
    [formatSegmentName(1, 2n, MB), 'missing', lsn(2n * BigInt(MB))],
  )
})

test('a damaged index is made good by the segment; a damaged segment is a gap', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(101, 1))
  wal.append(SWITCH)
  wal.append(commit(102, 2))
  wal.append(SWITCH)
  wal.append(commit(103, 3))
  const storage = await archive(wal)
  await index(storage)
  const whole = await readAll(storage)
  const name = formatSegmentName(1, 2n, MB)
  const key = eventsKey('main', ID, name)
  const stored = Buffer.from((await storage.read(key)) as Uint8Array)
  for (let at = 0; at < stored.length; at += 7) {
    const flipped = Buffer.from(stored)
    flipped[at] = (flipped[at] as number) ^ 0x10
    await storage.write(key, flipped)
    const warnings: string[] = []
    const events = await readAll(storage, { onWarning: ({ code }) => warnings.push(code) })
    assert.deepEqual(events, whole, `byte ${at}`)
    // What is not asked for is not proved: the pages.
    assert.ok(warnings.every((code) => code === 'TM1601'))
  }
  await storage.write(key, stored.subarray(0, 100))
  const object = Buffer.from((await storage.read(segmentKey('main', ID, name))) as Uint8Array)
  object[200] = (object[200] as number) ^ 1
  await storage.write(segmentKey('main', ID, name), object)
  const events = await readAll(storage)
  assert.deepEqual(xids(events), [101, 103])
  assert.ok(events.some((event) => event.kind === 'gap' && event.reason === 'damaged'))
})

test('an index of another segment under the key is none', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(101, 1))
  wal.append(SWITCH)
  wal.append(commit(102, 2))
  const storage = await archive(wal)
  await index(storage)
  const [one, two] = [1n, 2n].map((segment) =>
    eventsKey('main', ID, formatSegmentName(1, segment, MB)),
  )
  await storage.write(two as string, (await storage.read(one as string)) as Uint8Array)
  assert.deepEqual(xids(await readAll(storage)), [101, 102])
})

test('ranges of time and of LSNs', async () => {
  const wal = new SyntheticWal()
  const places = new Map<number, bigint>()
  for (let n = 0; n < 40; n++) {
    if (n % 8 === 0) wal.append(running(100 + n, 100 + n))
    places.set(100 + n, wal.append(commit(100 + n, 10 * n)))
    if (n % 4 === 3) wal.append(SWITCH)
  }
  const storage = await archive(wal)
  for (let n = 0; n < 40; n += 7) {
    const all = Array.from({ length: 40 - n }, (_, k) => 100 + n + k)
    const at = EPOCH + BigInt(n) * 10_000_000n
    assert.deepEqual(xids(await readAll(storage, { from: { time: at } })), all)
    assert.deepEqual(xids(await readAll(storage, { from: { time: at - 5n } })), all)
    const position = lsn(places.get(100 + n) as bigint)
    assert.deepEqual(xids(await readAll(storage, { from: { lsn: position } })), all)
    const before = Array.from({ length: n }, (_, k) => 100 + k)
    assert.deepEqual(xids(await readAll(storage, { to: { time: at } })), before)
    assert.deepEqual(xids(await readAll(storage, { to: { lsn: position } })), before)
  }
  assert.deepEqual(xids(await readAll(storage, { from: { time: EPOCH + 10_000_000_000n } })), [])
})

test('few segments are looked at for a moment in a long archive', async () => {
  const wal = new SyntheticWal()
  for (let n = 0; n < 80; n++) {
    wal.append(running(100 + n, 100 + n))
    wal.append(commit(100 + n, n))
    wal.append(SWITCH)
  }
  const storage = await archive(wal)
  await index(storage)
  const seen: string[] = []
  const time = EPOCH + 50_000_000n
  const range = { from: { time }, to: { time: time + 3_000_000n } }
  const events = await readAll(storage, { ...range, onSegment: (name) => seen.push(name) })
  assert.deepEqual(xids(events), [150, 151, 152])
  assert.ok(ends(events).every(({ isIncomplete }) => !isIncomplete))
  assert.ok(seen.length <= 8, `${seen.length} segments`)
})

test('what ran when the server crashed is lost, and said so', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(100, 1))
  wal.append({ xid: 101, info: 0x10, resourceManager: 2, mainData: storageCreate(20_000) })
  wal.append(SWITCH)
  wal.append({ info: 0x00, resourceManager: RM_XLOG, mainData: checkpoint(102n) })
  wal.append(commit(102, 3))
  const events = await readAll(await archive(wal))
  assert.deepEqual(
    ends(events).map(({ xid, outcome }) => [xid, outcome]),
    [
      [100, 'committed'],
      [101, 'lost'],
      [102, 'committed'],
    ],
  )
})

function storageCreate(number: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt32LE(1663, 0)
  bytes.writeUInt32LE(5, 4)
  bytes.writeUInt32LE(number, 8)
  return bytes
}

function checkpoint(nextXid: bigint): Buffer {
  const bytes = Buffer.alloc(88)
  bytes.writeUInt32LE(1, 8)
  bytes.writeUInt32LE(1, 12)
  bytes.writeBigUInt64LE(nextXid, 24)
  return bytes
}

test('along a fork each segment is read once, and the other branch never', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(100, 1))
  wal.append(SWITCH)
  wal.append(commit(101, 2))
  const branch = wal.fork(2)
  const forkLsn = lsn(wal.position)
  wal.append(commit(102, 3))
  wal.append(SWITCH)
  wal.append(commit(103, 4))
  branch.append(commit(202, 3))
  branch.append(SWITCH)
  branch.append(commit(203, 4))
  const storage = await archive(wal)
  for (const [segment, content] of branch.segments) {
    if (segment === 1n) continue
    await store(storage, formatSegmentName(2, segment, MB), content, segment === 2n ? 1 : 2)
  }
  const path = { timeline: 2, ancestors: [{ timeline: 1, endLsn: forkLsn, reason: '' }] }
  const computed = await readAll(storage, { path })
  assert.deepEqual(xids(computed), [100, 101, 202, 203])
  assert.deepEqual(
    ends(computed).map(({ timeline }) => timeline),
    [1, 1, 2, 2],
  )
  await index(storage)
  assert.deepEqual(await readAll(storage, { path }), computed)
  assert.deepEqual(xids(await readAll(storage)), [100, 101, 102, 103])
  // Only the parent's file of the fork's segment: it counts up to the fork.
  await storage.remove(segmentKey('main', ID, formatSegmentName(2, 2n, MB)))
  await storage.remove(segmentKey('main', ID, formatSegmentName(2, 3n, MB)))
  await storage.remove(eventsKey('main', ID, formatSegmentName(2, 2n, MB)))
  assert.deepEqual(xids(await readAll(storage, { path })), [100, 101])
})

test('every storage gets the index, and one that fails is told', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(100, 1))
  const [good, bad] = [await archive(wal), openMemoryStorage()]
  const content = wal.segments.get(1n) as Buffer
  const name = formatSegmentName(1, 1n, MB)
  const source = { systemIdentifier: SYSTEM, timeline: 1, segment: 1n }
  const built = buildIndex({ ...source, bytes: content, contentHash: hashContent(content) })
  const failing: Storage = {
    ...bad,
    write: async () => {
      throw new Failure('TM1506', { message: 'the disk is full', fix: 'make room' })
    },
  }
  const { failures } = await writeIndex([good, failing], ARCHIVE, name, built)
  assert.equal(failures.length, 1)
  assert.ok((await good.read(eventsKey('main', ID, name))) !== undefined)
})
