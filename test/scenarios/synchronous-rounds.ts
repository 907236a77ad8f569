/**
 * What a synchronous receiver promises: writers commit, the server is killed at any moment, and
 * every commit that a client was told of is in the repository, without the server's disk.
 */
import assert from 'node:assert/strict'
import type pg from 'pg'
import { readTimelinePath } from '../../src/archive/find-history.ts'
import { scanWal } from '../../src/archive/scan-wal.ts'
import { type Lsn, parseLsn } from '../../src/postgres/lsn.ts'
import { listSystemIdentities } from '../../src/repository/system-identity.ts'
import type { PostgresServer } from '../harness/postgres-server.ts'
import type { RunningTidemark } from '../harness/tidemark.ts'
import type { StreamedCluster } from './streamed-cluster.ts'

const WRITERS = 4

export interface Acknowledged {
  readonly id: number
  readonly xid: number
}

export interface Rounds {
  /** Of all rounds, in the order of their acknowledgement. */
  readonly acknowledged: readonly Acknowledged[]
  /** Writers commit; after a while the server is killed, in some rounds the receiver before. */
  play(round: number): Promise<void>
  /** All of it is in the repository, by its commit records. */
  check(): Promise<void>
  /** Ends the receiver. */
  stop(): Promise<void>
}

export async function prepareRounds(
  cluster: StreamedCluster,
  random: () => number,
): Promise<Rounds> {
  const { server } = cluster
  await server.sql('CREATE TABLE acknowledged (id int)')
  await server.sql('CREATE TABLE ballast (text text)')
  await cluster.ok('backup')
  const start = await flushedBy(server)
  let receiver = cluster.receive('--synchronous')
  await server.sql(`ALTER SYSTEM SET synchronous_standby_names = 'tidemark'`)
  await server.sql('SELECT pg_reload_conf()')
  const acknowledged: Acknowledged[] = []
  let next = 0
  const restart = async (): Promise<void> => {
    receiver.kill('SIGKILL')
    await receiver.done
    receiver = cluster.receive('--synchronous')
  }
  return {
    acknowledged,
    async play(round) {
      const before = acknowledged.length
      const writers = await Promise.all(
        Array.from({ length: WRITERS }, async () => await server.connect()),
      )
      const writing = writers.map(async (client) => {
        await write(client, () => ++next, acknowledged)
      })
      await waitUntil(() => acknowledged.length > before, receiver)
      await sleep(random() * 300)
      if (round % 3 === 1) await restart()
      if (round % 3 === 2) receiver.kill('SIGKILL')
      if (round % 2 === 0) await sleep(random() * 100)
      await server.kill()
      await Promise.all(writing)
      if (round % 3 === 2) await restart()
      assert.ok(acknowledged.length > before, 'nothing was committed')
    },
    async check() {
      const committed = await committedXids(cluster, start)
      const missing = acknowledged.filter(({ xid }) => !committed.has(xid))
      assert.deepEqual(missing, [], `${missing.length} of ${acknowledged.length} are lost`)
    },
    async stop() {
      // It may have been started a moment ago: until it says that the server is away, it may not
      // listen to signals yet.
      await waitUntil(() => receiver.said() !== '', receiver)
      receiver.kill('SIGTERM')
      assert.equal((await receiver.done).status, 0)
    },
  }
}

/** Until the connection is gone; each row is noted once its commit was acknowledged. */
async function write(
  client: pg.Client,
  nextId: () => number,
  acknowledged: Acknowledged[],
): Promise<void> {
  try {
    for (;;) {
      const id = nextId()
      const { rows } = await client.query<{ xid: string }>(
        `WITH filling AS (INSERT INTO ballast SELECT repeat('x', $1 % 5000))
         INSERT INTO acknowledged VALUES ($1) RETURNING xmin::text AS xid`,
        [id],
      )
      acknowledged.push({ id, xid: Number(rows[0]?.xid) })
    }
  } catch {
    // Killed, with the server.
  } finally {
    await client.end().catch(() => {})
  }
}

async function flushedBy(server: PostgresServer): Promise<Lsn> {
  const [row] = await server.sql<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn')
  return parseLsn(row?.lsn ?? '') ?? (0n as Lsn)
}

async function committedXids({ storage }: StreamedCluster, from: Lsn): Promise<Set<number>> {
  const [identity] = await listSystemIdentities(storage, 'main')
  const { systemIdentifier, walSegmentSizeBytes } = identity ?? assert.fail('no server')
  const path = await readTimelinePath(storage, 'main', systemIdentifier, 1)
  const committed = new Set<number>()
  const place = { storages: [storage], cluster: 'main', systemIdentifier, walSegmentSizeBytes }
  const { fault } = await scanWal({
    ...place,
    path,
    start: { from },
    visit(_record, event) {
      if (event?.kind === 'commit') committed.add(event.xid)
      return false
    },
  })
  assert.equal(fault, undefined)
  return committed
}

async function waitUntil(isTrue: () => boolean, receiver: RunningTidemark): Promise<void> {
  let ended: string | undefined
  receiver.done.then(({ stdout, stderr }) => {
    ended = stdout + stderr
  })
  const limit = Date.now() + 60_000
  while (!isTrue()) {
    if (ended !== undefined) throw new Error(`the receiver has ended:\n${ended}`)
    if (Date.now() > limit) throw new Error('the receiver does not come to it')
    await sleep(5)
  }
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}
