/** Several files in one push: what is archived, in which order, and what is acknowledged. */
import assert from 'node:assert/strict'
import { linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { forEachCrashPoint, openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import {
  makeWaitingDirectory,
  waitingSegment,
  type WaitingDirectory,
} from '../../test/harness/waiting-directory.ts'
import { SlowFor } from '../../test/harness/slow-for.ts'
import { PausingStorage } from '../../test/harness/pausing-storage.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { Failure } from '../base/failure.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { findWalFile } from './fetch-wal.ts'
import { listWal } from './list-wal.ts'
import { type PushAheadOptions, pushAhead } from './push-ahead.ts'
import { orderWaiting } from './waiting-files.ts'
import { segmentKey } from './wal-file-name.ts'

const ID = SYSTEM.toString()

async function makeStorage(): Promise<Storage> {
  const storage = openMemoryStorage()
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  return storage
}

/** Segments 1 to `count` are ready; gives their names. */
function fill(directory: WaitingDirectory, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const { name, content } = waitingSegment(BigInt(index + 1))
    directory.put(name, content)
    return name
  })
}

const push = async (
  storage: Storage,
  directory: WaitingDirectory,
  name: string,
  options: Partial<PushAheadOptions> = {},
) =>
  await pushAhead({
    storages: [storage],
    cluster: 'main',
    path: directory.path(name),
    threads: 1,
    ...options,
  })

async function archived(storage: Storage): Promise<string[]> {
  const { timelines } = await listWal(storage, 'main', ID)
  return timelines.flatMap(({ timeline, ranges }) =>
    ranges.flatMap(({ first, last }) =>
      Array.from({ length: Number(last - first) + 1 }, (_, index) => {
        return waitingSegment(first + BigInt(index), { timeline }).name
      }),
    ),
  )
}

test('everything that is ready is archived and acknowledged in one call', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 7)
  const storage = await makeStorage()
  const { asked, ahead, stoppedBy } = await push(storage, directory, names[0] as string)
  assert.equal(stoppedBy, undefined)
  assert.equal(asked.name, names[0])
  assert.deepEqual(ahead.map(({ name }) => name).sort(), names.slice(1))
  assert.deepEqual(await archived(storage), names)
  assert.deepEqual(directory.acknowledged(), names.slice(1), 'the file asked for needs none')
  for (const [index, name] of names.entries()) {
    const request = { storages: [storage], cluster: 'main', systemIdentifier: ID, name }
    const found = await findWalFile(request)
    assert.deepEqual(found?.content, waitingSegment(BigInt(index + 1)).content)
  }
  assert.deepEqual(
    readdirSync(join(directory.data, 'tidemark.acks')).filter((name) => name.startsWith('.run-')),
    [],
    'no anchor is left',
  )
})

test('nothing is created before the file that was asked for', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 6)
  const storage = openFaultyStorage(await makeStorage())
  const slow = new SlowFor(storage, names[0] as string, 500)
  await push(slow, directory, names[0] as string)
  const writes = storage.trace.filter(
    ({ operation, key }) => operation === 'write' && key.endsWith('.wal'),
  )
  assert.match(writes[0]?.key ?? '', new RegExp(names[0] as string))
  assert.equal(writes.length, 6)
})

test('a refusal of the file asked for keeps the others out, and fails the call', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 6)
  const storage = await makeStorage()
  const other = makeWaitingDirectory()
  const { name, content } = waitingSegment(1n, { mark: 99 })
  other.put(name, content)
  await push(storage, other, name)
  await assert.rejects(push(storage, directory, name), { code: 'TM1402' })
  assert.deepEqual(await archived(storage), [name])
  assert.deepEqual(directory.acknowledged(), [])
  assert.equal(names[0], name)
})

test('a refused file among the others ends the batch; it fails when it is asked for', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 5)
  const misplaced = waitingSegment(70n)
  directory.put(names[2] as string, misplaced.content)
  const storage = await makeStorage()
  const { stoppedBy } = await push(storage, directory, names[0] as string)
  assert.ok(stoppedBy instanceof Failure)
  assert.equal(stoppedBy.code, 'TM1404')
  const acknowledged = directory.acknowledged()
  assert.ok(!acknowledged.includes(names[2] as string))
  const stored = await archived(storage)
  assert.ok(acknowledged.every((name) => stored.includes(name)))
  await assert.rejects(push(storage, directory, names[2] as string), { code: 'TM1404' })
})

