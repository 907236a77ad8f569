import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { testSealing } from '../../test/harness/sealing.ts'
import {
  buildSegment,
  MB,
  type SegmentSpecification,
  SYSTEM,
  segmentName,
} from '../../test/harness/wal-builder.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import { Failure } from '../base/failure.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { openSealedStorage } from '../storage/sealed-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { fetchWalFile, findWalFile } from './fetch-wal.ts'
import { listWal } from './list-wal.ts'
import { pushWalFile } from './push-wal.ts'

const ID = SYSTEM.toString()
const PREFIX = `clusters/main/wal/${ID}/`

let objects: Map<string, Uint8Array>
let storage: Storage
let directory: string
let walDirectory: string

beforeEach(async () => {
  objects = new Map()
  storage = await newStorage(objects)
  directory = await mkdtemp(join(tmpdir(), 'tidemark-push-'))
  walDirectory = join(directory, 'data', 'pg_wal')
  await mkdir(walDirectory, { recursive: true })
})

afterEach(async () => {
  await rm(directory, { recursive: true })
})

async function newStorage(map: Map<string, Uint8Array>, major = 15): Promise<Storage> {
  const opened = openMemoryStorage(map)
  await introduce(opened, major)
  return opened
}

async function introduce(opened: Storage, major = 15): Promise<void> {
  await ensureSystemIdentity(opened, 'main', {
    systemIdentifier: ID,
    major,
    walSegmentSizeBytes: MB,
    createdAt: '2026-11-21T00:00:00.000Z',
  })
}

async function put(name: string, content: Uint8Array | string): Promise<string> {
  const path = join(walDirectory, name)
  await writeFile(path, content)
  return path
}

const push = async (path: string, storages: readonly Storage[] = [storage]) =>
  await pushWalFile({ storages, cluster: 'main', path })

async function pushSegment(specification: SegmentSpecification = {}, name?: string) {
  const path = await put(name ?? segmentName(specification), buildSegment(specification))
  return await push(path)
}

const fails = (code: FailureCode, because?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error))
  assert.equal(error.code, code, `${error.message}: ${error.because}`)
  if (because !== undefined) assert.match(`${error.message}: ${error.because}`, because)
  assert.notEqual(error.fix, '')
  return true
}

const keysOf = (map = objects): string[] =>
  [...map.keys()].filter((key) => key.startsWith(PREFIX)).map((key) => key.slice(PREFIX.length))

async function fetched(name: string): Promise<Buffer | undefined> {
  const options = { storages: [storage], cluster: 'main', systemIdentifier: ID, name }
  return (await findWalFile(options))?.content
}

test('a segment is stored under its key and comes back byte for byte', async () => {
  const result = await pushSegment()
  assert.deepEqual(result.outcomes, [{ url: storage.url, outcome: 'stored' }])
  assert.deepEqual(keysOf(), ['00000001/00000000/000000010000000000000001.wal'])
  assert.deepEqual(await fetched(segmentName()), buildSegment())
})

test('the same segment again is success, and what is stored was verified', async () => {
  await pushSegment()
  assert.equal((await pushSegment()).outcomes[0]?.outcome, 'found')
  assert.equal(keysOf().length, 1)
})

test('the same name with other content is quarantined, and the first stays', async () => {
  await pushSegment()
  await assert.rejects(pushSegment({ mark: 1 }), fails('TM1402', /other content/))
  await assert.rejects(pushSegment({ mark: 1 }), fails('TM1402'))
  const listing = await listWal(storage, 'main', ID)
  assert.equal(listing.quarantine.length, 1)
  assert.match(listing.quarantine[0]?.name ?? '', /^000000010000000000000001-[0-9a-f]{16}$/)
  assert.deepEqual(await fetched(segmentName()), buildSegment())
})

