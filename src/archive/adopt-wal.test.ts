/** A person decides between two servers: what goes aside, what comes in, and every crash. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { forEachCrashPoint } from '../../test/harness/faulty-storage.ts'
import { MB } from '../../test/harness/wal-builder.ts'
import {
  archived,
  assertArchived,
  assertOneHistory,
  newArchive,
  partedServers,
  PLACE,
  quarantined,
  WritingServer,
} from '../../test/harness/writing-server.ts'
import { isFailure } from '../base/failure.ts'
import { formatLsn, lsn } from '../postgres/lsn.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import type { Storage, WriteOptions } from '../storage/storage.ts'
import {
  type AdoptionSource,
  openDirectorySource,
  openQuarantineSource,
} from './adoption-source.ts'
import { adoptWal, releaseReservation } from './adopt-wal.ts'
import { type AdoptionPlan, planAdoption } from './plan-adoption.ts'
import { findWriterRecord } from './writer-record.ts'
import { encodeTailPiece } from './tail-format.ts'
import { pieceKey } from './tail-keys.ts'
import { encodeReservation, findReservation, reservationKey } from './reservations.ts'
import { storeWal } from './store-wal.ts'
import { nameHash, parseWalFileName, type WalFileName } from './wal-file-name.ts'
import { encodeWalObject, hashContent } from './wal-object.ts'

const request = (timeline = 1) => ({ ...PLACE, timeline, walSegmentSizeBytes: MB })

async function planFrom(storage: Storage, server: WritingServer, timeline = 1) {
  return await plan(storage, await openDirectorySource(request(timeline), server.data), timeline)
}

async function plan(storage: Storage, source: AdoptionSource, timeline = 1): Promise<AdoptionPlan> {
  return await planAdoption(storage, { ...PLACE, timeline, source })
}

const names = (files: AdoptionPlan['aside']): string[] => files.map(({ name }) => name)

/** The original and a clone of it that archived first, from segment 2 on. */
async function twoServers(cloned: bigint[] = [2n, 3n, 4n]) {
  const storage = await newArchive()
  const { server, clone } = partedServers(5)
  await server.push(storage, 1n)
  for (const segment of cloned) await clone.push(storage, segment)
  server.finish(1n, 'done')
  for (const segment of [2n, 3n]) server.finish(segment, 'ready')
  await assert.rejects(server.push(storage, 2n), (error) => isFailure(error, 'TM1402'))
  return { storage, server, clone }
}

test('the original is adopted: its WAL is the timeline, the other is in quarantine', async () => {
  const { storage, server, clone } = await twoServers()
  const planned = await planFrom(storage, server)
  assert.deepEqual(
    names(planned.aside),
    [4n, 3n, 2n].map((one) => clone.name(one)),
  )
  const brought = planned.bring.map(({ file }) => file.name)
  assert.deepEqual(
    brought,
    [2n, 3n].map((one) => server.name(one)),
  )
  assert.equal(planned.former?.writer.dataDirectory, clone.data)
  await assertArchived(storage, clone.name(2n), clone.content(2n))
  await adoptWal(storage, planned)
  for (const segment of [1n, 2n, 3n]) {
    await assertArchived(storage, server.name(segment), server.content(segment))
  }
  assert.equal(await archived(storage, server.name(4n)), undefined)
  assert.deepEqual(
    await quarantined(storage),
    [2n, 3n, 4n].map((one) => clone.name(one)),
  )
  await assert.rejects(clone.push(storage, 5n), (error) => isFailure(error, 'TM1463'))
  assert.equal(await server.push(storage, 4n), 'stored')
  const again = await planFrom(storage, server)
  assert.deepEqual([again.aside, again.bring], [[], []])
})

