import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { MB, SWITCH, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { Failure } from '../base/failure.ts'
import { NO_ANCESTORS, type TimelineHistory } from '../postgres/history-file.ts'
import { formatSegmentName, lsn } from '../postgres/lsn.ts'
import type { WalEvent } from '../postgres/wal-event.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { checkWal } from './check-wal.ts'
import { type ScannedRecord, type ScanWalOptions, scanWal } from './scan-wal.ts'
import { segmentKey } from './wal-file-name.ts'
import { encodeWalObject } from './wal-object.ts'

const ID = SYSTEM.toString()
const FIRST = lsn(BigInt(MB))

let objects: Map<string, Uint8Array>
let storage: Storage

beforeEach(async () => {
  objects = new Map()
  storage = openMemoryStorage(objects)
  await ensureSystemIdentity(storage, 'main', {
    systemIdentifier: ID,
    major: 15,
    walSegmentSizeBytes: MB,
    createdAt: '2026-11-21T00:00:00.000Z',
  })
})

const alone = (timeline: number): TimelineHistory => ({ timeline, ancestors: NO_ANCESTORS })

function keyOf(timeline: number, segment: bigint): string {
  return segmentKey('main', ID, formatSegmentName(timeline, segment, MB))
}

function archive(wal: SyntheticWal, timeline: number, only?: readonly bigint[]): void {
  for (const [segment, content] of wal.segments) {
    if (only !== undefined && !only.includes(segment)) continue
    const name = formatSegmentName(timeline, segment, MB)
    const headerTimeline = content.readUInt32LE(4)
    const object = { systemIdentifier: ID, name, headerTimeline, content }
    objects.set(keyOf(timeline, segment), encodeWalObject(object))
  }
}

/** A commit record of `xid`, one second after the other. */
const commit = (xid: number, padding = 0) => {
  const mainData = Buffer.alloc(8 + padding)
  mainData.writeBigInt64LE(BigInt(xid) * 1_000_000n)
  return { xid, info: 0, resourceManager: 1, mainData }
}

type Options = Partial<ScanWalOptions> & { readonly faults?: 'throw' | 'end' }

/** Throws what the scan ends with, unless told otherwise. */
async function scan({ faults, ...options }: Options = {}) {
  const xids: number[] = []
  const kinds: string[] = []
  const visit = (record: ScannedRecord, event: WalEvent | undefined): boolean => {
    if (event?.kind === 'commit') xids.push(event.xid)
    else if (event !== undefined) kinds.push(event.kind)
    return options.visit?.(record, event) === true
  }
  const source = { storages: [storage], cluster: 'main', systemIdentifier: ID }
  const size = { walSegmentSizeBytes: MB }
  const given = { ...source, ...size, path: alone(1), start: { at: FIRST } }
  const end = await scanWal({ ...given, ...options, visit })
  if (end.fault !== undefined && faults !== 'end') throw end.fault.failure
  return { xids, kinds, end }
}

/** Commits 1, 2, … until `segments` segments are full; the last record goes on behind them. */
function fill(wal: SyntheticWal, segments: number, padding = 5000): number {
  let xid = 0
  while (wal.segments.size <= segments) wal.append(commit(++xid, padding))
  return xid
}

const fails = (code: string, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error))
  assert.equal(error.code, code)
  assert.match(`${error.message}; ${error.because}`, text)
  return true
}

test('every commit of several segments, and a clean end of the archive', async () => {
  const wal = new SyntheticWal()
  const xids = fill(wal, 3)
  archive(wal, 1, [1n, 2n, 3n])
  const seen: string[] = []
  const { end, ...read } = await scan({ onSegment: (name) => seen.push(name) })
  assert.deepEqual(
    read.xids,
    Array.from({ length: xids - 1 }, (_, index) => index + 1),
  )
  assert.equal(end.reason, 'archive-end')
  assert.equal(end.nextLsn, wal.last)
  assert.equal(end.last?.endLsn, wal.last)
  assert.equal(end.last?.timeline, 1)
  assert.equal(seen.length, 3)
})

test('a segment ended by a switch is a clean end', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(1))
  wal.append(SWITCH)
  archive(wal, 1)
  const { end, xids, kinds } = await scan()
  assert.deepEqual([xids, kinds, end.reason], [[1], ['switch'], 'archive-end'])
  assert.equal(end.nextLsn, BigInt(2 * MB))
})