test('of racers with different content exactly one wins', async () => {
  const directories = ['a', 'b', 'c']
  const attempts = directories.map(async (name, index) => {
    const at = join(directory, name, 'pg_wal')
    await mkdir(at, { recursive: true })
    const path = join(at, segmentName())
    await writeFile(path, buildSegment({ mark: index + 1 }))
    return await push(path)
  })
  const results = await Promise.allSettled(attempts)
  assert.equal(results.filter((result) => result.status === 'fulfilled').length, 1)
  assert.equal((await listWal(storage, 'main', ID)).quarantine.length, 2)
})

test('a damaged object is replaced by the true file, and its bytes are kept', async () => {
  await pushSegment()
  const key = `${PREFIX}00000001/00000000/${segmentName()}.wal`
  const damaged = (objects.get(key) as Uint8Array).slice()
  damaged[damaged.length - 1] = (damaged[damaged.length - 1] as number) ^ 1
  objects.set(key, damaged)
  await assert.rejects(fetched(segmentName()), fails('TM1601'))
  assert.equal((await pushSegment()).outcomes[0]?.outcome, 'replaced')
  assert.deepEqual(await fetched(segmentName()), buildSegment())
  const kept = [...objects.keys()].find((name) => name.endsWith('.damaged'))
  assert.deepEqual(objects.get(kept ?? ''), damaged)
})

test('encrypted: what is damaged or not sealed is replaced, and its bytes are kept', async () => {
  const key = `${PREFIX}00000001/00000000/${segmentName()}.wal`
  await pushSegment()
  const unsealed = objects.get(key) as Uint8Array
  objects.clear()
  objects.set('keys/00000001.key', Buffer.from('known'))
  const memory = openMemoryStorage(objects)
  storage = openSealedStorage(memory, testSealing())
  await introduce(storage)
  assert.equal((await pushSegment()).outcomes[0]?.outcome, 'stored')
  assert.equal((await pushSegment()).outcomes[0]?.outcome, 'found')
  for (let at = 0; at < 200; at += 7) {
    const damaged = (objects.get(key) as Uint8Array).slice()
    damaged[at] = (damaged[at] as number) ^ 1
    await assertReplaced(key, damaged)
  }
  // A whole WAL object, and yet nothing that may be believed: nobody with a key wrote it.
  await assertReplaced(key, unsealed)
})

async function assertReplaced(key: string, damaged: Uint8Array): Promise<void> {
  objects.set(key, damaged)
  await assert.rejects(fetched(segmentName()), fails('TM1601'))
  assert.equal((await pushSegment()).outcomes[0]?.outcome, 'replaced')
  assert.deepEqual(await fetched(segmentName()), buildSegment())
  const kept = [...objects.keys()].filter((name) => name.endsWith('.damaged'))
  assert.equal(kept.length, 1)
  assert.ok(Buffer.from(damaged).equals((await storage.read(kept[0] ?? '')) ?? Buffer.of()))
  objects.delete(kept[0] ?? '')
}

test('names that PostgreSQL does not archive are refused', async () => {
  for (const name of ['000000010000000000000001.gz', 'RECOVERYXLOG', '00000000.history', 'x']) {
    const path = await put(name, buildSegment())
    await assert.rejects(push(path), fails('TM1401', new RegExp(name)))
  }
})

test('files that are no whole segment are refused and not stored', async () => {
  const cases: [Buffer, RegExp][] = [
    [buildSegment().subarray(0, MB / 2), /524288 bytes long/],
    [Buffer.alloc(MB), /does not begin with a WAL page/],
    [Buffer.alloc(0), /does not begin with a WAL page/],
    [buildSegment({ magic: 0xd0ff }), /PostgreSQL 13 to 18/],
  ]
  for (const [content, because] of cases) {
    const path = await put(segmentName(), content)
    await assert.rejects(push(path), fails('TM1406', because))
  }
  await assert.rejects(push(join(walDirectory, segmentName({ segment: 9n }))), fails('TM1406'))
  assert.deepEqual(keysOf(), [])
})