test('what went aside comes back from quarantine, and its server goes on', async () => {
  const { storage, server, clone } = await twoServers()
  await adoptWal(storage, await planFrom(storage, server))
  const back = await openQuarantineSource(storage, request(), undefined)
  assert.deepEqual([...back.segments.keys()], [2n, 3n, 4n])
  const planned = await plan(storage, back)
  await adoptWal(storage, planned)
  for (const segment of [2n, 3n, 4n]) {
    await assertArchived(storage, clone.name(segment), clone.content(segment))
  }
  assert.deepEqual(
    await quarantined(storage),
    [2n, 3n].map((one) => server.name(one)),
  )
  await assert.rejects(server.push(storage, 4n), (error) => isFailure(error))
  assert.equal(await clone.push(storage, 5n), 'stored')
})

test('a crash anywhere leaves one history, all bytes of both; a second run ends it', async () => {
  const { storage: before, server, clone } = await twoServers([2n, 3n])
  const objects = await objectsOf(before)
  const planned = await planFrom(before, server)
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(new Map(objects)),
    run: async (storage) => await adoptWal(storage, planned),
    // What only reads leaves nothing.
    crashAt: ({ operation }) => ['write', 'remove'].includes(operation),
    async check(storage) {
      await assertOneHistory(storage, server, [1n, 2n, 3n, 4n, 5n])
      const kept = await quarantined(storage)
      for (const segment of [2n, 3n]) {
        const there = await archived(storage, clone.name(segment))
        const isInPlace = there?.equals(clone.content(segment)) === true
        assert.ok(isInPlace || kept.includes(clone.name(segment)), String(segment))
      }
      await adoptWal(storage, await planFrom(storage, server))
      for (const segment of [2n, 3n]) {
        const there = await archived(storage, server.name(segment))
        assert.ok(there?.equals(server.content(segment)) === true, String(segment))
      }
    },
  })
  assert.ok(crashes >= 20, String(crashes))
})

async function keyInQuarantine(storage: Storage, name: string): Promise<string | undefined> {
  return [...(await objectsOf(storage)).keys()].find((one) => one.includes(`quarantine/${name}-`))
}

test('a crash while a chain comes out of quarantine: a second run ends it', async () => {
  const { storage: before, server, clone } = await twoServers([2n, 3n])
  await adoptWal(before, await planFrom(before, server))
  const objects = await objectsOf(before)
  const first = clone.content(2n)
  const hash = nameHash(hashContent(first))
  const take = async (storage: Storage, named: string | undefined): Promise<AdoptionPlan> => {
    const planned = await plan(storage, await openQuarantineSource(storage, request(), named))
    await adoptWal(storage, planned)
    return planned
  }
  const assertDone = async (storage: Storage): Promise<void> => {
    for (const segment of [2n, 3n]) {
      await assertArchived(storage, clone.name(segment), clone.content(segment))
    }
    assert.deepEqual(
      await quarantined(storage),
      [2n, 3n].map((one) => server.name(one)),
    )
    const record = await findWriterRecord(storage, PLACE, 1)
    assert.deepEqual(
      typeof record === 'object' && record.passedOver.map(({ dataDirectory }) => dataDirectory),
      [server.data],
    )
  }
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(new Map(objects)),
    run: async (storage) => await take(storage, hash),
    crashAt: ({ operation }) => ['write', 'remove'].includes(operation),
    async check(storage) {
      await assertOneHistory(storage, clone, [1n, 2n, 3n, 4n, 5n])
      const left = await objectsOf(storage)
      const isBegun = [...left.keys()].some((key) => key.endsWith(`${clone.name(2n)}-${hash}`))
      // Without a hash another chain may be meant when this one is through.
      for (const named of isBegun ? [hash, undefined] : [hash]) {
        const again = openMemoryStorage(new Map(left))
        await take(again, named)
        await assertDone(again)
        if (named === undefined) continue
        const { aside, bring } = await take(again, named)
        assert.deepEqual([aside, bring], [[], []])
      }
    },
  })
  assert.ok(crashes >= 24, String(crashes))
})