test('the visitor ends the scan; from anywhere it begins with the next record', async () => {
  const wal = new SyntheticWal()
  const starts = [1, 2, 3, 4].map((xid) => wal.append(commit(xid)))
  archive(wal, 1)
  const visit = ({ lsn: at }: ScannedRecord): boolean => at >= (starts[1] as bigint)
  const { end, xids } = await scan({ visit })
  assert.deepEqual([xids, end.reason, end.last?.lsn], [[1, 2], 'stopped', starts[1]])
  for (const from of [starts[2] as bigint, (starts[1] as bigint) + 1n]) {
    assert.deepEqual((await scan({ start: { from: lsn(from) } })).xids, [3, 4])
  }
})

test('of two storages, one may lack or have damaged what the other has', async () => {
  const wal = new SyntheticWal()
  fill(wal, 3)
  archive(wal, 1, [1n, 3n])
  const other = new Map(objects)
  archive(wal, 1, [1n, 2n])
  other.set(keyOf(1, 2n), objects.get(keyOf(1, 2n)) as Uint8Array)
  other.delete(keyOf(1, 3n))
  objects.delete(keyOf(1, 2n))
  const bytes = Buffer.from(objects.get(keyOf(1, 1n)) as Uint8Array)
  bytes.writeUInt8(bytes.readUInt8(300) ^ 1, 300)
  objects.set(keyOf(1, 1n), bytes)
  const { end } = await scan({ storages: [storage, openMemoryStorage(other)] })
  assert.deepEqual([end.reason, end.last?.endLsn], ['archive-end', wal.last])
  const alone = await scan({ storages: [storage], faults: 'end' })
  assert.equal(alone.end.reason, 'damage')
})

test('a record that has not the form of its kind is damage, not something else', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(1))
  wal.append({ ...commit(2), mainData: Buffer.alloc(3) })
  wal.append(commit(3))
  archive(wal, 1)
  await assert.rejects(scan(), fails('TM1409', /has not the form/))
  const { xids, end } = await scan({ faults: 'end' })
  assert.deepEqual([xids, end.reason], [[1], 'damage'])
})

test('a hole is a failure that names the segment, or an end where asked', async () => {
  const wal = new SyntheticWal()
  fill(wal, 4)
  archive(wal, 1, [1n, 2n, 4n])
  await assert.rejects(scan(), fails('TM1408', /000000010000000000000003 is missing.*004/))
  const { end, xids } = await scan({ faults: 'end' })
  assert.equal(end.reason, 'hole')
  assert.match(end.fault?.firstSegment ?? '', /03$/)
  assert.match(end.fault?.lastSegment ?? '', /03$/)
  assert.equal(end.fault?.failure.code, 'TM1408')
  assert.ok(xids.length > 100)
})

test('a damaged object is a failure that names the key', async () => {
  const wal = new SyntheticWal()
  fill(wal, 3)
  archive(wal, 1, [1n, 2n, 3n])
  const bytes = objects.get(keyOf(1, 2n)) as Uint8Array
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 0x40
  await assert.rejects(scan(), fails('TM1601', /000000010000000000000002\.wal/))
  const { end } = await scan({ faults: 'end' })
  assert.deepEqual([end.reason, end.fault?.failure.code], ['damage', 'TM1601'])
})

test('a segment that was archived damaged is told from the end of WAL', async () => {
  const wal = new SyntheticWal()
  fill(wal, 3)
  const bytes = wal.segments.get(2n) as Buffer
  bytes[500_000] = (bytes[500_000] as number) ^ 1
  archive(wal, 1, [1n, 2n, 3n])
  await assert.rejects(scan(), fails('TM1409', /segment 000000010000000000000002.*checksum/))
  archive(wal, 1, [1n, 2n])
  objects.delete(keyOf(1, 3n))
  await assert.rejects(scan(), fails('TM1409', /000000010000000000000002/))
})

test('a damaged record at the very end of the last segment is no end of WAL', async () => {
  const wal = new SyntheticWal()
  wal.append(commit(1))
  const last = wal.append(commit(2))
  const bytes = wal.segments.get(1n) as Buffer
  const at = Number(last % BigInt(MB)) + 30
  bytes[at] = (bytes[at] as number) ^ 1
  archive(wal, 1)
  await assert.rejects(scan(), fails('TM1409', /checksum/))
})