test('a segment whose header contradicts its name goes to quarantine', async () => {
  const two = segmentName({ segment: 2n })
  await assert.rejects(pushSegment({}, two), fails('TM1404', /address 0\/100000, its name 0\/2/))
  await assert.rejects(
    pushSegment({ timeline: 2, headerTimeline: 1 }),
    fails('TM1404', /no history of timeline 2/),
  )
  await assert.rejects(pushSegment({ headerTimeline: 2 }), fails('TM1404'))
  await assert.rejects(pushSegment({ magic: 0xd118 }), fails('TM1404', /PostgreSQL 18/))
  await assert.rejects(
    pushSegment({ sizeBytes: 2 * MB, segment: 0n }),
    fails('TM1404', /2097152 bytes/),
  )
  assert.equal((await listWal(storage, 'main', ID)).quarantine.length, 5)
  assert.equal(keysOf().length, 5)
})

test('the segment that holds the fork may name an ancestor, others may not', async () => {
  await put('00000002.history', '1\t0/180000\tno recovery target specified\n')
  await pushSegment({ timeline: 2, headerTimeline: 1, segment: 1n })
  const later = pushSegment({ timeline: 2, headerTimeline: 1, segment: 2n })
  await assert.rejects(later, fails('TM1404', /forked at 0\/180000/))
})

test('two promotions in one segment', async () => {
  await push(await put('00000002.history', '1\t0/120000\tx\n'))
  const third = '1\t0/120000\tx\n\n2\t0/1F0000\ty\n'
  await push(await put('00000003.history', third))
  await rm(join(walDirectory, '00000003.history'))
  await pushSegment({ timeline: 3, headerTimeline: 1, segment: 1n })
  assert.deepEqual(await fetched('00000003.history'), Buffer.from(third))
  const wrong = pushSegment({ timeline: 3, headerTimeline: 2, segment: 1n })
  await assert.rejects(wrong, fails('TM1404'))
})

test('a timeline that goes back within a segment is refused', async () => {
  const content = buildSegment({ timeline: 2, segment: 3n })
  content.writeUInt32LE(1, 5 * 8192 + 4)
  const path = await put(segmentName({ timeline: 2, segment: 3n }), content)
  await assert.rejects(push(path), fails('TM1404', /timeline 1 follows 2 at 0\/30A000/))
})

test('what a recycled file still holds behind the end is not judged', async () => {
  const content = buildSegment({ timeline: 2, segment: 3n })
  content.writeUInt32LE(1, 5 * 8192 + 4)
  content.writeBigUInt64LE(0x5000n, 5 * 8192 + 8)
  const path = await put(segmentName({ timeline: 2, segment: 3n }), content)
  assert.equal((await push(path)).outcomes[0]?.outcome, 'stored')
})

test('histories: unreadable, without ancestor, or against the archived parent', async () => {
  await push(await put('00000002.history', '1\t0/120000\tx\n'))
  const cases: [string, string, RegExp][] = [
    ['00000003.history', 'nonsense\n', /line 1/],
    ['00000003.history', '# nothing\n', /no ancestor/],
    ['00000003.history', '1\t0/130000\tx\n2\t0/150000\ty\n', /another past of timeline 2/],
    ['00000003.history', '3\t0/130000\tx\n', /cannot be an ancestor/],
  ]
  for (const [name, content, because] of cases) {
    await assert.rejects(push(await put(name, content)), fails('TM1410', because))
  }
  assert.equal((await listWal(storage, 'main', ID)).quarantine.length, 4)
  assert.equal(await fetched('00000003.history'), undefined)
})

test('a second history of a used number is a conflict', async () => {
  await push(await put('00000002.history', '1\t0/120000\tx\n'))
  const other = push(await put('00000002.history', '1\t0/140000\tx\n'))
  await assert.rejects(other, fails('TM1402'))
})

test('partials are kept side by side and never refused', async () => {
  const name = `${segmentName()}.partial`
  for (const mark of [1, 2, 2]) await push(await put(name, buildSegment({ mark })))
  await push(await put(name, Buffer.alloc(100, 7)))
  const { partials, timelines } = await listWal(storage, 'main', ID)
  assert.equal(partials.length, 3)
  assert.deepEqual(timelines, [])
  await assert.rejects(fetched(name), fails('TM1402', /3 files/))
  const exact = partials.map((partial) => partial.name)
  const lengths = await Promise.all(exact.map(async (one) => (await fetched(one))?.length))
  assert.deepEqual(lengths.sort(), [100, MB, MB].sort())
})

