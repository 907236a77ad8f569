/**
 * `npm run bench -- wal-read`: Tidemark's reader of WAL beside `pg_waldump --stats`, over the
 * same segments: both prove every record and count records, bytes and page images of each
 * resource manager. Their counts are compared.
 */
import { build } from 'esbuild'
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { formatSegmentName } from '../../src/postgres/lsn.ts'
import { RESOURCE_MANAGER_NAMES } from '../../src/postgres/wal-record.ts'
import { defaultMajor, findTool } from '../../test/harness/postgres-binaries.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { serverUser } from '../../test/harness/server-user.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { type Measurement, measure, median } from '../measure.ts'
import { describeRun } from '../scale/measure-scale.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const SEGMENT_BYTES = 16 * 1024 * 1024
const TARGET = 1.0

const SETTINGS = {
  shared_buffers: '512MB',
  wal_keep_size: '20GB',
  max_wal_size: '20GB',
  checkpoint_timeout: '30min',
  autovacuum: 'off',
} as const

interface Workload {
  readonly name: string
  /** One round of it; repeated until there are enough segments. */
  write(server: PostgresServer): Promise<void>
}

const WORKLOADS: readonly Workload[] = [
  {
    name: 'pgbench, a checkpoint every 8,000 transactions',
    async write(server) {
      await server.tool('pgbench', ['-n', '-c', '4', '-j', '2', '-t', '2000', 'bench'])
      await server.sql('CHECKPOINT')
    },
  },
  {
    name: 'small records: every row updated',
    write: async (server) =>
      await inBench(server, 'UPDATE pgbench_accounts SET abalance = 1 - abalance'),
  },
  {
    name: 'COPY',
    write: async (server) =>
      await inBench(
        server,
        `DROP TABLE IF EXISTS copied; CREATE TABLE copied (body text);
         COPY copied FROM PROGRAM 'seq -f "the row with the number %.0f" 1000000'`,
      ),
  },
]

async function inBench(server: PostgresServer, text: string): Promise<void> {
  await server.tool('psql', ['-q', '-v', 'ON_ERROR_STOP=1', '-c', text, 'bench'])
}

interface Contest {
  readonly workload: Workload
  readonly directory: string
  readonly names: readonly string[]
}

export async function measureRead(
  args: readonly string[],
  tell: (text: string) => void,
): Promise<string | undefined> {
  const { values } = parseArgs({
    args: args.filter((one) => one !== 'wal-read'),
    options: {
      segments: { type: 'string', default: '100' },
      rounds: { type: 'string', default: '9' },
      directory: { type: 'string' },
      'dry-run': { type: 'boolean', default: false },
    },
  })
  const directory = temporaryDirectory(serverUser(), 'tidemark-wal-read-', values.directory)
  const contests = await makeSegments(directory, Number(values.segments), tell)
  const program = await bundle(directory)
  const rows: string[] = []
  for (const contest of contests) {
    rows.push(await runContest(contest, program, Number(values.rounds), tell))
  }
  const section = await format(rows)
  console.log(`\n${section}`)
  return values['dry-run'] ? undefined : section
}

async function makeSegments(
  directory: string,
  segments: number,
  tell: (text: string) => void,
): Promise<Contest[]> {
  const settings = SETTINGS
  const data = join(directory, 'data')
  await using server = await startPostgres({ embedded: false, settings, directory: data })
  await server.sql('CREATE DATABASE bench')
  await server.tool('pgbench', ['-i', '-q', '-s', '20', 'bench'])
  const contests: Contest[] = []
  for (const [n, workload] of WORKLOADS.entries()) {
    const own = join(directory, `wal-${n}`)
    mkdirSync(own)
    const names = await writeSegments(server, workload, segments)
    for (const name of names) copyFileSync(join(data, 'pg_wal', name), join(own, name))
    contests.push({ workload, directory: own, names })
    tell(`${workload.name}: ${names.length} segments`)
  }
  return contests
}

/** Names of the whole segments that the workload wrote, in order. */
async function writeSegments(
  server: PostgresServer,
  workload: Workload,
  segments: number,
): Promise<string[]> {
  await server.sql('CHECKPOINT')
  await server.sql('SELECT pg_switch_wal()')
  const first = await segmentNow(server)
  while ((await segmentNow(server)) < first + BigInt(segments)) await workload.write(server)
  return Array.from({ length: segments }, (_, n) =>
    formatSegmentName(1, first + BigInt(n), SEGMENT_BYTES),
  )
}

async function segmentNow(server: PostgresServer): Promise<bigint> {
  const [row] = await server.sql<{ n: string }>(
    `SELECT div(pg_current_wal_insert_lsn() - '0/0', ${SEGMENT_BYTES})::text AS n`,
  )
  return BigInt(row?.n ?? 0)
}

