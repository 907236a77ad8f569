/** The filler and what is taken from it, in a directory that no server runs in. */
import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { keptBytes, pageCacheUntold, writeSynced } from '../../test/harness/page-cache.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { waitingSegment } from '../../test/harness/waiting-directory.ts'
import { PausingStorage } from '../../test/harness/pausing-storage.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { lsn } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { formatProcessIdentity, readProcessIdentity } from '../storage/process-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { CodecPool } from './codec-pool.ts'
import { fetchAhead } from './fetch-ahead.ts'
import { type FillOutcome, fillSpool } from './fill-spool.ts'
import { planFill, spoolLimit } from './plan-fill.ts'
import { aimSpool, ensureSpool, isSpoolValid, spoolOf } from './spool.ts'
import { segmentKey } from './wal-file-name.ts'
import { encodeWalObject } from './wal-object.ts'

const ID = SYSTEM.toString()
const nameOf = (number: bigint): string => waitingSegment(number).name

async function makeStorage(count: number): Promise<Storage> {
  const storage = openMemoryStorage()
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  for (let number = 1n; number <= count; number++) await archive(storage, number)
  return storage
}

async function archive(storage: Storage, number: bigint): Promise<void> {
  const { name, content } = waitingSegment(number)
  const object = { systemIdentifier: ID, name, headerTimeline: 1, content }
  await storage.write(segmentKey('main', ID, name), encodeWalObject(object))
}

/** A directory that recovers, as far as can be seen. */
function makeRecovery() {
  const data = temporaryDirectory()
  mkdirSync(join(data, 'pg_wal'))
  writeFileSync(join(data, 'postmaster.pid'), `${process.pid}\n${data}\n`)
  writeFileSync(join(data, 'recovery.signal'), '')
  const spool = spoolOf(data)
  const held = (): string[] =>
    existsSync(spool.directory)
      ? readdirSync(spool.directory)
          .filter((name) => /^[0-9A-F]{24}$/.test(name))
          .sort()
      : []
  const destination = join(data, 'pg_wal/RECOVERYXLOG')
  return { data, spool, held, destination }
}

type Recovery = ReturnType<typeof makeRecovery>

async function waitUntil(holds: () => boolean): Promise<void> {
  for (let waited = 0; waited < 1000; waited++) {
    if (holds()) return
    await sleep(10)
  }
  assert.fail('it did not come to pass')
}

const fill = (storage: Storage, { data }: Recovery): Promise<FillOutcome> =>
  fillSpool({
    storages: [storage],
    cluster: 'main',
    systemIdentifier: ID,
    dataDirectory: data,
    timeline: 1,
    threads: 1,
  })

const get = async (
  storage: Storage,
  recovery: Recovery,
  name: string,
  startFiller: () => void = () => {},
  mostComingMs?: number,
) =>
  await fetchAhead({
    storages: [storage],
    cluster: 'main',
    systemIdentifier: ID,
    name,
    destination: recovery.destination,
    dataDirectory: recovery.data,
    startFiller,
    ...(mostComingMs === undefined ? {} : { mostComingMs }),
  })

const names = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => nameOf(BigInt(from + index)))

test('the filler keeps ahead of what is taken, ends where WAL ends, and cleans up', async () => {
  const storage = await makeStorage(20)
  const recovery = makeRecovery()
  const { held, spool, data, destination } = recovery
  assert.equal(await get(storage, recovery, nameOf(1n)), 'fetched')
  const filling = fill(storage, recovery)
  await waitUntil(() => held().length === 16)
  assert.deepEqual(held(), names(2, 17))
  for (let number = 2n; number <= 20n; number++) {
    await waitUntil(() => held().includes(nameOf(number)))
    renameSync(join(spool.directory, nameOf(number)), destination)
    assert.deepEqual(readFileSync(destination), waitingSegment(number).content)
  }
  assert.equal(await get(storage, recovery, nameOf(21n)), 'absent')
  rmSync(join(data, 'recovery.signal'))
  assert.equal(await filling, 'ended')
  assert.deepEqual(readdirSync(join(data, 'pg_wal')), ['RECOVERYXLOG'])
})

