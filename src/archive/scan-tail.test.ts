/** The end of WAL that only a tail has: what recovery reads of it, and what it refuses. */
import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import fc from 'fast-check'
import { MB, SWITCH, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { NO_ANCESTORS, type TimelineHistory } from '../postgres/history-file.ts'
import { formatSegmentName, type Lsn, lsn } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { type ScanEnd, scanWal } from './scan-wal.ts'
import { encodeTailChunk, encodeTailHead, encodeTailPiece, type TailHead } from './tail-format.ts'
import { journalKey, pieceKey } from './tail-keys.ts'
import { segmentKey } from './wal-file-name.ts'
import { encodeWalObject } from './wal-object.ts'

const ID = SYSTEM.toString()

let objects: Map<string, Uint8Array>
let storage: Storage

async function newStorage(map: Map<string, Uint8Array>): Promise<Storage> {
  const opened = openMemoryStorage(map)
  const identity = { major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(opened, 'main', { systemIdentifier: ID, ...identity })
  return opened
}

beforeEach(async () => {
  objects = new Map()
  storage = await newStorage(objects)
})

const alone = (timeline: number): TimelineHistory => ({ timeline, ancestors: NO_ANCESTORS })
const nameOf = (timeline: number, segment: bigint) => formatSegmentName(timeline, segment, MB)

function archive(wal: SyntheticWal, timeline: number, segments: readonly bigint[]): void {
  for (const segment of segments) {
    const content = wal.segments.get(segment) as Buffer
    const name = nameOf(timeline, segment)
    const object = { systemIdentifier: ID, name, headerTimeline: 1, content }
    objects.set(segmentKey('main', ID, name), encodeWalObject(object))
  }
}

let openings = 0

function headOf(timeline: number, segment: bigint): TailHead {
  openings += 1
  const opening = openings.toString(16).padStart(16, '0')
  const rest = { walSegmentSizeBytes: MB, opening, writer: '', startedAt: '' }
  return { systemIdentifier: ID, segment: nameOf(timeline, segment), ...rest }
}

function tailBytes(wal: SyntheticWal, segment: bigint, length: number): Buffer {
  return (wal.segments.get(segment) as Buffer).subarray(0, length)
}

async function writePiece(
  wal: SyntheticWal,
  timeline: number,
  segment: bigint,
  length: number,
  into: Map<string, Uint8Array> = objects,
): Promise<void> {
  const head = headOf(timeline, segment)
  const key = pieceKey('main', ID, head.segment, head.opening, 0, length)
  into.set(key, encodeTailPiece(head, 0, [tailBytes(wal, segment, length)]))
}

/** Three chunks of the same length. */
async function writeJournal(wal: SyntheticWal, segment: bigint, length: number): Promise<string> {
  const head = headOf(1, segment)
  const key = journalKey('main', ID, head.segment, head.opening)
  const journal = await storage.openJournal?.(key, encodeTailHead(head))
  const bytes = tailBytes(wal, segment, length)
  const step = Math.ceil(length / 3)
  for (let at = 0; at < length; at += step) {
    const start = lsn(segment * BigInt(MB) + BigInt(at))
    journal?.append(encodeTailChunk(start, [bytes.subarray(at, at + step)]))
  }
  await journal?.close()
  return key
}

const commit = (xid: number, padding = 0) => {
  const mainData = Buffer.alloc(8 + padding, xid)
  mainData.writeBigInt64LE(BigInt(xid) * 1_000_000n)
  return { xid, info: 0, resourceManager: 1, mainData }
}

/** Where each commit ends, by its xid. */
function fill(
  wal: SyntheticWal,
  until: bigint,
  padding: (xid: number) => number,
): Map<number, bigint> {
  const ends = new Map<number, bigint>()
  for (let xid = 1; wal.position < until; xid++) {
    wal.append(commit(xid, padding(xid)))
    ends.set(xid, wal.position)
  }
  return ends
}

interface Scanned {
  readonly xids: number[]
  readonly end: ScanEnd
}

async function scan(
  path = alone(1),
  storages: readonly Storage[] = [storage],
  onSegment: (name: string) => void = () => {},
): Promise<Scanned> {
  const xids: number[] = []
  const end = await scanWal({
    storages,
    cluster: 'main',
    systemIdentifier: ID,
    walSegmentSizeBytes: MB,
    path,
    start: { at: lsn(BigInt(MB)) },
    onSegment,
    visit: (_record, event) => {
      if (event?.kind === 'commit') xids.push(event.xid)
      return false
    },
  })
  return { xids, end }
}

test('of a tail that ends anywhere all whole records count; its end is no damage', async () => {
  const wal = new SyntheticWal()
  const ends = fill(wal, BigInt(2 * MB + 90_000), (xid) => (xid * 977) % 21_000)
  const begin = BigInt(2 * MB)
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 89_000 }), fc.nat(3), async (free, near) => {
      // As often as not close behind a record or the header of a page.
      const places = [...ends.values()].filter((one) => one > begin)
      const close = Number((places[free % places.length] as bigint) - begin) - 4 * near + 6
      const pages = (free % 10) * 8192 + 8 * near
      const length = Math.max(1, [free, close, pages, free][near] as number)
      objects.clear()
      storage = await newStorage(objects)
      archive(wal, 1, [1n])
      await writePiece(wal, 1, 2n, length)
      const { xids, end } = await scan()
      // The zeros behind a record up to its alignment need not be there.
      const reached = begin + BigInt(Math.ceil(length / 8) * 8)
      const expected = [...ends].filter(([, at]) => at <= reached).map(([xid]) => xid)
      const exact = expected.length === xids.length || expected.length === xids.length + 1
      assert.ok(exact, `${length}: ${xids.length} of ${expected.length}`)
      assert.equal(end.reason, 'torn-end', `${length}: ${end.fault?.failure.message}`)
      const certain = [...ends].filter(([, at]) => at <= begin + BigInt(length))
      assert.ok(xids.length >= certain.length, `${length}: a whole record is not seen`)
    }),
    { numRuns: 80 },
  )
})

