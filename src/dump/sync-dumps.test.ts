/** Dumps that are brought from one repository into another, cut off at any call, and healed. */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { groupOf, madeUpRows, writeMadeUpDump } from '../../test/harness/dumped-files.ts'
import { collect, forEachCrashPoint, openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { assertDumpsWhole } from '../../test/harness/hand-made-dump.ts'
import { declareWritersDead } from '../../test/simulation/expiry-scene.ts'
import { now } from '../base/clock.ts'
import { isFailure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import { writeCondemnedSet } from '../repository/condemned-sets.ts'
import {
  dumpKey,
  dumpPinKey,
  holdPrefix,
  parseDumpKey,
  parseDumpPackKey,
} from '../repository/keys.ts'
import { pinDump } from '../repository/marks.ts'
import { listDumps } from '../repository/read-dumps.ts'
import { createRepository } from '../repository/repository.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { proveDump } from './read-dump.ts'
import { type SyncDumpsOptions, type SyncDumpsReport, syncDumps } from './sync-dumps.ts'

type Objects = Map<string, Uint8Array>
const objects: Objects = new Map()
const ids: string[] = []

before(async () => {
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  for (let step = 0; step < 3; step++) {
    const rows = Buffer.concat([madeUpRows(150_000), madeUpRows(90_000, 2 + step)])
    const dump = { files: { '1.dump': rows }, packTargetBytes: 60_000 }
    ids.push((await writeMadeUpDump(groupOf([storage]), dump)).record.id)
  }
  await pinDump(storage, { cluster: 'main', id: ids[0] ?? '' })
})

async function newTarget(): Promise<Objects> {
  const made: Objects = new Map()
  await createRepository(openMemoryStorage(made), now())
  return made
}

async function run(
  source: Storage,
  target: Storage,
  more: Partial<SyncDumpsOptions> = {},
): Promise<SyncDumpsReport> {
  return await syncDumps({
    source,
    target,
    names: { source: 'local', target: 'offsite' },
    cluster: 'main',
    dryRun: false,
    heal: false,
    policy: undefined,
    progress: SILENT,
    signal: new AbortController().signal,
    ...more,
  })
}

const dumpsOf = (stored: Objects): [string, Uint8Array][] =>
  [...stored].filter(([key]) => key.includes('/dump')).sort(([a], [b]) => (a < b ? -1 : 1))

async function assertProved(storage: Storage): Promise<string[]> {
  const { dumps, unreadable } = await listDumps(storage, 'main')
  assert.deepEqual(unreadable, [])
  for (const record of dumps) assert.deepEqual(await proveDump(storage, record), [], record.id)
  return dumps.map(({ id }) => id)
}

test('what is brought is the same, and nothing is brought twice', async () => {
  const target = await newTarget()
  const [from, to] = [openMemoryStorage(new Map(objects)), openMemoryStorage(target)]
  const foreseen = await run(from, to, { dryRun: true })
  assert.deepEqual(foreseen.dumps, ids)
  assert.equal(dumpsOf(target).length, 0)
  const report = await run(from, to)
  assert.deepEqual([report.dumps, report.problems, report.keptBack], [ids, [], []])
  assert.equal(report.packs, foreseen.packs)
  assert.deepEqual(dumpsOf(target), dumpsOf(objects))
  assert.deepEqual(await collect(to.list(holdPrefix('main'))), [])
  assert.deepEqual(await collect(from.list(holdPrefix('main'))), [])
  assert.deepEqual((await run(from, to)).dumps, [])
})

test('what retention would remove at once is not brought, what is pinned is', async () => {
  const target = await newTarget()
  const policy = { keepLast: 1, keepDays: 0 }
  await run(openMemoryStorage(new Map(objects)), openMemoryStorage(target), { policy })
  assert.deepEqual(await assertProved(openMemoryStorage(target)), [ids[0], ids[2]])
  assert.ok(target.has(dumpPinKey('main', ids[0] ?? '')))
})

for (const side of ['source', 'target'] as const) {
  test(`a sync that crashes at any call of the ${side} lists what is whole`, async () => {
    let pair: { source: Objects; target: Objects } | undefined
    const crashes = await forEachCrashPoint({
      crashAt: ({ operation, number }) => !/read|size/i.test(operation) || number % 5 === 0,
      prepare: async () => {
        pair = { source: new Map(objects), target: await newTarget() }
        return openMemoryStorage(pair[side])
      },
      run: async (faulty) => {
        assert.ok(pair !== undefined)
        const other = openMemoryStorage(side === 'source' ? pair.target : pair.source)
        await (side === 'source' ? run(faulty, other) : run(other, faulty))
      },
      check: async () => {
        assert.ok(pair !== undefined)
        const [source, target] = [openMemoryStorage(pair.source), openMemoryStorage(pair.target)]
        await assertProved(target)
        for (const storage of [source, target]) await declareWritersDead(storage)
        assert.deepEqual((await run(source, target)).problems, [])
        assert.deepEqual(dumpsOf(pair.target), dumpsOf(objects))
      },
    })
    assert.ok(crashes > 8, `${crashes} crashes`)
  })
}

test('a target that refuses any call ends the sync, and lists nothing torn', async () => {
  for (let at = 1; ; at++) {
    const inner = openMemoryStorage(await newTarget())
    const faulty = openFaultyStorage(inner, [{ at, kind: 'refused' }])
    const from = openMemoryStorage(new Map(objects))
    const outcome = await run(from, faulty).catch((error: unknown) => error)
    if (faulty.trace.length < at) break
    if (outcome instanceof Error) assert.ok(isFailure(outcome), String(outcome))
    await assertDumpsWhole(inner)
  }
})

const firstPack = (): string =>
  [...objects.keys()].find((key) => parseDumpPackKey(key) !== undefined) ?? ''

function flip(stored: Objects, key: string, at: number): void {
  const bytes = Buffer.from(stored.get(key) ?? '')
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
  stored.set(key, bytes)
}

test('damage in the source does not travel: the dumps that need it are kept back', async () => {
  const source = new Map(objects)
  flip(source, firstPack(), 3000)
  const target = await newTarget()
  const report = await run(openMemoryStorage(source), openMemoryStorage(target))
  assert.ok(report.problems.some(({ key, code }) => key === firstPack() && code === 'TM1601'))
  assert.equal(report.keptBack.length, 3)
  assert.deepEqual(await assertDumpsWhole(openMemoryStorage(target)), [])
})

test('missing and cut packs and a damaged record are mended without being asked for', async () => {
  const target: Objects = new Map(objects)
  target.delete('tidemark.repository')
  const to = openMemoryStorage(target)
  await createRepository(to, now())
  const packs = [...target.keys()].filter((key) => parseDumpPackKey(key) !== undefined)
  const record = [...target.keys()].find((key) => parseDumpKey(key) !== undefined) ?? ''
  target.delete(packs[0] ?? '')
  target.set(packs[1] ?? '', Buffer.from('short'))
  target.set(record, Buffer.from('torn'))
  const report = await run(openMemoryStorage(new Map(objects)), to)
  assert.deepEqual(report.problems, [])
  assert.deepEqual(new Set(report.healed.map(({ key }) => key)).has(record), true)
  target.delete(`${record}.damaged`)
  assert.deepEqual(dumpsOf(target), dumpsOf(objects))
})

test('a rotten frame is mended by --heal, or when its pack is named', async () => {
  for (const more of [{ heal: true }, { objects: [firstPack()] }]) {
    const target: Objects = new Map(objects)
    target.delete('tidemark.repository')
    const to = openMemoryStorage(target)
    await createRepository(to, now())
    flip(target, firstPack(), 3000)
    const report = await run(openMemoryStorage(new Map(objects)), to, more)
    assert.deepEqual(
      report.healed.map(({ key, frames }) => [key, frames]),
      [[firstPack(), 1]],
    )
    assert.deepEqual(dumpsOf(target), dumpsOf(objects))
  }
})

test('what an expiry of the target has condemned is left for the next time', async () => {
  const target = await newTarget()
  const to = openMemoryStorage(target)
  const set = {
    id: 'a'.repeat(16),
    host: 'far',
    writer: 'x',
    startedAt: '',
    backups: [],
    packs: [],
  }
  const keys = [dumpKey('main', ids[1] ?? ''), firstPack()]
  await writeCondemnedSet(to, 'main', { ...set, keys })
  const report = await run(openMemoryStorage(new Map(objects)), to)
  assert.ok(report.problems.some(({ code }) => code === 'TM1934'))
  assert.ok(!target.has(keys[0] ?? '') && !target.has(keys[1] ?? ''))
})