for (const signal of ['recovery.signal', 'standby.signal']) {
  const isDropped = signal === 'recovery.signal'
  const what = isDropped ? 'leaves memory' : 'stays in memory on a standby, which may send it on'
  test(`what replay is done with ${what}`, { skip: pageCacheUntold() }, async () => {
    const storage = await makeStorage(9)
    const recovery = makeRecovery()
    const { held, spool, data } = recovery
    renameSync(join(data, 'recovery.signal'), join(data, signal))
    const place = (number: bigint): string => join(data, 'pg_wal', nameOf(number))
    await get(storage, recovery, nameOf(1n))
    writeSynced(place(1n), waitingSegment(1n).content)
    const filling = fill(storage, recovery)
    for (const number of [2n, 3n]) {
      await waitUntil(() => held().includes(nameOf(number)))
      await sleep(50)
      renameSync(join(spool.directory, nameOf(number)), place(number))
    }
    const kept = (): number[] => [1n, 2n, 3n].map((number) => keptBytes(place(number)))
    if (isDropped) await waitUntil(() => kept()[1] === 0)
    else await sleep(500)
    assert.deepEqual(kept(), isDropped ? [0, 0, MB] : [MB, MB, MB])
    rmSync(join(data, signal))
    assert.equal(await filling, 'ended')
  })
}

test('it follows the program back and forth, and drops what is not next', async () => {
  const storage = await makeStorage(60)
  const recovery = makeRecovery()
  const { held, spool, data } = recovery
  await get(storage, recovery, nameOf(30n))
  const filling = fill(storage, recovery)
  await waitUntil(() => held().length === 16)
  await aimSpool(spool, nameOf(4n))
  await waitUntil(() => held()[0] === nameOf(5n) && held().length === 16)
  assert.deepEqual(held(), names(5, 20))
  writeFileSync(join(data, 'postmaster.pid.new'), '1\n')
  renameSync(join(data, 'postmaster.pid.new'), join(data, 'postmaster.pid'))
  assert.equal(await filling, 'ended', 'another start of the server')
  assert.ok(!existsSync(spool.directory))
})

test('what is archived later is found again, as absence is not remembered', async () => {
  const storage = await makeStorage(3)
  const recovery = makeRecovery()
  const { held, data } = recovery
  await get(storage, recovery, nameOf(1n))
  const filling = fill(storage, recovery)
  await waitUntil(() => held().length === 2)
  for (const number of [2n, 3n])
    assert.equal(await get(storage, recovery, nameOf(number)), 'fetched')
  assert.equal(await get(storage, recovery, nameOf(4n)), 'absent')
  for (const number of [4n, 5n, 6n]) await archive(storage, number)
  assert.equal(await get(storage, recovery, nameOf(4n)), 'fetched')
  // It may have begun with 4 before it saw that the program is there already.
  await waitUntil(() => held()[0] === nameOf(5n) && held().length === 2)
  assert.deepEqual(held(), names(5, 6))
  rmSync(join(data, 'recovery.signal'))
  assert.equal(await filling, 'ended')
})

test('a damaged segment ends the filler, is not handed out, and the program names it', async () => {
  const storage = await makeStorage(6)
  const key = segmentKey('main', ID, nameOf(4n))
  const bytes = (await storage.read(key)) as Uint8Array
  bytes[400] = (bytes[400] as number) ^ 1
  await storage.write(key, bytes)
  const recovery = makeRecovery()
  await get(storage, recovery, nameOf(1n))
  assert.equal(await fill(storage, recovery), 'failed')
  assert.ok(!recovery.held().includes(nameOf(4n)))
  const left = readdirSync(recovery.spool.directory)
  assert.ok(!left.some((name) => /\.(part|coming)$/.test(name)), left.join(' '))
  assert.equal(await get(storage, recovery, nameOf(2n)), 'fetched')
  await assert.rejects(get(storage, recovery, nameOf(4n)), { code: 'TM1601' })
})

