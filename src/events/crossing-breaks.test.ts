/**
 * Breaks whose record crosses into the next segment get their mark, whichever of the two segments
 * comes last, whoever indexes them and whenever he dies.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { collect, forEachCrashPoint } from '../../test/harness/faulty-storage.ts'
import { interleave } from '../../test/harness/interleaving.ts'
import {
  MB,
  PAGE,
  type RecordSpecification,
  SYSTEM,
  SyntheticWal,
} from '../../test/harness/wal-builder.ts'
import { type BreakKind, breakKey, breakPrefix } from '../archive/break-mark.ts'
import { segmentKey } from '../archive/wal-file-name.ts'
import { encodeWalObject } from '../archive/wal-object.ts'
import { formatSegmentName, lsn, type Timeline } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { eventsKey } from './index-keys.ts'
import { indexSegment } from './index-segment.ts'
import { indexWal } from './index-wal.ts'

const ID = SYSTEM.toString()
const ARCHIVE = { cluster: 'main', systemIdentifier: ID }

function parameters(walLevel: number): RecordSpecification {
  const mainData = Buffer.alloc(28, 1)
  mainData.writeUInt32LE(walLevel, 20)
  return { info: 0x60, resourceManager: 0, mainData }
}

const pageWrites = (on: number): RecordSpecification => ({
  info: 0x80,
  resourceManager: 0,
  mainData: Buffer.from([on]),
})

interface Case {
  readonly kind: BreakKind
  readonly record: RecordSpecification
  /** Bytes of the record in its first segment. */
  readonly left: number
}

/** Every cut: records begin at multiples of 8. */
const CASES: readonly Case[] = [
  ...[8, 16, 24, 32, 40, 48].map(
    (left): Case => ({ kind: 'minimal', record: parameters(0), left }),
  ),
  ...[8, 16, 24].map((left): Case => ({ kind: 'fpw-off', record: pageWrites(0), left })),
]
const [ONE] = CASES as [Case, ...Case[]]

/** Segments 1 and 2 with the record across, and ordinary ones beside it. */
function crossing(record: RecordSpecification, left: number): { wal: SyntheticWal; at: bigint } {
  const wal = new SyntheticWal()
  for (let page = 1; page < MB / PAGE; page++) wal.fillPage(0)
  wal.fillPage(left)
  const at = wal.append(record)
  wal.append(parameters(1))
  return { wal, at }
}

async function newArchive(): Promise<Storage> {
  const storage = openMemoryStorage()
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  return storage
}

const nameOf = (segment: bigint, timeline: Timeline = 1): string =>
  formatSegmentName(timeline, segment, MB)

async function put(storage: Storage, wal: SyntheticWal, segment: bigint, timeline: Timeline = 1) {
  const [content, name] = [wal.segments.get(segment) as Buffer, nameOf(segment, timeline)]
  const object = { systemIdentifier: ID, name, headerTimeline: 1, content }
  await storage.write(segmentKey('main', ID, name), encodeWalObject(object))
}

async function index(storage: Storage, wal: SyntheticWal, segment: bigint, timeline: Timeline = 1) {
  const [bytes, name] = [wal.segments.get(segment) as Buffer, nameOf(segment, timeline)]
  const { failures } = await indexSegment({ ...ARCHIVE, storages: [storage], name, bytes })
  const [first] = failures
  if (first !== undefined) throw first.failure.cause ?? first.failure
}

const marksIn = async (storage: Storage): Promise<string[]> =>
  (await collect(storage.list(breakPrefix('main', ID)))).map(({ key }) => key)

const markOf = (kind: BreakKind, at: bigint, timeline: Timeline = 1): string =>
  breakKey('main', ID, { timeline, lsn: lsn(at), kind })

const hasIndex = async (storage: Storage, segment: bigint, timeline: Timeline = 1) =>
  (await storage.size(eventsKey('main', ID, nameOf(segment, timeline)))) !== undefined

const ORDERS: readonly (readonly string[])[] = [
  ['put 1', 'index 1', 'put 2', 'index 2'],
  ['put 2', 'index 2', 'put 1', 'index 1'],
  ['put 1', 'put 2', 'index 1'],
  ['put 1', 'put 2', 'index 2'],
]

test('every cut of the record, whichever segment is there first', async () => {
  for (const { kind, record, left } of CASES) {
    const { wal, at } = crossing(record, left)
    assert.equal(at, BigInt(2 * MB - left))
    for (const order of ORDERS) {
      const storage = await newArchive()
      for (const step of order) {
        assert.deepEqual(await marksIn(storage), [])
        const segment = BigInt(step.slice(-1))
        await (step.startsWith('put') ? put : index)(storage, wal, segment)
      }
      assert.deepEqual(await marksIn(storage), [markOf(kind, at)], `${kind} ${left}: ${order}`)
    }
  }
})

