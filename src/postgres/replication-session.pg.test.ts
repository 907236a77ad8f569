import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { formatSegmentName, type Lsn, lsn, segmentNumber } from './lsn.ts'
import { isRefusal, openReplicationSession, type WalListener } from './replication-session.ts'

const MB = 1 << 20

/** Keeps what was streamed, in one piece. */
function collect(): WalListener & { readonly bytes: () => Buffer; readonly end: () => Lsn } {
  const pieces: Buffer[] = []
  let end = lsn(0n)
  return {
    wal(start, bytes) {
      if (end !== 0n) assert.equal(start, end)
      pieces.push(Buffer.from(bytes))
      end = lsn(start + BigInt(bytes.length))
    },
    keepalive() {},
    drained() {},
    bytes: () => Buffer.concat(pieces),
    end: () => end,
  }
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await new Promise((resolve) => setTimeout(resolve, 20))
}

for (const major of [13, 15, 18]) {
  test(`PostgreSQL ${major}: commands, a slot, and the bytes of pg_wal`, async (t) => {
    const server = await startPostgres({ major, walSegmentSizeMb: 1 })
    t.after(async () => await server.dispose())
    const connection = server.url()
    const session = await openReplicationSession({ connection, applicationName: 'test' })
    t.after(async () => await session.close())

    const [facts] = await server.sql('SELECT system_identifier::text FROM pg_control_system()')
    const answer = await session.identify()
    assert.equal(answer.systemIdentifier, facts?.['system_identifier'])
    assert.equal(answer.timeline, 1)
    assert.equal(await session.show('wal_segment_size'), '1MB')
    assert.equal(await session.findHistory(7), undefined)
    await server.sql("SELECT pg_create_physical_replication_slot('tidemark_test', true)")

    const start = lsn(answer.flushLsn - (answer.flushLsn % BigInt(MB)))
    const listener = collect()
    const begin = { slot: 'tidemark_test', lsn: start, timeline: 1 }
    const stream = await session.startStreaming(begin, listener)
    await server.sql(
      'CREATE TABLE t AS SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 4000) g',
    )
    const [row] = await server.sql<{ lsn: string }>('SELECT pg_switch_wal()::text AS lsn')
    assert.ok(row)
    await until(() => listener.end() > start + BigInt(3 * MB) && listener.end() % BigInt(MB) === 0n)
    const end = listener.end()
    stream.report(end, lsn(start + BigInt(MB)))
    await until(async () => {
      const [seen] = await server.sql(
        'SELECT flush_lsn - $1::pg_lsn AS d, replay_lsn FROM pg_stat_replication',
        ['0/0'],
      )
      return BigInt(String(seen?.['d'] ?? 0)) === start + BigInt(MB)
    })
    compare(server, start, listener.bytes().subarray(0, Number(end - start)))
    stream.stop()
    assert.equal(await stream.ended, undefined)
    // The connection takes commands again.
    assert.equal((await session.identify()).timeline, 1)
    await server.sql("SELECT pg_drop_replication_slot('tidemark_test')")
    await assert.rejects(
      async () => await session.startStreaming({ ...begin, slot: 'tidemark_test' }, collect()),
      (error) => isRefusal(error, '42704'),
    )
  })
}

function compare(server: PostgresServer, start: Lsn, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; at += MB) {
    const name = formatSegmentName(1, segmentNumber(lsn(start + BigInt(at)), MB), MB)
    const file = readFileSync(join(server.dataDirectory, 'pg_wal', name))
    assert.ok(file.equals(bytes.subarray(at, at + MB)), name)
  }
}
