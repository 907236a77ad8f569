/**
 * The sink with a crash, and with an error, at every call to its storage. What it acknowledged is
 * there, byte for byte, and another opening goes on from it.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Fault,
  forEachCrashPoint,
  openFaultyStorage,
  type ProcessLife,
} from '../../test/harness/faulty-storage.ts'
import { MB, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { findWalFile } from '../archive/fetch-wal.ts'
import { listWal } from '../archive/list-wal.ts'
import { findTail } from '../archive/read-tail.ts'
import { Failure } from '../base/failure.ts'
import { formatSegmentName, type Lsn, lsn } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { openWalSink, type WalSink } from './wal-sink.ts'

const ID = SYSTEM.toString()
const PLACE = { cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }
const BYTES = makeWal()

/** A segment, and a part of the next one. */
function makeWal(): Buffer {
  const wal = new SyntheticWal()
  for (let xid = 1; wal.position < BigInt(2 * MB + 60_000); xid++) {
    wal.append({ xid, info: 0, resourceManager: 1, mainData: Buffer.alloc(7000, xid % 251) })
  }
  const all = [1n, 2n].map((one) => wal.segments.get(one) as Buffer)
  return Buffer.concat(all).subarray(0, Number(wal.position) - MB)
}

class PieceStorage extends ForwardingStorage {
  override get openJournal(): undefined {
    return undefined
  }
}

/** `at once`: by flushNow() wherever it can, as synchronous commits are. */
const KINDS = ['journal', 'journal at once', 'pieces'] as const
type Kind = (typeof KINDS)[number]

function as(kind: Kind, storage: Storage): Storage {
  return kind === 'pieces' ? new PieceStorage(storage) : storage
}

async function flush(kind: Kind, sink: WalSink): Promise<Lsn> {
  const flushed = kind === 'journal at once' ? tryNow(sink) : undefined
  return flushed ?? (await sink.flush())
}

let flushedNow = 0

/** As the receiver does: flush() tells of what failed. */
function tryNow(sink: WalSink): Lsn | undefined {
  try {
    const flushed = sink.flushNow?.()
    if (flushed !== undefined) flushedNow++
    return flushed
  } catch {
    return undefined
  }
}