test('a spool that was taken away ends the filler and is left alone', async () => {
  const storage = await makeStorage(6)
  const recovery = makeRecovery()
  const { spool, held } = recovery
  await get(storage, recovery, nameOf(1n))
  const filling = fill(storage, recovery)
  await waitUntil(() => held().length > 0)
  writeFileSync(join(spool.directory, 'filler'), '1\nanother\n')
  assert.equal(await filling, 'replaced')
  assert.ok(existsSync(spool.directory))
})

test('a spool of another start is not taken from, and the next program clears it', async () => {
  const storage = await makeStorage(3)
  const recovery = makeRecovery()
  const { spool, data } = recovery
  assert.ok(await ensureSpool(spool))
  writeFileSync(join(spool.directory, nameOf(2n)), 'torn')
  rmSync(join(data, 'postmaster.pid'))
  writeFileSync(join(data, 'postmaster.pid'), `${process.pid}\n`)
  assert.equal(await isSpoolValid(spool), false)
  let started = 0
  assert.equal(await get(storage, recovery, nameOf(2n), () => started++), 'fetched')
  assert.deepEqual(readFileSync(recovery.destination), waitingSegment(2n).content)
  assert.equal(started, 1)
  assert.deepEqual(recovery.held(), [])
})

test('of two fillers in one spool neither gives a name to what the other is writing', async (t) => {
  const storage = await makeStorage(2)
  const recovery = makeRecovery()
  const { spool, data } = recovery
  const file = join(spool.directory, nameOf(2n))
  const { content } = waitingSegment(2n)
  await get(storage, recovery, nameOf(1n))
  // The first has written its file, and stands before the rename; the second is half way.
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const reached = [false, false]
  const decode = CodecPool.prototype.decode
  t.mock.method(
    CodecPool.prototype,
    'decode',
    async function pausing(this: CodecPool, job: Parameters<typeof decode>[0]) {
      if (!reached[0]) {
        await decode.call(this, job)
        reached[0] = true
        await first.promise
        return
      }
      writeFileSync(job.path, content.subarray(0, 1000), { flag: 'wx' })
      reached[1] = true
      await second.promise
      writeFileSync(job.path, content)
    },
  )
  const fillings = [fill(storage, recovery)]
  await waitUntil(() => reached[0] === true)
  fillings.push(fill(storage, recovery))
  await waitUntil(() => reached[1] === true)
  first.resolve()
  await Promise.race([fillings[0], sleep(2000)])
  const length = existsSync(file) ? readFileSync(file).length : content.length
  second.resolve()
  rmSync(join(data, 'recovery.signal'))
  await fillings[1]
  assert.equal(length, content.length, 'torn under the name of a segment')
})

test('a filler that stood still puts nothing into the spool of another start', async () => {
  const storage = await makeStorage(3)
  const recovery = makeRecovery()
  const { spool, data } = recovery
  await get(storage, recovery, nameOf(1n))
  const paused = new PausingStorage(storage, (call) => call.includes(`${nameOf(2n)}.wal`))
  const filling = fill(paused, recovery)
  await paused.reached
  rmSync(join(data, 'postmaster.pid'))
  writeFileSync(join(data, 'postmaster.pid'), `${process.pid}\n`)
  assert.ok(await ensureSpool(spool))
  await aimSpool(spool, nameOf(1n))
  paused.resume()
  await filling
  assert.ok(await isSpoolValid(spool), 'nor does it take that away')
  assert.deepEqual(readdirSync(spool.directory).sort(), ['aim', 'server'])
})

