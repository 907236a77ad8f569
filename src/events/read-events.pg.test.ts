/** What the event index says, beside what SQL did, on every supported version. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { doKnownThings, transactions } from '../../test/harness/known-changes.ts'
import { type ArchivedWal, archiveWalOf } from '../../test/harness/archived-wal.ts'
import {
  SAMPLED_MAJORS,
  type PostgresServer,
  startPostgres,
} from '../../test/harness/postgres-server.ts'
import { findWalFile } from '../archive/fetch-wal.ts'
import { hashContent } from '../archive/wal-object.ts'
import { parseSegmentName } from '../postgres/lsn.ts'
import { buildIndex } from './build-index.ts'
import type { FoldedEvent, FoldedTransaction } from './folded-event.ts'
import { encodeIndex } from './index-bytes/encode-index.ts'
import { type ReadEventsOptions, readEvents } from './read-events.ts'
import { findIndexEvents, proveIndex, writeIndex } from './store-index.ts'
import { eventsKey } from './index-keys.ts'

const KEEP = { wal_keep_size: '512MB', max_prepared_transactions: '5', autovacuum: 'off' }

interface World {
  readonly server: PostgresServer
  readonly wal: ArchivedWal
}

async function openWorld(major: number): Promise<World> {
  const server = await startPostgres({ major, walSegmentSizeMb: 1, settings: KEEP })
  return { server, wal: await archiveWalOf(server) }
}

async function readAll(
  { wal }: World,
  more: Partial<ReadEventsOptions> = {},
): Promise<FoldedEvent[]> {
  const { storage, cluster, systemIdentifier, walSegmentSizeBytes } = wal
  const events: FoldedEvent[] = []
  const path = { timeline: 1, ancestors: [] }
  const archive = { storages: [storage], cluster, systemIdentifier, walSegmentSizeBytes, path }
  for await (const event of readEvents({ ...archive, from: 'start', to: 'end', ...more })) {
    events.push(event)
  }
  return events
}

for (const major of SAMPLED_MAJORS) {
  test(`PostgreSQL ${major}: counts are those of SQL`, async () => {
    const world = await openWorld(major)
    const { server, wal } = world
    try {
      const expected = await doKnownThings(server)
      await wal.push()
      const computed = await readAll(world)
      for (const check of expected) check(computed)
      await compareStored(world, computed)
      await readFromEverywhere(world, computed)
    } finally {
      await server.dispose()
    }
  })
}

/** Stored indexes say what computed ones say, and computing again gives the same bytes. */
async function compareStored(world: World, computed: readonly FoldedEvent[]): Promise<void> {
  const { wal } = world
  const how = new Map<string, number>()
  await readAll(world, {
    onSegment: (name) => how.set(name, (how.get(name) ?? 0) + 1),
  })
  assert.ok(how.size >= 5, `${how.size} segments`)
  for (const name of how.keys()) {
    const request = { storages: [wal.storage], ...wal, name }
    const content = (await findWalFile(request))?.content as Buffer
    const build = () =>
      buildIndex({
        systemIdentifier: BigInt(wal.systemIdentifier),
        timeline: 1,
        segment: parseSegmentName(name, wal.walSegmentSizeBytes)?.segment as bigint,
        bytes: content,
        contentHash: hashContent(content),
      })
    assert.deepEqual(encodeIndex(build()), encodeIndex(build()))
    const { failures } = await writeIndex([wal.storage], wal, name, build())
    assert.deepEqual(failures, [])
    const key = eventsKey('main', wal.systemIdentifier, name)
    const stored = (await wal.storage.read(key)) as Uint8Array
    const proved = proveIndex(key, name, wal, stored)
    assert.deepEqual(normal(proved), normal(build()))
    assert.ok((await findIndexEvents(wal.storage, wal, name)) !== undefined)
  }
  const reads: string[] = []
  const again = await readAll(world, { onSegment: (_, one) => reads.push(one) })
  assert.ok(reads.every((one) => one === 'read'))
  assert.deepEqual(again, computed)
}

function normal(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (key, one: unknown) => {
      if (typeof one === 'bigint') return String(one)
      if (one instanceof Map) return [...one]
      if (one instanceof Uint32Array) return [...one]
      if (key === 'bytes') return Buffer.from(one as Uint8Array).toString('hex')
      if (key === 'node') return { ...(one as object), isToast: undefined }
      return one
    }),
  )
}

/** From any place on, what ends behind it is the same as when all is read. */
async function readFromEverywhere(world: World, all: readonly FoldedEvent[]): Promise<void> {
  const isLong = (one: FoldedTransaction): boolean => one.lsn - one.firstLsn > 2_000_000n
  const places = transactions(all).filter((one, n) => n % 25 === 0 || isLong(one))
  assert.ok(places.some(isLong))
  for (const { lsn, time } of places) {
    const behind = await readAll(world, { from: { lsn } })
    const expected = transactions(all).filter((one) => one.lsn >= lsn)
    assert.deepEqual(
      transactions(behind).map((one) => ({ ...one, isIncomplete: false })),
      expected.map((one) => ({ ...one, isIncomplete: false })),
    )
    const first = transactions(behind)[0] as FoldedTransaction
    if (isLong(first)) assert.equal(first.isIncomplete, false)
    const before = await readAll(world, { to: { lsn } })
    assert.equal(transactions(before).length + expected.length, transactions(all).length)
    const timed = await readAll(world, { from: { time: time as bigint } })
    const ends = transactions(timed).map(({ xid }) => xid)
    const since = transactions(all).filter((one) => (one.time as bigint) >= (time as bigint))
    assert.deepEqual(
      ends,
      since.map(({ xid }) => xid),
    )
  }
}