async function prepare(): Promise<Storage> {
  const storage = openMemoryStorage()
  const identity = { major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', { systemIdentifier: ID, ...identity })
  return storage
}

async function open(kind: Kind, storages: readonly Storage[]) {
  const required = storages.map((storage) => as(kind, storage))
  return await openWalSink({ required, cluster: 'main', systemIdentifier: ID, flushEveryMs: 0 })
}

const SOME = [20_000, 250_000, 50_000, MB - 330_000, 30_000]
const STEPS = [...SOME, BYTES.length - SOME.reduce((sum, one) => sum + one, 0)]

/** Streams, beginning where the repositories end; tells what was acknowledged. */
async function stream(
  kind: Kind,
  storages: readonly Storage[],
  acknowledge: (at: number) => void,
): Promise<void> {
  const { sink, resume } = await open(kind, storages)
  let at = resume === undefined ? 0 : Number(resume.lsn) - MB
  let next = 0
  for (const step of STEPS) {
    next += step
    if (next <= at) continue
    sink.append(1, lsn(BigInt(MB + at)), BYTES.subarray(at, next))
    at = next
    acknowledge(Number(await flush(kind, sink)) - MB)
  }
  await sink.close()
}

/** Everything below `acknowledged`, out of the archive and the tails. */
async function requireAll(storage: Storage, acknowledged: number): Promise<void> {
  for (const segment of [1, 2]) {
    const name = formatSegmentName(1, BigInt(segment), MB)
    const begin = (segment - 1) * MB
    const expected = BYTES.subarray(begin, Math.min(acknowledged, begin + MB))
    const request = { storages: [storage], cluster: 'main', systemIdentifier: ID, name }
    const whole = (await findWalFile({ ...request, holes: 'absent' }))?.content
    if (whole !== undefined) assert.ok(whole.equals(BYTES.subarray(begin, begin + MB)))
    const tail = whole === undefined ? await findTail([storage], PLACE, name) : undefined
    assert.equal(tail?.loss, undefined)
    const found = whole ?? tail?.bytes ?? Buffer.alloc(0)
    assert.ok(found.subarray(0, expected.length).equals(expected), `segment ${segment}`)
    assert.ok(found.equals(BYTES.subarray(begin, begin + found.length)), 'a byte too much')
  }
}

for (const kind of KINDS) {
  test(`${kind}: a crash at any call loses nothing that was acknowledged`, async () => {
    let acknowledged = 0
    const crashes = await forEachCrashPoint({
      prepare: async () => {
        acknowledged = 0
        return await prepare()
      },
      run: async (storage) => {
        await stream(kind, [storage], (at) => {
          acknowledged = at
        })
      },
      check: async (storage) => {
        await requireAll(storage, acknowledged)
        await stream(kind, [storage], () => {})
        await requireAll(storage, BYTES.length)
        const { tails, strangers, quarantine } = await listWal(storage, 'main', ID)
        assert.deepEqual([strangers, quarantine], [[], []])
        // Leftovers of the dead are of this very process here: only those of the whole one go.
        assert.ok(tails.every(({ segment }) => segment.endsWith('2') || tails.length < 4))
      },
    })
    assert.ok(crashes > 20, String(crashes))
    if (kind === 'journal at once') assert.ok(flushedNow > 20, `${flushedNow} at once`)
  })

  test(`${kind}: an error at any call fails the flush, the next one makes it good`, async () => {
    for (const fault of ['full', 'refused'] as const) {
      let all = 0
      for (let at = 1; ; at++) {
        const storage = await prepare()
        const faulty = openFaultyStorage(storage, [{ at, kind: fault }])
        all += await streamOn(kind, faulty)
        await requireAll(storage, BYTES.length)
        if (faulty.trace.length < at) break
      }
      // The storing of a segment is tried again by the flush itself.
      assert.ok(all > 5, String(all))
    }
  })
}

/** As a receiver does: what fails is tried again; returns how often that was. */
async function streamOn(kind: Kind, storage: Storage): Promise<number> {
  let failures = 0
  const again = async <T>(act: () => Promise<T>): Promise<T> => {
    for (;;) {
      try {
        return await act()
      } catch (error) {
        if (!(error instanceof Failure) || failures > 3) throw error
        failures++
      }
    }
  }
  const { sink } = await again(async () => await open(kind, [storage]))
  let at = 0
  for (const step of STEPS) {
    sink.append(1, lsn(BigInt(MB + at)), BYTES.subarray(at, at + step))
    at += step
    assert.equal(await again(async () => await flush(kind, sink)), BigInt(MB + at))
  }
  await sink.close()
  return failures
}

test('two required repositories: a crash at any call of either', async () => {
  for (const [when, kind] of [
    ['before', 'journal'],
    ['after', 'journal at once'],
  ] as const) {
    for (let at = 1; ; at += 2) {
      const [one, two] = [await prepare(), await prepare()]
      const life: ProcessLife = {}
      const faults: Fault[] = [{ at, kind: 'crash', when }]
      const faulty = openFaultyStorage(two, faults, life)
      const beside = openFaultyStorage(one, [], life)
      let acknowledged = 0
      const told = (done: number) => {
        acknowledged = done
      }
      const run = stream(kind, [beside, faulty], told)
      if (
        await run.then(
          () => true,
          () => false,
        )
      )
        break
      assert.ok(life.crash !== undefined)
      for (const storage of [one, two]) await requireAll(storage, acknowledged)
      await stream('journal', [one, two], () => {})
      for (const storage of [one, two]) await requireAll(storage, BYTES.length)
    }
  }
})

test('two sinks at once on one repository: each keeps what it has acknowledged', async () => {
  for (const kind of KINDS) {
    const storage = await prepare()
    const [fast, slow] = [await open(kind, [storage]), await open(kind, [storage])]
    let behind = 0
    for (let at = 0; at < BYTES.length; at += 90_000) {
      fast.sink.append(1, lsn(BigInt(MB + at)), BYTES.subarray(at, at + 90_000))
      const done = Number(await fast.sink.flush()) - MB
      if (at % 180_000 === 0 && behind < at) {
        slow.sink.append(1, lsn(BigInt(MB + behind)), BYTES.subarray(behind, behind + 90_000))
        behind += 90_000
        assert.equal(await slow.sink.flush(), BigInt(MB + behind))
      }
      await requireAll(storage, done)
    }
    slow.sink.append(1, lsn(BigInt(MB + behind)), BYTES.subarray(behind))
    await slow.sink.close()
    await fast.sink.close()
    await requireAll(storage, BYTES.length)
    const { quarantine } = await listWal(storage, 'main', ID)
    assert.deepEqual(quarantine, [])
  }
})