/** As users get Tidemark: one file, and the kernel two levels above it in build/. */
async function bundle(directory: string): Promise<string> {
  const program = join(directory, 'program/bench/read-segments.mjs')
  await build({
    entryPoints: [join(ROOT, 'bench/wal/read-segments.ts')],
    outfile: program,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    logLevel: 'warning',
  })
  mkdirSync(join(directory, 'build'))
  const kernel = 'build/record-kernel.wasm'
  copyFileSync(join(ROOT, kernel), join(directory, kernel))
  return program
}

interface Contestant {
  /** Ours with one thread and with two; pg_waldump. */
  readonly name: 'one' | 'two' | 'theirs'
  readonly program: string
  readonly args: readonly string[]
}

type Samples = Readonly<Record<Contestant['name'], readonly Measurement[]>>

async function runContest(
  { workload, directory, names }: Contest,
  program: string,
  rounds: number,
  tell: (text: string) => void,
): Promise<string> {
  const [first = '', last = ''] = [names[0], names.at(-1)]
  const pgWaldump = findTool('pg_waldump', defaultMajor()) ?? 'pg_waldump'
  const dump = ['--stats', '-p', directory, first, last]
  const contestants: readonly Contestant[] = [
    { name: 'one', program: process.execPath, args: [program, directory, '1'] },
    { name: 'two', program: process.execPath, args: [program, directory, '2'] },
    { name: 'theirs', program: pgWaldump, args: dump },
  ]
  const all: Record<Contestant['name'], Measurement[]> = { one: [], two: [], theirs: [] }
  for (let round = 0; round <= rounds; round++) {
    for (const { name, ...command } of round % 2 === 0 ? contestants : contestants.toReversed()) {
      all[name].push(await measure({ ...command, runAs: undefined, env: {}, sampleMs: 20 }))
    }
  }
  const theirs = all.theirs.at(-1)?.output ?? ''
  compareCounts(all.one.at(-1)?.output ?? '', theirs)
  compareCounts(all.two.at(-1)?.output ?? '', theirs)
  tell(workload.name)
  // The first round warms the cache of the file system.
  return formatRow(workload, names.length, {
    one: all.one.slice(1),
    two: all.two.slice(1),
    theirs: all.theirs.slice(1),
  })
}

/** `Heap 5 600 8192` of ours; `Heap 5 ( 1.00) 600 ( 2.00) 8192 ( 3.00) …` of theirs. */
function compareCounts(ours: string, theirs: string): void {
  for (const name of RESOURCE_MANAGER_NAMES) {
    const line = new RegExp(`^${name}\\s+(.*)$`, 'm')
    const own = line.exec(ours)?.[1]?.trim().split(/\s+/).map(Number) ?? []
    const other =
      line
        .exec(theirs)?.[1]
        ?.replaceAll(/\([^)]*\)/g, ' ')
        .trim()
        .split(/\s+/) ?? []
    const agree = own.every((count, n) => count === Number(other[n]))
    if (!agree) throw new Error(`${name}: ${own.join(' ')} is not ${other.join(' ')}`)
  }
}

function formatRow(workload: Workload, segments: number, all: Samples): string {
  const megabytes = (segments * SEGMENT_BYTES) / 1e6
  const speed = (samples: readonly Measurement[]): string =>
    (megabytes / median(samples.map(({ wallSeconds }) => wallSeconds))).toFixed(0)
  const ratio = (ours: readonly Measurement[]): string =>
    median(
      ours.map(({ wallSeconds }, n) => (all.theirs[n]?.wallSeconds ?? Number.NaN) / wallSeconds),
    ).toFixed(2)
  const each = (pick: (one: Measurement) => number, digits: number): string =>
    [all.one, all.two, all.theirs]
      .map((samples) => median(samples.map(pick)).toFixed(digits))
      .join(' / ')
  const cells = [
    `${workload.name}; ${segments} segments`,
    String(all.one.length),
    `${speed(all.one)} / ${speed(all.two)} / ${speed(all.theirs)}`,
    ratio(all.one),
    ratio(all.two),
    each(({ cpuSeconds }) => cpuSeconds, 2),
    each(({ peakPssBytes }) => peakPssBytes / 2 ** 20, 0),
    `≥ ${TARGET.toFixed(2)}`,
  ]
  return `| ${cells.join(' | ')} |\n`
}

async function format(rows: readonly string[]): Promise<string> {
  const head =
    '| WAL | n | MB/s: one thread / two / pg_waldump | ratio of speeds, one thread | two threads ' +
    '| cpu s | peak PSS MiB | target |\n|---|---|---|---|---|---|---|---|\n'
  const title = '## Reading WAL, beside pg_waldump --stats'
  return `${title}\n\n${await describeRun()}\n${head}${rows.join('')}`
}