test('what was pushed since a crash stays, and its server is not passed over', async () => {
  const { storage, server, clone } = await twoServers([2n, 3n])
  await adoptWal(storage, await planFrom(storage, server))
  const hash = nameHash(hashContent(clone.content(2n)))
  const take = async (): Promise<AdoptionPlan> =>
    await plan(storage, await openQuarantineSource(storage, request(), hash))
  const { bring, ...planned } = await take()
  const copy = await keyInQuarantine(storage, clone.name(2n))
  const bytes = (await storage.read(copy ?? '')) as Uint8Array
  await adoptWal(storage, { ...planned, bring: bring.slice(0, 1), chain: [] })
  // As if it had been killed before copies were removed.
  await storage.write(copy ?? '', bytes)
  await clone.push(storage, 3n)
  await adoptWal(storage, await take())
  assert.equal(await clone.push(storage, 4n), 'stored')
  await adoptWal(storage, await take())
  assert.equal(await clone.push(storage, 5n), 'stored')
  await assert.rejects(server.push(storage, 6n), (error) => isFailure(error, 'TM1463'))
})

test('a clone that still archives while it runs is seen, and goes aside', async () => {
  const { storage, server, clone } = await twoServers([2n])
  const planned = await planFrom(storage, server)
  // Its push had read the record before it changed.
  await clone.push(storage, 3n)
  await clone.push(storage, 4n)
  await adoptWal(storage, planned)
  await assertOneHistory(storage, server, [1n, 2n, 3n, 4n, 5n])
  assert.equal(await archived(storage, server.name(4n)), undefined)
  assert.equal(await server.push(storage, 4n), 'stored')
})

/** What a push does that had read the record before, after the first removal. */
class LatePush extends ForwardingStorage {
  #late: (() => Promise<unknown>) | undefined

  constructor(inner: Storage, late: () => Promise<unknown>) {
    super(inner)
    this.#late = late
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    await super.write(key, bytes, options)
    const late = this.#late
    if (late === undefined || !key.endsWith('.wal')) return
    this.#late = undefined
    await late()
  }
}

test('what a push that was under way creates behind what was brought goes aside', async () => {
  const { storage, server, clone } = await twoServers([2n])
  const planned = await planFrom(storage, server)
  const file = parseWalFileName(clone.name(4n)) as WalFileName
  const content = clone.content(4n)
  const contentHash = hashContent(content)
  const object = { ...PLACE, name: file.name, headerTimeline: 1, content }
  const bytes = (): Uint8Array => encodeWalObject(object, contentHash)
  const late = new LatePush(storage, async () => {
    await storeWal(storage, { ...PLACE, file, contentHash, bytes })
  })
  const { aside } = await adoptWal(late, planned)
  assert.deepEqual(aside, [clone.name(2n), clone.name(4n)])
  assert.equal(await archived(storage, clone.name(4n)), undefined)
  assert.equal(await server.push(storage, 4n), 'stored')
})

test('without a difference only the writer changes', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(6, 1)
  await server.push(storage, 1n)
  const moved = server.clone()
  await assert.rejects(moved.push(storage, 4n), (error) => isFailure(error, 'TM1461'))
  moved.finish(4n, 'ready')
  await adoptWal(storage, await planFrom(storage, moved))
  assert.equal(await moved.push(storage, 4n), 'stored')
})

/** Two servers that were promoted to timeline 2; the first one has archived. */
async function twoPromotions() {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(1, 1)
  const [one, two] = [server.clone(2), server.clone(2)]
  for (const [at, each] of [one, two].entries()) {
    each.write(2, 5 + at)
    const fork = formatLsn(lsn(server.wal.position))
    const history = `1\t${fork}\tpromotion ${at}\n`
    if (at === 0) await each.pushHistory(storage, history)
    else {
      const refused = each.pushHistory(storage, history)
      await assert.rejects(refused, (error) => isFailure(error, 'TM1402'))
    }
  }
  await one.push(storage, 2n)
  two.finish(2n, 'ready')
  return { storage, one, two }
}

