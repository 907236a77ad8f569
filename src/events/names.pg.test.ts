/** Names of a real server's file nodes: snapshots, and what the WAL tells between them. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type ArchivedWal, archiveWalOf } from '../../test/harness/archived-wal.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { openServerSession } from '../postgres/server-session.ts'
import { type NameResolver, openNameResolver, type RelationName } from './name-resolver.ts'
import {
  type CatalogueNames,
  findNamesSnapshot,
  isWorthWriting,
  listNamesSnapshots,
  writeNamesSnapshot,
} from './names-snapshot.ts'
import { readCatalogueNames } from './read-catalogue-names.ts'
import { readEvents } from './read-events.ts'

let server: PostgresServer
let wal: ArchivedWal

before(async () => {
  server = await startPostgres({
    walSegmentSizeMb: 1,
    settings: { wal_keep_size: '256MB', autovacuum: 'off' },
  })
  wal = await archiveWalOf(server)
})

after(async () => {
  await server.dispose()
})

async function readNames(): Promise<CatalogueNames> {
  const connection = server.url()
  const session = await openServerSession({ connection, applicationName: 'names' })
  try {
    return await readCatalogueNames({ session, connection })
  } finally {
    await session.close()
  }
}

const path = { timeline: 1, ancestors: [] }

/** The names of all file nodes that transactions changed or dropped, by number. */
async function namesOfChanges(): Promise<{
  names: Map<number, RelationName>
  resolver: NameResolver
}> {
  const archive = { storages: [wal.storage], ...wal, path }
  const resolver = await openNameResolver(archive)
  const names = new Map<number, RelationName>()
  for await (const event of readEvents({ ...archive, from: 'start', to: 'end' })) {
    resolver.learn(event)
    if (event.kind !== 'transaction') continue
    const nodes = [...event.rows.map(({ node }) => node), ...event.dropped]
    for (const node of nodes) {
      const name = resolver.nameOf(node, event)
      if (name !== undefined) names.set(node.number, name)
      else names.delete(node.number)
    }
  }
  return { names, resolver }
}

async function nodeOf(relation: string): Promise<number> {
  const [row] = await server.sql('SELECT pg_relation_filenode($1::regclass)::int8 AS node', [
    relation,
  ])
  return Number(row?.['node'])
}

test('names are those of the moment, through renames, truncates and drops', async () => {
  await server.sql(`
    CREATE SCHEMA shop;
    CREATE TABLE shop.orders (id int PRIMARY KEY, v text);
    CREATE TABLE shop.kept (id int);
    CREATE TABLE shop.renamed (id int);
    ANALYZE`)
  const first = await readNames()
  assert.deepEqual(await writeNamesSnapshot([wal.storage], wal, first), [])
  const [orders, kept, renamed] = [
    await nodeOf('shop.orders'),
    await nodeOf('shop.kept'),
    await nodeOf('shop.renamed'),
  ]
  await server.sql(`INSERT INTO shop.orders SELECT n, 'x' FROM generate_series(1, 50) n`)
  await server.sql('INSERT INTO shop.kept VALUES (1)')
  await server.sql('INSERT INTO shop.renamed VALUES (1)')
  await server.sql('TRUNCATE shop.orders')
  const truncated = await nodeOf('shop.orders')
  await server.sql(`INSERT INTO shop.orders VALUES (1, 'y')`)
  await server.sql('ALTER TABLE shop.renamed RENAME TO other')
  await server.sql('CREATE TABLE shop.passing AS SELECT 1 AS n')
  const passing = await nodeOf('shop.passing')
  await server.sql('DROP TABLE shop.passing')
  await server.sql('DROP TABLE shop.orders')
  const second = await readNames()
  assert.ok(isWorthWriting(second, first))
  assert.ok(!isWorthWriting(second, second))
  await writeNamesSnapshot([wal.storage], wal, second)
  await wal.push()
  const { names, resolver } = await namesOfChanges()
  const told = (node: number) => {
    const name = names.get(node)
    return [name?.database, name?.schema, name?.name, name?.asOf !== undefined]
  }
  assert.deepEqual(told(kept), ['postgres', 'shop', 'kept', false], 'both readings agree')
  assert.deepEqual(told(orders), ['postgres', 'shop', 'orders', true])
  assert.deepEqual(told(truncated), ['postgres', 'shop', 'orders', true], 'through TRUNCATE')
  assert.deepEqual(told(renamed), ['postgres', 'shop', 'renamed', true])
  assert.deepEqual(told(passing), ['postgres', 'shop', 'passing', true], 'only the WAL knew it')
  assert.equal(resolver.isCatalogue({ tablespace: 1663, database: 5, number: 1259 }), true)
  const rows = first.databases
    .find(({ name }) => name === 'postgres')
    ?.relations.find(([node]) => node === kept)
  assert.equal(rows?.[3], 'kept')
})

test('snapshots are listed by place, and a damaged one is left out', async () => {
  const listed = await listNamesSnapshots(wal.storage, wal)
  assert.equal(listed.length, 2)
  assert.ok((listed[0]?.lsn as bigint) < (listed[1]?.lsn as bigint))
  const key = listed[0]?.key as string
  const found = await findNamesSnapshot(wal.storage, key)
  assert.ok(found !== undefined && found.databases.length >= 2)
  const stored = Buffer.from((await wal.storage.read(key)) as Uint8Array)
  stored[60] = (stored[60] as number) ^ 1
  await wal.storage.write(key, stored)
  await assert.rejects(findNamesSnapshot(wal.storage, key), { code: 'TM1601' })
  const { names } = await namesOfChanges()
  assert.equal(names.get(await nodeOf('shop.kept'))?.name, 'kept', 'the other one is read')
})
