/** Segments that were noted, and the process that writes their indexes. No server runs here. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  makeWaitingDirectory,
  type WaitingDirectory,
  waitingSegment,
} from '../../test/harness/waiting-directory.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { segmentKey } from '../archive/wal-file-name.ts'
import { encodeWalObject, hashContent } from '../archive/wal-object.ts'
import { Failure } from '../base/failure.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { formatProcessIdentity, readProcessIdentity } from '../storage/process-identity.ts'
import type { Storage } from '../storage/storage.ts'
import { type IndexNotedOutcome, indexNoted } from './index-noted.ts'
import { indexTodoOf, listNoted, MOST_NOTED, noteForIndex } from './index-todo.ts'
import { listIndexes } from './index-wal.ts'
import { findIndexHeader } from './store-index.ts'

const ID = SYSTEM.toString()
const ARCHIVE = { cluster: 'main', systemIdentifier: ID }
const nameOf = (number: number): string => waitingSegment(BigInt(number)).name

async function makeStorage(...numbers: number[]): Promise<Storage> {
  const storage = openMemoryStorage()
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  for (const number of numbers) {
    const { name, content } = waitingSegment(BigInt(number))
    const object = { systemIdentifier: ID, name, headerTimeline: 1, content }
    await storage.write(segmentKey('main', ID, name), encodeWalObject(object))
  }
  return storage
}

/** That acknowledges, with these segments in pg_wal. */
function makeDirectory(...numbers: number[]): WaitingDirectory {
  const directory = makeWaitingDirectory()
  mkdirSync(join(directory.data, 'tidemark.acks'))
  for (const number of numbers) {
    const { name, content } = waitingSegment(BigInt(number))
    writeFileSync(directory.path(name), content)
  }
  return directory
}

const note = async ({ data }: WaitingDirectory, ...numbers: number[]): Promise<boolean> =>
  await noteForIndex(indexTodoOf(data), numbers.map(nameOf))

const run = async (
  { data }: WaitingDirectory,
  ...storages: Storage[]
): Promise<IndexNotedOutcome> =>
  await indexNoted({ dataDirectory: data, cluster: 'main', open: async () => storages })

async function indexed(storage: Storage): Promise<string[]> {
  return [...(await listIndexes(storage, ARCHIVE))].sort()
}

async function hashOfIndex(storage: Storage, number: number): Promise<string | undefined> {
  return (await findIndexHeader(storage, ARCHIVE, nameOf(number)))?.contentHash
}

test('each repository gets indexes of the segments it has, and nothing is left', async () => {
  const directory = makeDirectory(1, 2, 3)
  const [both, one] = [await makeStorage(1, 2, 3), await makeStorage(2)]
  assert.equal(await note(directory, 1, 2, 3), true)
  assert.equal(await run(directory, both, one), 'done')
  assert.deepEqual(await indexed(both), [1, 2, 3].map(nameOf))
  assert.deepEqual(await indexed(one), [nameOf(2)])
  assert.deepEqual(readdirSync(join(directory.data, 'tidemark.acks/index')), ['server'])
})

test('a segment that pg_wal has not, or not any more, is read from the archive', async () => {
  const directory = makeDirectory()
  const storage = await makeStorage(1, 2)
  // Taken for a later segment while it was read.
  writeFileSync(directory.path(nameOf(2)), waitingSegment(9n).content)
  await note(directory, 1, 2, 3)
  assert.equal(await run(directory, storage), 'done')
  for (const number of [1, 2]) {
    const { content } = waitingSegment(BigInt(number))
    assert.equal(await hashOfIndex(storage, number), hashContent(content))
  }
  assert.deepEqual(await indexed(storage), [1, 2].map(nameOf), '3 is not archived')
})

test('nothing is noted without acknowledgements, nor where no server runs', async () => {
  const directory = makeWaitingDirectory()
  assert.equal(await note(directory, 1), false)
  assert.ok(!existsSync(join(directory.data, 'tidemark.acks')))
  mkdirSync(join(directory.data, 'tidemark.acks'))
  rmSync(join(directory.data, 'postmaster.pid'))
  assert.equal(await note(directory, 1), false)
  assert.deepEqual(await listNoted(indexTodoOf(directory.data)), [])
})

test('the oldest names of too many are dropped', async () => {
  const directory = makeDirectory()
  const numbers = Array.from({ length: MOST_NOTED + 5 }, (_, index) => index + 1)
  await note(directory, ...numbers)
  const noted = await listNoted(indexTodoOf(directory.data))
  assert.deepEqual(noted, numbers.slice(5).map(nameOf))
})

test('one process is started; not one beside it, but one after it was killed', async () => {
  const directory = makeDirectory()
  const worker = join(directory.data, 'tidemark.acks/index/worker')
  const started = await Promise.all([1, 2, 3].map(async (number) => await note(directory, number)))
  assert.equal(started.filter(Boolean).length, 1)
  const { pid } = spawnSync('true')
  const self = readProcessIdentity()
  writeFileSync(worker, formatProcessIdentity({ ...self, pid }))
  assert.equal(await note(directory, 2), true, 'it was killed')
  writeFileSync(worker, formatProcessIdentity({ ...self, startTicks: '1' }))
  assert.equal(await note(directory, 2), true, 'another process has its number')
  const other = spawnSync('sh', ['-c', 'cut -d" " -f22 /proc/1/stat']).stdout.toString().trim()
  writeFileSync(worker, formatProcessIdentity({ ...self, pid: 1, startTicks: other }))
  assert.equal(await note(directory, 2), false, 'it lives')
  assert.equal(await run(directory, await makeStorage(2)), 'taken')
  directory.restart()
  assert.equal(await note(directory, 2), true, 'of another start of the server')
})

test('a repository that fails: one try, and the others get theirs', async () => {
  const directory = makeDirectory(1, 2)
  const [failing, storage] = [await makeStorage(1, 2), await makeStorage(1, 2)]
  let tries = 0
  failing.write = async () => {
    tries += 1
    throw new Failure('TM1506', { message: 'full', fix: 'make room' })
  }
  await note(directory, 1, 2)
  assert.equal(await run(directory, failing, storage), 'done')
  assert.equal(tries, 2)
  assert.deepEqual(await indexed(storage), [1, 2].map(nameOf))
})

test('it ends with the server, also while a repository hangs', async () => {
  const directory = makeDirectory(1)
  const storage = await makeStorage(1)
  storage.write = async () => {
    rmSync(join(directory.data, 'postmaster.pid'))
    await new Promise<void>(() => {})
  }
  await note(directory, 1)
  assert.equal(await run(directory, storage), 'ended')
  const dead = makeDirectory(1)
  writeFileSync(join(dead.data, 'postmaster.pid'), `${spawnSync('true').pid}\n`)
  await note(dead, 1)
  assert.equal(await run(dead, await makeStorage(1)), 'ended', 'killed with -9')
})

test('a name that is noted while it looks for the last time is not left over', async () => {
  const directory = makeDirectory(1, 2)
  const storage = await makeStorage(1, 2)
  const write = storage.write.bind(storage)
  storage.write = async (key, bytes) => {
    await write(key, bytes)
    if (key.includes(nameOf(1))) assert.equal(await note(directory, 2), false)
  }
  await note(directory, 1)
  assert.equal(await run(directory, storage), 'done')
  assert.deepEqual(await indexed(storage), [1, 2].map(nameOf))
})