test('derived: a rebuild in threads gives it again', async () => {
  for (const { kind, record, left } of [ONE, CASES[8]] as Case[]) {
    const { wal, at } = crossing(record, left)
    const storage = await newArchive()
    for (const segment of [1n, 2n]) await put(storage, wal, segment)
    const options = { ...ARCHIVE, storages: [storage], walSegmentSizeBytes: MB }
    assert.deepEqual((await indexWal(options)).failed, [])
    const key = markOf(kind, at)
    assert.deepEqual(await marksIn(storage), [key])
    const bytes = await storage.read(key)
    await storage.remove(key)
    await indexWal({ ...options, rebuild: true })
    assert.deepEqual(await storage.read(key), bytes)
  }
})

test('two processes at the same time, in any order of their calls', async () => {
  const { wal, at } = crossing(ONE.record, ONE.left)
  for (let seed = 1; seed <= 80; seed++) {
    const storage = await newArchive()
    const actors = [1n, 2n].map((segment) => ({
      name: `of ${segment}`,
      async run(seen: Storage) {
        await put(seen, wal, segment)
        await index(seen, wal, segment)
      },
    }))
    const outcomes = await interleave(storage, actors, seed, () => {})
    for (const { result } of outcomes) assert.equal(result?.status, 'fulfilled')
    assert.deepEqual(await marksIn(storage), [markOf(ONE.kind, at)], `seed ${seed}`)
  }
})

test('killed at any call, what has its indexes has the mark, and the rest gets it', async () => {
  const { wal, at } = crossing(ONE.record, ONE.left)
  const key = markOf(ONE.kind, at)
  for (const order of ORDERS.slice(0, 2)) {
    const crashes = await forEachCrashPoint({
      prepare: newArchive,
      async run(storage) {
        for (const step of order) {
          await (step.startsWith('put') ? put : index)(storage, wal, BigInt(step.slice(-1)))
        }
      },
      async check(storage) {
        if ((await hasIndex(storage, 1n)) && (await hasIndex(storage, 2n))) {
          assert.deepEqual(await marksIn(storage), [key])
        }
        for (const segment of [1n, 2n]) await put(storage, wal, segment)
        // As `wal index` does.
        for (const segment of [1n, 2n]) {
          if (!(await hasIndex(storage, segment))) await index(storage, wal, segment)
        }
        assert.deepEqual(await marksIn(storage), [key])
      },
    })
    assert.ok(crashes >= 10, String(crashes))
  }
})

test('what only resembles a break has no mark', async () => {
  const others: [RecordSpecification, number][] = [
    [parameters(1), 24],
    [pageWrites(1), 16],
    [{ ...parameters(0), isDamaged: true }, 24],
    [{ ...parameters(0), isDamaged: true }, 8],
    [{ ...parameters(0), info: 0x70 }, 16],
    [{ ...parameters(0), resourceManager: 21 }, 40],
    [{ ...pageWrites(0), info: 0x20 }, 8],
  ]
  for (const [record, left] of others) {
    const { wal } = crossing(record, left)
    const storage = await newArchive()
    for (const segment of [1n, 2n]) await put(storage, wal, segment)
    for (const segment of [1n, 2n]) await index(storage, wal, segment)
    assert.deepEqual(await marksIn(storage), [], `${JSON.stringify(record)} ${left}`)
  }
})

test('a record that the server gave up after a crash is none', async () => {
  const { wal, at } = crossing(ONE.record, ONE.left)
  wal.cutAt(BigInt(2 * MB))
  wal.last = at
  wal.overwriteContinuation()
  wal.append(parameters(1))
  const storage = await newArchive()
  for (const segment of [1n, 2n]) await put(storage, wal, segment)
  for (const segment of [1n, 2n]) await index(storage, wal, segment)
  assert.deepEqual(await marksIn(storage), [])
})

test('of another branch the rest does not fit; behind a fork it is on the other one', async () => {
  const { kind, record, left } = CASES[3] ?? assert.fail()
  const { wal, at } = crossing(record, left)
  for (const order of ORDERS) {
    const storage = await newArchive()
    for (const step of order) {
      const segment = BigInt(step.slice(-1))
      const timeline = segment === 2n ? 2 : 1
      await (step.startsWith('put') ? put : index)(storage, wal, segment, timeline)
    }
    assert.deepEqual(await marksIn(storage), [markOf(kind, at)], `${order}`)
  }
  const other = crossing({ ...record, mainData: Buffer.from(record.mainData).fill(9, 24) }, left)
  const storage = await newArchive()
  await put(storage, wal, 1n)
  await put(storage, other.wal, 2n, 2)
  await index(storage, wal, 1n)
  await index(storage, other.wal, 2n, 2)
  assert.deepEqual(await marksIn(storage), [])
})

test('a neighbour that is damaged counts as missing, until it is whole', async () => {
  const { wal, at } = crossing(ONE.record, ONE.left)
  const storage = await newArchive()
  await put(storage, wal, 1n)
  const key = segmentKey('main', ID, nameOf(1n))
  const bytes = Buffer.from((await storage.read(key)) as Uint8Array)
  bytes[200] = (bytes[200] as number) ^ 1
  await storage.write(key, bytes)
  await put(storage, wal, 2n)
  await index(storage, wal, 2n)
  assert.deepEqual(await marksIn(storage), [])
  await put(storage, wal, 1n)
  await index(storage, wal, 1n)
  assert.deepEqual(await marksIn(storage), [markOf(ONE.kind, at)])
})
