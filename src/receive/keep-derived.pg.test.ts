/** What a receiver writes beside the WAL: indexes, and snapshots of names. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { buildSegment, SYSTEM, segmentName } from '../../test/harness/wal-builder.ts'
import { Failure } from '../base/failure.ts'
import { eventsKey } from '../events/index-keys.ts'
import { findNamesSnapshot, listNamesSnapshots } from '../events/names-snapshot.ts'
import { findIndexHeader } from '../events/store-index.ts'
import { openServerSession } from '../postgres/server-session.ts'
import { hashContent } from '../archive/wal-object.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { DerivedKeeper } from './keep-derived.ts'

const ID = SYSTEM.toString()

let server: PostgresServer
let systemIdentifier: string

before(async () => {
  server = await startPostgres({ walSegmentSizeMb: 1 })
  await server.sql('CREATE TABLE kept (n int)')
  const session = await openServerSession({ connection: server.url(), applicationName: 'test' })
  systemIdentifier = session.facts.systemIdentifier.toString()
  await session.close()
})

after(async () => {
  await server.dispose()
})

async function waitUntil(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let waited = 0; waited < 600; waited++) {
    if (await holds()) return
    await sleep(50)
  }
  assert.fail('it did not come to pass')
}

function makeKeeper(storages: readonly Storage[]) {
  const warnings: Failure[] = []
  const onWarning = (failure: Failure): void => {
    warnings.push(failure)
  }
  const keeper = new DerivedKeeper({ cluster: 'main', storages, onWarning, firstNamesMs: 0 })
  return { keeper, warnings }
}

test('each segment that is archived gets its index, in every repository', async () => {
  const storages = [openMemoryStorage(), openMemoryStorage()]
  const { keeper, warnings } = makeKeeper(storages)
  try {
    const segments = [1n, 2n, 3n].map((segment) => ({
      name: segmentName({ segment }),
      content: buildSegment({ segment, mark: 1 }),
    }))
    for (const { name, content } of segments) keeper.archived(ID, name, content)
    const archive = { cluster: 'main', systemIdentifier: ID }
    for (const { name, content } of segments) {
      for (const storage of storages) {
        await waitUntil(async () => (await storage.size(eventsKey('main', ID, name))) !== undefined)
        const header = await findIndexHeader(storage, archive, name)
        assert.equal(header?.contentHash, hashContent(content))
      }
    }
  } finally {
    await keeper.close()
  }
  keeper.archived(ID, segmentName({ segment: 9n }), buildSegment({ segment: 9n, mark: 1 }))
  assert.deepEqual(warnings, [])
})

test('a repository that fails is told once, and the other one gets its indexes', async () => {
  const [failing, whole] = [openMemoryStorage(), openMemoryStorage()]
  failing.write = async () => {
    throw new Failure('TM1506', { message: 'full', fix: 'make room' })
  }
  const { keeper, warnings } = makeKeeper([failing, whole])
  try {
    for (const segment of [1n, 2n]) {
      const name = segmentName({ segment })
      keeper.archived(ID, name, buildSegment({ segment, mark: 1 }))
      await waitUntil(async () => (await whole.size(eventsKey('main', ID, name))) !== undefined)
    }
  } finally {
    await keeper.close()
  }
  assert.deepEqual(
    warnings.map(({ code }) => code),
    ['TM1506'],
  )
})

test('a snapshot of names is written, and another one after a change', async () => {
  const storage = openMemoryStorage()
  const archive = { cluster: 'main', systemIdentifier }
  const list = async () => await listNamesSnapshots(storage, archive)
  const keepOnce = async (isWritten: () => Promise<boolean>): Promise<void> => {
    const { keeper, warnings } = makeKeeper([storage])
    const named = { connection: server.url(), defaults: undefined, systemIdentifier }
    const stop = keeper.keepNames(named)
    try {
      await waitUntil(isWritten)
    } finally {
      stop.abort()
      await keeper.close()
    }
    assert.deepEqual(warnings, [])
  }
  await keepOnce(async () => (await list()).length === 1)
  const [first] = await list()
  const names = await findNamesSnapshot(storage, first?.key ?? '')
  const relations = names?.databases.flatMap((database) => database.relations) ?? []
  assert.ok(relations.some((relation) => relation.includes('kept')))
  await server.sql('CREATE TABLE another (n int)')
  await keepOnce(async () => (await list()).length === 2)
})