test('another promotion of the same number: history and segments change places', async () => {
  const { storage, one, two } = await twoPromotions()
  const planned = await planFrom(storage, two, 2)
  assert.deepEqual(names(planned.aside), [one.name(2n), '00000002.history'])
  await adoptWal(storage, planned)
  await assertArchived(storage, two.name(2n), two.content(2n))
  const history = (await archived(storage, '00000002.history'))?.toString()
  assert.match(history ?? '', /promotion 1/)
  assert.deepEqual((await quarantined(storage)).sort(), ['00000002.history', one.name(2n)].sort())
})

test('a crash while histories change places: a second run brings everything', async () => {
  const { storage: before, two } = await twoPromotions()
  const objects = await objectsOf(before)
  const planned = await planFrom(before, two, 2)
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(new Map(objects)),
    run: async (storage) => await adoptWal(storage, planned),
    crashAt: ({ operation }) => ['write', 'remove'].includes(operation),
    async check(storage) {
      await adoptWal(storage, await planFrom(storage, two, 2))
      await assertArchived(storage, two.name(2n), two.content(2n))
      const history = (await archived(storage, '00000002.history'))?.toString()
      assert.match(history ?? '', /promotion 1/)
    },
  })
  assert.ok(crashes >= 12, String(crashes))
})

test('a crash while a history comes back out of quarantine: a second run brings all', async () => {
  const { storage: before, one, two } = await twoPromotions()
  await adoptWal(before, await planFrom(before, two, 2))
  const objects = await objectsOf(before)
  const take = async (storage: Storage): Promise<void> => {
    const source = await openQuarantineSource(storage, request(2), undefined)
    await adoptWal(storage, await plan(storage, source, 2))
  }
  const crashes = await forEachCrashPoint({
    prepare: async () => openMemoryStorage(new Map(objects)),
    run: take,
    crashAt: ({ operation }) => ['write', 'remove'].includes(operation),
    async check(storage) {
      const kept = await quarantined(storage)
      const isDone = kept.length === 2 && (await holdsHistory(storage, /promotion 0/))
      if (!isDone) await take(storage)
      await assertArchived(storage, one.name(2n), one.content(2n))
      assert.ok(await holdsHistory(storage, /promotion 0/))
      assert.equal((await quarantined(storage)).length, 2)
    },
  })
  assert.ok(crashes >= 16, String(crashes))
})

async function holdsHistory(storage: Storage, what: RegExp): Promise<boolean> {
  return what.test((await archived(storage, '00000002.history'))?.toString() ?? '')
}

test('a reserved number is given to the server that is adopted, or released', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(1, 1)
  const promoted = server.clone(2)
  promoted.write(2, 2)
  const where = { hostName: 'h', dataDirectory: '/r', reservedAt: '' }
  const reserve = async (timeline: number): Promise<void> => {
    const reservation = { ...where, timeline, backup: 'b', restoreId: 'a1' }
    await storage.write(reservationKey(PLACE, timeline), encodeReservation(reservation))
  }
  await reserve(2)
  const history = `1\t${formatLsn(lsn(server.wal.position))}\tno reason\n`
  const refused = promoted.pushHistory(storage, history)
  await assert.rejects(refused, (error) => isFailure(error, 'TM1462'))
  promoted.finish(2n, 'ready')
  await adoptWal(storage, await planFrom(storage, promoted, 2))
  assert.equal(await findReservation(storage, PLACE, 2), undefined)
  assert.equal((await archived(storage, '00000002.history'))?.toString(), history)
  assert.deepEqual(await quarantined(storage), [])
  assert.equal(await promoted.push(storage, 2n), 'found')
  await reserve(3)
  await releaseReservation(storage, PLACE, 3)
  const twice = releaseReservation(storage, PLACE, 3)
  await assert.rejects(twice, (error) => isFailure(error, 'TM1466'))
})