test('a server set back with its memory puts nothing behind what it contradicts', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 4)
  const inner = await makeStorage()
  await push(inner, directory, names[0] as string)
  const put = (number: bigint): void => {
    directory.put(waitingSegment(number).name, waitingSegment(number, { mark: 77 }).content)
  }
  // The same postmaster: nothing tells it from the writer. Only 1 and 2 are from before.
  rmSync(join(directory.data, 'tidemark.acks'), { recursive: true })
  for (const number of [3n, 4n, 5n, 6n]) put(number)
  const storage = new SlowFor(inner, names[2] as string, 500)
  for (const name of names.slice(0, 2)) {
    const { stoppedBy } = await push(storage, directory, name, { threads: 0 })
    assert.ok(stoppedBy instanceof Failure && stoppedBy.code === 'TM1402', String(stoppedBy))
    assert.deepEqual(await archived(inner), names, name)
  }
})

test('what is acknowledged counts for the repositories that it is in, no others', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 4)
  const [first, second] = [await makeStorage(), await makeStorage()]
  await push(first, directory, names[0] as string, { places: ['first'] })
  assert.deepEqual(directory.acknowledged(), names.slice(1))
  // The second file was refused, and a new repository takes the place of the first.
  rmSync(join(directory.data, 'tidemark.acks', names[1] as string))
  await push(second, directory, names[1] as string, { places: ['second'] })
  assert.deepEqual(await archived(second), names)
  assert.deepEqual(directory.acknowledged(), [names[0], ...names.slice(2)])
})

test('a call of the configuration before acknowledges nothing more', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 3)
  const [first, second] = [await makeStorage(), await makeStorage()]
  const isLast = (call: string): boolean =>
    call === `write ${segmentKey('main', ID, names[2] ?? '')}`
  const paused = new PausingStorage(first, isLast)
  const before = push(paused, directory, names[0] as string, { places: ['first'], threads: 0 })
  await paused.reached
  const faults = Array.from({ length: 40 }, (_, at) => ({ at, kind: 'transient' as const }))
  const refusing = openFaultyStorage(second, faults)
  await push(refusing, directory, names[0] as string, { places: ['second'] }).catch(() => {})
  paused.resume()
  await before
  const stored = await archived(second)
  assert.ok(directory.acknowledged().every((name) => stored.includes(name)))
})

test('no segment comes before its history; the time for a batch ends', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 2)
  directory.put('00000002.history', Buffer.from('1\t0/300000\tno recovery target specified\n'))
  const next = waitingSegment(3n, { timeline: 2 })
  directory.put(next.name, next.content)
  const storage = openFaultyStorage(await makeStorage())
  const slow = new SlowFor(storage, '00000002.history', 500)
  const late = await push(slow, directory, names[0] as string, { mostMs: -1 })
  assert.deepEqual(late.ahead, [])
  await push(slow, directory, names[1] as string, { threads: 0 })
  const written = storage.trace
    .filter(({ operation }) => operation === 'write')
    .map(({ key }) => key)
    .filter((key) => key.includes('00000002.history') || key.includes(next.name))
  assert.equal(written.length, 2, written.join(' '))
  assert.ok(written[0]?.includes('00000002.history'), written.join(' '))
})

test('a repository that goes away in the middle: what is acknowledged is there', async () => {
  for (const at of [2, 5, 8]) {
    const directory = makeWaitingDirectory()
    const names = fill(directory, 5)
    const inner = await makeStorage()
    const faults = Array.from({ length: 40 }, (_, index) => ({
      at: at + index,
      kind: 'transient' as const,
    }))
    const outcome = await push(
      openFaultyStorage(inner, faults),
      directory,
      names[0] as string,
    ).then(
      ({ stoppedBy }) => stoppedBy,
      (error: unknown) => error,
    )
    assert.ok(outcome instanceof Failure, String(at))
    const stored = await archived(inner)
    assert.ok(directory.acknowledged().every((name) => stored.includes(name)))
  }
})