test('a tail of a segment that a record fills, and one that ends with a switch', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(1))
  wal.append(SWITCH)
  await writePiece(wal, 1, 1n, MB)
  const { xids, end } = await scan()
  assert.deepEqual([xids, end.reason], [[1], 'archive-end'])
})

test('tails of two segments in a row are read one after the other', async () => {
  const wal = new SyntheticWal()
  const ends = fill(wal, BigInt(3 * MB + 50_000), () => 9000)
  archive(wal, 1, [1n])
  await writePiece(wal, 1, 2n, MB)
  await writeJournal(wal, 3n, 50_000)
  const { xids, end } = await scan()
  const reached = BigInt(3 * MB + 50_000)
  assert.equal(xids.length, [...ends.values()].filter((at) => at <= reached).length)
  assert.equal(end.reason, 'torn-end')
})

test('of several repositories the tail that reaches furthest is taken', async () => {
  const wal = new SyntheticWal()
  fill(wal, BigInt(MB + 90_000), () => 3000)
  const other = new Map<string, Uint8Array>()
  const second = await newStorage(other)
  await writePiece(wal, 1, 1n, 20_000)
  await writePiece(wal, 1, 1n, 90_000, other)
  const less = (await scan()).xids.length
  const { xids } = await scan(alone(1), [storage, second])
  assert.ok(xids.length > less + 10)
  assert.equal((await scan(alone(1), [second, storage])).xids.length, xids.length)
})

test('a whole segment counts, however far a tail of it goes', async () => {
  const wal = new SyntheticWal()
  fill(wal, BigInt(2 * MB), () => 3000)
  archive(wal, 1, [1n])
  const before = (await scan()).xids
  await writePiece(wal, 1, 1n, 50_000)
  assert.deepEqual((await scan()).xids, before)
})

test('a later segment makes what a tail lacks a hole', async () => {
  const wal = new SyntheticWal()
  fill(wal, BigInt(4 * MB), () => 9000)
  archive(wal, 1, [1n, 3n])
  await writePiece(wal, 1, 2n, 50_000)
  const { xids, end } = await scan()
  assert.equal(end.reason, 'hole')
  assert.equal(end.fault?.firstSegment, nameOf(1, 2n))
  assert.ok(xids.length > 116, 'the tail itself is read')
})