test('label files are stored beside the segments', async () => {
  const name = `${segmentName()}.00000028.backup`
  await push(await put(name, 'START WAL LOCATION: 0/100028\n'))
  assert.deepEqual(keysOf(), [`labels/${name}`])
  assert.equal((await fetched(name))?.toString(), 'START WAL LOCATION: 0/100028\n')
})

test('another server is refused and not stored', async () => {
  const path = await put(segmentName(), buildSegment({ systemIdentifier: 42n }))
  await assert.rejects(push(path), fails('TM1403', /another server \(42\).*knows main as 74/))
  await mkdir(join(directory, 'data', 'global'))
  const control = Buffer.alloc(8192)
  control.writeBigUInt64LE(43n)
  await writeFile(join(directory, 'data', 'global', 'pg_control'), control)
  await assert.rejects(pushSegment(), fails('TM1403', /the server here is 43/))
  assert.deepEqual(keysOf(), [])
})

test('another repository takes the file or is told of; other content refuses it', async () => {
  const others = [await newStorage(new Map()), openMemoryStorage()]
  const path = await put(segmentName(), buildSegment())
  const pushed = await pushWalFile({ storages: [storage], others, cluster: 'main', path })
  assert.deepEqual(
    pushed.offers.map(({ outcome, failure }) => outcome ?? failure?.code),
    ['stored', 'TM1407'],
  )
  const next = { segment: 2n }
  const own = await put(segmentName(next), buildSegment(next))
  const foreign = buildSegment(next)
  foreign[MB - 1] = 1
  const elsewhere = join(directory, segmentName(next))
  await writeFile(elsewhere, foreign)
  await pushWalFile({ storages: others.slice(0, 1), cluster: 'main', path: elsewhere })
  const refused = pushWalFile({ storages: [storage], others, cluster: 'main', path: own })
  await assert.rejects(refused, fails('TM1402'))
})

