/** How large indexes are, beside the WAL that they are of. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { after, before, test } from 'node:test'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { parseSegmentName } from '../postgres/lsn.ts'
import { buildIndex } from './build-index.ts'
import { encodeIndex } from './index-bytes/encode-index.ts'

const MB = 1024 * 1024
const SIZE = 16 * MB

let server: PostgresServer
let systemIdentifier: bigint

before(async () => {
  server = await startPostgres({
    settings: { wal_keep_size: '4GB', max_wal_size: '1GB', synchronous_commit: 'off' },
  })
  const [row] = await server.sql('SELECT system_identifier::text AS id FROM pg_control_system()')
  systemIdentifier = BigInt(String(row?.['id']))
})

after(async () => {
  await server.dispose()
})

async function currentSegment(): Promise<string> {
  const [row] = await server.sql('SELECT pg_walfile_name(pg_current_wal_lsn()) AS name')
  return String(row?.['name'])
}

interface Measured {
  readonly segments: number
  readonly share: number
  readonly megabytesPerSecond: number
  readonly ends: number
}

/** The whole segments that `work` fills. */
async function measure(work: () => Promise<unknown>): Promise<Measured> {
  await server.sql('SELECT pg_switch_wal()')
  const first = await currentSegment()
  await work()
  const last = await currentSegment()
  const directory = join(server.dataDirectory, 'pg_wal')
  const names = (await readdir(directory)).filter((name) => name > first && name < last).sort()
  let [stored, ends, elapsed] = [0, 0, 0]
  for (const name of names.filter((one) => parseSegmentName(one, SIZE) !== undefined)) {
    const bytes = await readFile(join(directory, name))
    const started = performance.now()
    const index = buildIndex({
      systemIdentifier,
      timeline: 1,
      segment: parseSegmentName(name, SIZE)?.segment as bigint,
      bytes,
      contentHash: '00'.repeat(32),
    })
    stored += encodeIndex(index).length
    elapsed += performance.now() - started
    ends += index.header.endCount
    assert.equal(index.header.end, 'whole', name)
  }
  const raw = names.length * SIZE
  const megabytesPerSecond = raw / MB / (elapsed / 1000)
  return { segments: names.length, share: stored / raw, megabytesPerSecond, ends }
}

function tell(what: string, measured: Measured): void {
  const { segments, share, megabytesPerSecond, ends } = measured
  const percent = (share * 100).toFixed(2)
  const speed = megabytesPerSecond.toFixed(0)
  console.log(`${what}: ${percent} % of ${segments} segments, ${ends} ends, ${speed} MB/s`)
}

async function pgbench(...args: string[]): Promise<void> {
  await server.tool('pgbench', ['-n', ...args, 'postgres'])
}

test('pgbench with default settings: at most 2 %', async () => {
  await server.tool('pgbench', ['-i', '-q', '-s', '3', 'postgres'])
  const measured = await measure(async () => {
    await server.sql('CHECKPOINT')
    await pgbench('-c', '4', '-t', '6000')
  })
  tell('pgbench', measured)
  assert.ok(measured.segments >= 1)
  assert.ok(measured.share <= 0.02, String(measured.share))
})

/** Three sessions, so that transactions lie between each other. */
async function together(loop: string): Promise<void> {
  await Promise.all([1, 2, 3].map(async () => await server.sql(`DO $$ BEGIN ${loop} END $$`)))
}

test('one row per transaction, without images of pages: at most 5 %', async () => {
  await server.sql('CREATE TABLE tiny (n int)')
  const loop = 'FOR n IN 1..110000 LOOP INSERT INTO tiny VALUES (1); COMMIT; END LOOP;'
  const measured = await measure(async () => await together(loop))
  tell('one row per transaction', measured)
  assert.ok(measured.segments >= 1)
  assert.ok(measured.share <= 0.05, String(measured.share))
})

test('transactions that change nothing: at most 5 %', async () => {
  const loop = 'FOR n IN 1..300000 LOOP PERFORM txid_current(); COMMIT; END LOOP;'
  const measured = await measure(async () => await together(loop))
  tell('nothing but commits', measured)
  assert.ok(measured.segments >= 1)
  assert.ok(measured.share <= 0.05, String(measured.share))
})