test('a segment that a receiver completes while its tail is read is no hole', async () => {
  const wal = new SyntheticWal()
  fill(wal, BigInt(4 * MB), () => 9000)
  archive(wal, 1, [1n])
  await writePiece(wal, 1, 2n, 50_000)
  const before = await scan()
  const { xids, end } = await scan(alone(1), [storage], (name) => {
    if (name === nameOf(1, 2n)) archive(wal, 1, [2n, 3n])
  })
  assert.equal(end.reason, 'torn-end')
  assert.equal(end.fault, undefined)
  assert.deepEqual(xids, before.xids, 'the archive as it was')
  const after = await scan()
  assert.ok(after.xids.length > xids.length)
})

test('a damaged chunk before later ones ends the scan as damage', async () => {
  const wal = new SyntheticWal()
  fill(wal, BigInt(MB + 90_000), () => 3000)
  const key = await writeJournal(wal, 1n, 90_000)
  const all = (await scan()).xids.length
  const bytes = Buffer.from(objects.get(key) as Uint8Array)
  bytes[50_000] = (bytes[50_000] as number) ^ 1
  objects.set(key, new Uint8Array(bytes))
  const { xids, end } = await scan()
  assert.deepEqual([end.reason, end.fault?.failure.code], ['damage', 'TM1441'])
  assert.ok(xids.length > 5 && xids.length < all)
  // Another copy that reaches as far makes it good.
  await writePiece(wal, 1, 1n, 90_000)
  assert.deepEqual((await scan()).xids.length, all)
  assert.equal((await scan()).end.reason, 'torn-end')
})

test('tails that contradict each other within records are refused', async () => {
  const wal = new SyntheticWal()
  fill(wal, BigInt(MB + 90_000), () => 3000)
  await writePiece(wal, 1, 1n, 60_000)
  const other = new SyntheticWal()
  fill(other, BigInt(MB + 90_000), () => 3100)
  await writePiece(other, 1, 1n, 50_000)
  const { end } = await scan()
  assert.deepEqual([end.reason, end.fault?.failure.code], ['damage', 'TM1443'])
})

/** Timeline 1 goes on behind the fork, which lies in segment 2; timeline 2 begins there. */
function forked() {
  const wal = new SyntheticWal()
  fill(wal, BigInt(2 * MB + 40_000), () => 5000)
  const fork = lsn(wal.position) as Lsn
  const child = wal.fork(2)
  wal.append(commit(1000))
  fill(wal, BigInt(2 * MB + 80_000), () => 5000)
  child.append(commit(2000))
  const path: TimelineHistory = {
    timeline: 2,
    ancestors: [{ timeline: 1, endLsn: fork, reason: '' }],
  }
  return { wal, child, fork, path, forkAt: Number(fork) - 2 * MB }
}

test('a tail of the new timeline goes on behind the fork; the old one keeps its own', async () => {
  const { wal, child, path, forkAt } = forked()
  archive(wal, 1, [1n])
  await writePiece(wal, 1, 2n, 80_000)
  await writePiece(child, 2, 2n, Number(child.position) - 2 * MB)
  const onPath = await scan(path)
  assert.ok(onPath.xids.includes(2000) && !onPath.xids.includes(1000))
  assert.equal(onPath.end.reason, 'torn-end')
  const old = await scan(alone(1))
  assert.ok(old.xids.includes(1000) && !old.xids.includes(2000))
  assert.ok(forkAt > 0)
})

test('a tail of the new timeline that ends before the fork hides nothing', async () => {
  const { wal, child, fork, path } = forked()
  archive(wal, 1, [1n])
  await writePiece(child, 2, 2n, 10_000)
  await writePiece(wal, 1, 2n, 80_000)
  const { end, xids } = await scan(path)
  assert.equal(end.last?.endLsn, fork)
  assert.ok(!xids.includes(1000))
  objects.delete([...objects.keys()].find((key) => key.includes('00013880.piece')) ?? '')
  archive(wal, 1, [2n])
  assert.equal((await scan(path)).end.last?.endLsn, fork)
})

test('a tail that does not continue the segment before it is no end of WAL', async () => {
  const wal = new SyntheticWal()
  fill(wal, BigInt(2 * MB + 50_000), () => 9000)
  archive(wal, 1, [1n])
  const other = new SyntheticWal({ firstSegment: 2n })
  other.append(commit(1, 9000))
  other.append(commit(2, 9000))
  await writePiece(other, 1, 2n, 18_000)
  assert.equal((await scan()).end.reason, 'damage')
})