test('a repository that does not know the cluster refuses', async () => {
  const empty = openMemoryStorage()
  const path = await put(segmentName(), buildSegment())
  await assert.rejects(push(path, [empty]), fails('TM1407', /memory:\/\/\//))
  const history = await put('00000002.history', '1\t0/120000\tx\n')
  await assert.rejects(push(history, [empty]), fails('TM1407', /main has 0 servers/))
})

test('a restored copy is refused until its marker says that it took over', async () => {
  const path = await put(segmentName(), buildSegment())
  const marker = join(directory, 'data', 'tidemark.restored')
  await writeFile(marker, '')
  await assert.rejects(push(path), fails('TM1405'))
  for (const content of ['{', '{"takeOver":false}', 'null', '{"takeOver":"true"}']) {
    await writeFile(marker, content)
    await assert.rejects(push(path), fails('TM1405'))
  }
  assert.deepEqual(keysOf(), [])
  await writeFile(marker, '{"takeOver":true}')
  await push(path)
})

test('success needs every repository; one failure does not keep it from the others', async () => {
  const second = new Map<string, Uint8Array>()
  const path = await put(segmentName(), buildSegment())
  await assert.rejects(push(path, [openMemoryStorage(), storage]), fails('TM1407'))
  assert.equal(keysOf().length, 1)
  const other = await newStorage(second)
  const { outcomes } = await push(path, [storage, other])
  assert.deepEqual(
    outcomes.map((one) => one.outcome),
    ['found', 'stored'],
  )
})

test('of two failures the conflict is thrown and the other is a warning', async () => {
  await pushSegment()
  const warnings: Failure[] = []
  const path = await put(segmentName(), buildSegment({ mark: 9 }))
  const pushed = pushWalFile({
    storages: [openMemoryStorage(), storage],
    cluster: 'main',
    path,
    onWarning: (failure) => warnings.push(failure),
  })
  await assert.rejects(pushed, fails('TM1402'))
  assert.deepEqual(
    warnings.map((warning) => warning.code),
    ['TM1407'],
  )
})

test('fetch: a missing segment is absent only at the end of its timeline', async () => {
  await pushSegment({ segment: 1n })
  await pushSegment({ segment: 3n })
  assert.equal(await fetched(segmentName({ segment: 4n })), undefined)
  assert.equal(await fetched('00000002.history'), undefined)
  await assert.rejects(fetched(segmentName({ segment: 2n })), fails('TM1408', /hole/))
  const standby = { storages: [storage], cluster: 'main', systemIdentifier: ID }
  const name = segmentName({ segment: 2n })
  assert.equal(await findWalFile({ ...standby, name, holes: 'absent' }), undefined)
})

test('fetch: absence is not believed of a repository that lost its identity', async () => {
  objects.delete(`clusters/main/systems/${ID}.json`)
  await assert.rejects(fetched(segmentName()), fails('TM1407'))
})

test('fetch: a damaged copy is made good by another repository, else it is a failure', async () => {
  const second = new Map<string, Uint8Array>()
  const other = await newStorage(second)
  const path = await put(segmentName(), buildSegment())
  await push(path, [storage, other])
  const key = `${PREFIX}00000001/00000000/${segmentName()}.wal`
  const bytes = objects.get(key) as Uint8Array
  bytes[200] = (bytes[200] as number) ^ 1
  const warnings: Failure[] = []
  const request = {
    storages: [storage, other],
    cluster: 'main',
    systemIdentifier: ID,
    name: segmentName(),
    onWarning: (failure: Failure) => warnings.push(failure),
  }
  assert.deepEqual((await findWalFile(request))?.content, buildSegment())
  assert.deepEqual(
    warnings.map((warning) => warning.code),
    ['TM1601'],
  )
  second.delete(key)
  await assert.rejects(findWalFile(request), fails('TM1601', new RegExp(key)))
})

test('fetch: the destination appears whole, and leftovers of dead processes go', async () => {
  await pushSegment()
  const destination = join(walDirectory, 'RECOVERYXLOG')
  const leftover = `${destination}.tidemark-999999999-0123abcd`
  await writeFile(leftover, 'half')
  const request = { storages: [storage], cluster: 'main', systemIdentifier: ID, destination }
  assert.equal(await fetchWalFile({ ...request, name: segmentName() }), 'fetched')
  const { readdir, readFile, stat } = await import('node:fs/promises')
  assert.deepEqual(await readFile(destination), buildSegment())
  assert.equal((await stat(destination)).mode & 0o777, 0o600)
  assert.deepEqual((await readdir(walDirectory)).sort(), [segmentName(), 'RECOVERYXLOG'])
  await rm(destination)
  assert.equal(await fetchWalFile({ ...request, name: segmentName({ segment: 2n }) }), 'absent')
  await assert.rejects(readFile(destination), { code: 'ENOENT' })
  const nowhere = { ...request, destination: join(directory, 'no', 'where') }
  await assert.rejects(fetchWalFile({ ...nowhere, name: segmentName() }), fails('TM1411'))
})

test('list: ranges, gaps and histories by timeline', async () => {
  for (const segment of [1n, 2n, 4n, 5n, 9n]) await pushSegment({ segment })
  await push(await put('00000002.history', '1\t0/580000\tx\n'))
  await pushSegment({ timeline: 2, headerTimeline: 1, segment: 5n })
  const { timelines, strangers } = await listWal(storage, 'main', ID)
  assert.deepEqual(strangers, [])
  const [first, second] = timelines
  assert.deepEqual(first?.ranges, [
    { first: 1n, last: 2n },
    { first: 4n, last: 5n },
    { first: 9n, last: 9n },
  ])
  assert.deepEqual(first?.gaps, [
    { first: 3n, last: 3n },
    { first: 6n, last: 8n },
  ])
  assert.equal(second?.history?.ancestors[0]?.timeline, 1)
  assert.equal(second?.segments, 1)
})