test('a filler at work is waited for; one that hangs or is dead is not', async () => {
  const storage = await makeStorage(3)
  const recovery = makeRecovery()
  const { spool } = recovery
  const own = `${process.pid}\n${formatProcessIdentity(readProcessIdentity())}\n`
  const coming = join(spool.directory, `${nameOf(2n)}.coming`)
  const content = waitingSegment(2n).content
  await ensureSpool(spool)
  writeFileSync(join(spool.directory, 'filler'), own)
  writeFileSync(coming, '')
  let started = 0
  const waiting = get(storage, recovery, nameOf(2n), () => started++)
  await sleep(60)
  writeFileSync(join(spool.directory, `${nameOf(2n)}.part`), content)
  renameSync(join(spool.directory, `${nameOf(2n)}.part`), join(spool.directory, nameOf(2n)))
  rmSync(coming)
  assert.equal(await waiting, 'fetched')
  assert.equal(started, 0)

  writeFileSync(coming, '')
  const longAgo = new Date(Date.now() - 60_000)
  utimesSync(coming, longAgo, longAgo)
  assert.equal(await get(storage, recovery, nameOf(2n), () => started++), 'fetched')
  assert.equal(started, 1, 'the spool was taken away from it')

  writeFileSync(join(spool.directory, 'filler'), own.replaceAll(String(process.pid), '999999999'))
  writeFileSync(coming, '')
  assert.equal(await get(storage, recovery, nameOf(2n), () => started++), 'fetched')
  assert.equal(started, 2)
})

test('a slow link: a filler that says that it is at work is waited for', async () => {
  const storage = await makeStorage(2)
  const recovery = makeRecovery()
  const { spool, data } = recovery
  await get(storage, recovery, nameOf(1n))
  const slow = new PausingStorage(storage, (call) => call.includes(`${nameOf(2n)}.wal`))
  const filling = fill(slow, recovery)
  await slow.reached
  const coming = join(spool.directory, `${nameOf(2n)}.coming`)
  const longAgo = new Date(Date.now() - 60_000)
  utimesSync(coming, longAgo, longAgo)
  await waitUntil(() => statSync(coming).mtimeMs > Date.now() - 30_000)
  let started = 0
  // Longer than one word of the filler counts, by far.
  const waiting = get(storage, recovery, nameOf(2n), () => started++, 1500)
  await sleep(2500)
  assert.ok(existsSync(coming), 'the spool is still there')
  slow.resume()
  assert.equal(await waiting, 'fetched')
  assert.equal(started, 0)
  rmSync(join(data, 'recovery.signal'))
  assert.equal(await filling, 'ended')
})

test('without a running server everything is fetched, and nothing is left behind', async () => {
  const storage = await makeStorage(2)
  const recovery = makeRecovery()
  rmSync(join(recovery.data, 'postmaster.pid'))
  let started = 0
  assert.equal(await get(storage, recovery, nameOf(1n), () => started++), 'fetched')
  assert.equal(started, 0)
  assert.deepEqual(readdirSync(join(recovery.data, 'pg_wal')), ['RECOVERYXLOG'])
})

test('the plan: the next ones on the path, each under its timeline, within the bounds', () => {
  const ancestors = [{ timeline: 1, endLsn: lsn(5n * BigInt(MB) + 100n), reason: '' }]
  const state = {
    path: { timeline: 2, ancestors },
    walSegmentSizeBytes: MB,
    position: 3n,
    end: undefined,
    limit: 4,
  }
  const on = (timeline: number, number: bigint): string => waitingSegment(number, { timeline }).name
  const present = [on(1, 4n), on(1, 3n), on(2, 9n)]
  assert.deepEqual(planFill({ ...state, present }), {
    fetch: [on(2, 5n), on(2, 6n), on(2, 7n)],
    remove: [on(1, 3n), on(2, 9n)],
  })
  assert.deepEqual(planFill({ ...state, present: [], end: 5n }).fetch, [on(1, 4n)])
  assert.deepEqual(planFill({ ...state, present: [], limit: 0 }).fetch, [])
})

test('the bounds of the spool', () => {
  const plenty = 1e15
  assert.equal(spoolLimit(16 * MB, plenty), 16)
  assert.equal(spoolLimit(MB, plenty), 16)
  assert.equal(spoolLimit(64 * MB, plenty), 4)
  assert.equal(spoolLimit(1024 * MB, plenty), 1)
  assert.equal(spoolLimit(16 * MB, 640 * MB), 10)
  assert.equal(spoolLimit(16 * MB, 60 * MB), 0)
})