test('what cannot be meant is refused before anything is written', async () => {
  const { storage, server } = await twoServers()
  const nothing = openDirectorySource(request(), join(server.data, 'pg_wal'))
  await assert.rejects(nothing, (error) => isFailure(error, 'TM1464'))
  const other = openDirectorySource({ ...request(), systemIdentifier: '1' }, server.data)
  await assert.rejects(other, (error) => isFailure(error, 'TM1464'))
  const empty = openQuarantineSource(storage, request(7), undefined)
  await assert.rejects(empty, (error) => isFailure(error, 'TM1464'))
  const third = new WritingServer()
  third.write(8, 3)
  third.finish(5n, 'ready')
  const parted = planFrom(storage, third)
  await assert.rejects(parted, (error) => isFailure(error, 'TM1464'))
  writeFileSync(join(server.data, 'tidemark.restored'), '{}')
  const copy = openDirectorySource(request(), server.data)
  await assert.rejects(copy, (error) => isFailure(error, 'TM1405'))
})

test('what its pg_wal has recycled comes from quarantine, or nothing is adopted', async () => {
  const { storage, server, clone } = await twoServers()
  await adoptWal(storage, await planFrom(storage, server))
  await server.push(storage, 4n)
  // Of its own segments 2 to 5, which differ, it holds the last ones only.
  for (const segment of [2n, 3n]) clone.recycle(segment)
  for (const segment of [4n, 5n]) clone.finish(segment, segment === 4n ? 'done' : 'ready')
  const planned = await planFrom(storage, clone)
  assert.deepEqual(
    names(planned.aside),
    [4n, 3n, 2n].map((one) => server.name(one)),
  )
  await adoptWal(storage, planned)
  for (const segment of [2n, 3n, 4n, 5n]) {
    await assertArchived(storage, clone.name(segment), clone.content(segment))
  }
  for (const segment of [2n, 3n, 4n]) server.recycle(segment)
  server.finish(5n, 'ready')
  const key = [...(await objectsOf(storage)).keys()].find((one) => {
    return one.includes(`quarantine/${server.name(3n)}`)
  })
  await storage.remove(key ?? '')
  await assert.rejects(planFrom(storage, server), (error) => isFailure(error, 'TM1464'))
})

test('what was streamed from the other server goes aside, too', async () => {
  const { storage, server, clone } = await twoServers([2n, 3n])
  server.put(4n)
  const stream = async (from: WritingServer, opening: string): Promise<string> => {
    const segment = from.name(4n)
    const bytes = from.content(4n).subarray(0, MB / 2)
    const startedAt = new Date().toISOString()
    const about = { walSegmentSizeBytes: MB, opening, writer: '1', startedAt }
    const piece = encodeTailPiece({ ...PLACE, ...about, segment }, 0, [bytes])
    const key = pieceKey('main', PLACE.systemIdentifier, segment, opening, 0, bytes.length)
    await storage.write(key, piece)
    return key
  }
  const [own, other] = [await stream(server, 'a'.repeat(16)), await stream(clone, 'b'.repeat(16))]
  await adoptWal(storage, await planFrom(storage, server))
  assert.ok((await storage.size(own)) !== undefined)
  assert.equal(await storage.size(other), undefined)
  const kept = await archived(storage, `${clone.name(4n)}.partial`)
  assert.ok(kept?.subarray(0, MB / 2).equals(clone.content(4n).subarray(0, MB / 2)) === true)
})

test('several in quarantine: one is named by its hash', async () => {
  const { storage } = await twoServers([2n])
  const other = new WritingServer()
  other.write(5, 8)
  const brought = other.push(storage, 2n)
  await assert.rejects(brought, (error) => isFailure(error, 'TM1402'))
  const several = openQuarantineSource(storage, request(), undefined)
  await assert.rejects(several, (error) => {
    assert.ok(isFailure(error, 'TM1464'))
    assert.equal(Object(error.details?.['names']).length, 2)
    return true
  })
  const key = [...(await objectsOf(storage)).keys()].find((one) => one.includes('quarantine/'))
  const hash = key?.slice(-16)
  const source = await openQuarantineSource(storage, request(), hash)
  assert.equal(source.segments.size, 1)
})

async function objectsOf(storage: Storage): Promise<Map<string, Uint8Array>> {
  const objects = new Map<string, Uint8Array>()
  for await (const { key } of storage.list('')) {
    objects.set(key, (await storage.read(key)) ?? new Uint8Array())
  }
  return objects
}