test('a crash at every call: what is acknowledged is stored, a retry brings the rest', async () => {
  let directory = makeWaitingDirectory()
  let names: string[] = []
  const crashes = await forEachCrashPoint({
    async prepare() {
      rmSync(directory.data, { recursive: true })
      directory = makeWaitingDirectory()
      names = fill(directory, 4)
      return await makeStorage()
    },
    async run(storage) {
      const { stoppedBy } = await push(storage, directory, names[0] as string, { threads: 0 })
      if (stoppedBy !== undefined) throw stoppedBy
    },
    async check(storage) {
      const stored = await archived(storage)
      const acknowledged = directory.acknowledged()
      assert.ok(acknowledged.every((name) => stored.includes(name)))
      for (const name of names) {
        const isWaiting = !directory.acknowledged().includes(name)
        if (isWaiting) await push(storage, directory, name, { threads: 0 })
      }
      assert.deepEqual(await archived(storage), names)
    },
  })
  assert.ok(crashes >= 12, String(crashes))
})

test('acknowledgements of another start of the server are worth nothing, and go', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 4)
  await push(await makeStorage(), directory, names[0] as string)
  assert.equal(directory.acknowledged().length, 3)
  directory.restart()
  assert.deepEqual(directory.acknowledged(), [])
  // The next server has other content under the same names, and another archive.
  const next = await makeStorage()
  await push(next, directory, names[0] as string)
  assert.deepEqual(await archived(next), names)
  assert.deepEqual(directory.acknowledged(), names.slice(1))
})

test('acknowledgements of files that do not wait any more are removed', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 3)
  const storage = await makeStorage()
  await push(storage, directory, names[0] as string)
  const status = join(directory.data, 'pg_wal/archive_status')
  for (const name of names) rmSync(join(status, `${name}.ready`))
  const { name, content } = waitingSegment(9n)
  directory.put(name, content)
  await push(storage, directory, name)
  assert.deepEqual(directory.acknowledged(), [])
})

test('two calls at once acknowledge nothing that is not stored', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 6)
  const storage = await makeStorage()
  const results = await Promise.all([
    push(storage, directory, names[0] as string),
    push(storage, directory, names[0] as string),
  ])
  assert.equal(results.length, 2)
  assert.deepEqual(await archived(storage), names)
  assert.deepEqual(directory.acknowledged(), names.slice(1))
})

test('without a running server, or of a file that does not wait: only that file', async () => {
  const storage = await makeStorage()
  const stopped = makeWaitingDirectory()
  const names = fill(stopped, 3)
  rmSync(join(stopped.data, 'postmaster.pid'))
  const { ahead } = await push(storage, stopped, names[0] as string)
  assert.deepEqual(ahead, [])
  assert.deepEqual(await archived(storage), [names[0]])

  const running = makeWaitingDirectory()
  fill(running, 3)
  const done = waitingSegment(1n)
  rmSync(join(running.data, 'pg_wal/archive_status', `${done.name}.ready`))
  await push(storage, running, done.name)
  assert.deepEqual(await archived(storage), [names[0]])
})

test('an anchor of a program that died is removed, one of a living one is not', async () => {
  const directory = makeWaitingDirectory()
  const names = fill(directory, 2)
  const acks = join(directory.data, 'tidemark.acks')
  mkdirSync(acks)
  const living = join(acks, `.run-${process.pid}-00000000`)
  const dead = join(acks, '.run-999999999-00000000')
  for (const path of [living, dead]) linkSync(join(directory.data, 'postmaster.pid'), path)
  writeFileSync(join(acks, 'stranger'), '')
  await push(await makeStorage(), directory, names[0] as string)
  const kept = ['.for', `.run-${process.pid}-00000000`, names[1]]
  assert.deepEqual(readdirSync(acks).sort(), kept.sort())
})

test('histories come first, then names in order; what is no WAL file is left out', () => {
  const names = [
    '000000020000000000000003',
    '00000003.history',
    '000000010000000000000004.partial',
    'nonsense',
    '00000002.history',
    '000000010000000000000004',
  ]
  assert.deepEqual(
    orderWaiting(names).map(({ name }) => name),
    [
      '00000002.history',
      '00000003.history',
      '000000010000000000000004',
      '000000010000000000000004.partial',
      '000000020000000000000003',
    ],
  )
})