test('a last segment that was written in part is a torn end; a torn middle is damage', async () => {
  const wal = new SyntheticWal()
  fill(wal, 2)
  wal.cutAt(BigInt(2 * MB + 40_960))
  archive(wal, 1)
  const { end } = await scan()
  assert.equal(end.reason, 'torn-end')
  const later = new SyntheticWal({ firstSegment: 3n })
  later.append(commit(9))
  archive(later, 1)
  await assert.rejects(scan(), fails('TM1409', /000000010000000000000002/))
})

/** Timeline 1 goes on behind the fork; timeline 2 begins in segment 2. */
function forked() {
  const wal = new SyntheticWal()
  fill(wal, 1)
  wal.append(commit(500))
  const fork = lsn(wal.position)
  const child = wal.fork(2)
  const abandoned = wal.append(commit(1000))
  fillTo(wal, 4n, 1000)
  child.append(commit(2000))
  fillTo(child, 5n, 2000)
  const path: TimelineHistory = {
    timeline: 2,
    ancestors: [{ timeline: 1, endLsn: fork, reason: 'test' }],
  }
  return { wal, child, fork, abandoned, path }
}

function fillTo(wal: SyntheticWal, segment: bigint, from: number): void {
  for (let xid = from + 1; !wal.segments.has(segment); xid++) wal.append(commit(xid, 9000))
}

test('a path crosses the fork, and what the parent wrote behind it is not seen', async () => {
  const { wal, child, path } = forked()
  archive(wal, 1, [1n, 2n, 3n])
  archive(child, 2, [2n, 3n, 4n])
  const { xids, end } = await scan({ path })
  assert.ok(xids.includes(500) && xids.includes(2000))
  assert.ok(!xids.includes(1000))
  assert.equal(end.last?.timeline, 2)
  const parent = await scan({ path: alone(1) })
  assert.ok(parent.xids.includes(1000) && !parent.xids.includes(2000))
})

test('the fork is read from the parent where only that is archived, and not beyond', async () => {
  const { wal, child, fork, path } = forked()
  archive(wal, 1, [1n, 2n, 3n])
  const { xids, end } = await scan({ path })
  assert.equal(xids.at(-1), 500)
  assert.equal(end.reason, 'archive-end')
  assert.equal(end.last?.endLsn, fork)
  archive(child, 2, [3n, 4n])
  await assert.rejects(scan({ path }), fails('TM1408', /000000020000000000000002 is missing/))
  // Replay would ask for the child's file first, and get an error: not even up to the fork.
  assert.ok(!(await scan({ path, faults: 'end' })).xids.includes(500))
})

test('segments that arrive while it runs are no hole', async () => {
  const wal = new SyntheticWal()
  fill(wal, 4)
  archive(wal, 1, [1n, 2n])
  const late = new Proxy(storage, {
    get(target, name: keyof Storage) {
      if (name === 'list') archive(wal, 1, [3n, 4n])
      const value = target[name]
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const { end } = await scan({ storages: [late] })
  assert.equal(end.reason, 'archive-end')
  assert.equal(end.last?.endLsn, wal.last)
})

test('check: missing and damaged segments by name, at both levels', async () => {
  const { wal, child, path } = forked()
  archive(wal, 1, [1n, 2n])
  archive(child, 2, [2n, 3n, 4n])
  const range = { storage, cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }
  const all = { ...range, path, first: 1n, last: 4n }
  for (const level of ['stored', 'full'] as const) {
    assert.deepEqual((await checkWal({ ...all, level })).problems, [])
  }
  objects.delete(keyOf(2, 3n))
  const bytes = objects.get(keyOf(2, 4n)) as Uint8Array
  bytes[300] = (bytes[300] as number) ^ 1
  for (const level of ['stored', 'full'] as const) {
    const { problems, checked } = await checkWal({ ...all, level })
    assert.equal(checked, 4)
    const found = problems.map(({ name, failure }) => [name.slice(-1), failure.code])
    assert.deepEqual(found, [
      ['3', 'TM1408'],
      ['4', 'TM1601'],
    ])
  }
})
