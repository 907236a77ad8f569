/**
 * `npm run bench -- --dump`: `tidemark dump` and `load` beside pg_dump and pg_restore with files,
 * in one run: with the options that Tidemark gives the tools (no compression), and with their own
 * defaults; and what a second dump stores after a part of the rows has changed.
 */
import { mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { runChecked } from '../../test/harness/run-program.ts'
import { serverUser } from '../../test/harness/server-user.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { installPackage } from '../install-package.ts'
import { type Command, type Measurement, measure, median } from '../measure.ts'
import { describeRun } from '../scale/measure-scale.ts'

const SETTINGS = {
  shared_buffers: '1GB',
  max_wal_size: '20GB',
  checkpoint_timeout: '30min',
  autovacuum: 'off',
} as const
const CHANGED_PERCENT = 1

type Tell = (text: string) => void

interface Bench {
  readonly server: PostgresServer
  readonly directory: string
  readonly tidemark: (...args: string[]) => Command
  readonly plain: (tool: string, ...args: string[]) => Command
  readonly tell: Tell
}

/** Of one case, in the order of rounds. */
interface Row {
  readonly name: string
  readonly ours: Measurement[]
  readonly theirs: Measurement[]
}

export async function measureDump(
  args: readonly string[],
  tell: Tell,
): Promise<string | undefined> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      dump: { type: 'boolean' },
      scale: { type: 'string', default: '50' },
      rounds: { type: 'string', default: '3' },
      directory: { type: 'string' },
      'dry-run': { type: 'boolean', default: false },
    },
  })
  const directory = temporaryDirectory(serverUser(), 'tidemark-dump-', values.directory)
  await using server = await startPostgres({
    embedded: false,
    settings: SETTINGS,
    directory: join(directory, 'data'),
  })
  await server.sql('CREATE DATABASE bench')
  await server.tool('pgbench', ['-i', '-q', '-s', values.scale, 'bench'])
  const bench = await setUp(server, directory, tell)
  const rows = await measureDumps(bench, Number(values.rounds))
  rows.push(await measureLoads(bench, Number(values.rounds)))
  const second = await measureSecond(bench)
  const section = await format(values.scale, rows, second)
  console.log(`\n${section}`)
  rmSync(join(directory, 'plain'), { recursive: true, force: true })
  return values['dry-run'] ? undefined : section
}

async function setUp(server: PostgresServer, directory: string, tell: Tell): Promise<Bench> {
  const { runAs } = server
  const own = (name: string): string => {
    const path = join(directory, name)
    mkdirSync(path, { recursive: true, mode: 0o777 })
    return path
  }
  const program = await installPackage(join(directory, 'package'))
  const home = own('home')
  await runChecked('chown', ['-R', `${runAs?.uid ?? 0}`, home, own('plain')])
  const env = { HOME: home, PGHOST: server.socketDirectory, PGPORT: String(server.port) }
  const config = ['--config', join(home, 'tidemark.yaml'), '--no-progress']
  const command = (path: string, args: readonly string[]): Command => {
    return { program: path, args, runAs, env: { ...env, PGUSER: 'postgres' } }
  }
  const init = [...config, 'init', '--yes', '--name', 'main', '--connection', server.url()]
  init.push('--repository', `file://${join(home, 'repository')}`)
  await runChecked(program, init, { runAs, env })
  return {
    server,
    directory,
    tidemark: (...args) => command(program, [...config, '--json', ...args]),
    plain: (tool, ...args) => command(join(server.binDirectory, tool), args),
    tell,
  }
}

async function measureDumps(bench: Bench, rounds: number): Promise<Row[]> {
  const file = join(bench.directory, 'plain/bench.dump')
  const same = ['-Fc', '-Z0', '-f', file, 'bench']
  const rows: Row[] = [
    { name: 'dump, custom, pg_dump -Z0', ours: [], theirs: [] },
    { name: 'dump, custom, pg_dump as it comes (gzip)', ours: [], theirs: [] },
  ]
  for (let round = 1; round <= rounds; round++) {
    // A dump that finds its chunks is another case.
    forgetDumps(bench.directory)
    const ours = await measure(bench.tidemark('dump', 'main', '--database', 'bench'))
    const theirs = await measure(bench.plain('pg_dump', ...same))
    const gzip = await measure(bench.plain('pg_dump', '-Fc', '-f', `${file}.gz`, 'bench'))
    rows[0]?.ours.push(ours)
    rows[0]?.theirs.push(theirs)
    rows[1]?.ours.push(ours)
    rows[1]?.theirs.push(gzip)
    const seconds = [ours, theirs, gzip].map(({ wallSeconds }) => wallSeconds.toFixed(2))
    bench.tell(`dump ${round}: ${seconds.join(', ')} s`)
  }
  return rows
}

async function measureLoads(bench: Bench, rounds: number): Promise<Row> {
  const file = join(bench.directory, 'plain/bench.dump')
  const row: Row = { name: 'load, custom, pg_restore -e', ours: [], theirs: [] }
  for (let round = 1; round <= rounds; round++) {
    const load = async (command: Command): Promise<Measurement> => {
      await bench.server.sql('DROP DATABASE IF EXISTS target')
      await bench.server.sql('CREATE DATABASE target TEMPLATE template0')
      await bench.server.sql('CHECKPOINT')
      return await measure(command)
    }
    const into = ['load', 'latest', 'main', '--into', 'target', '--no-analyze']
    row.ours.push(await load(bench.tidemark(...into)))
    row.theirs.push(await load(bench.plain('pg_restore', '-e', '-d', 'target', file)))
    bench.tell(
      `load ${round}: ${row.ours.at(-1)?.wallSeconds}, ${row.theirs.at(-1)?.wallSeconds} s`,
    )
  }
  return row
}

interface Stored {
  readonly first: number
  /** After rows side by side have changed, then after rows all over the table. */
  readonly together: number
  readonly spread: number
  readonly fileBytes: number
  readonly gzipBytes: number
}

async function measureSecond({ server, directory, tidemark }: Bench): Promise<Stored> {
  forgetDumps(directory)
  const stored = async (): Promise<number> => {
    const { output } = await measure(tidemark('dump', 'main', '--database', 'bench'))
    const { dump } = JSON.parse(output) as { dump: { sizes: { storedBytes: number } } }
    return dump.sizes.storedBytes
  }
  const change = async (condition: string): Promise<void> => {
    const update = 'UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE'
    await server.sql(`${update} ${condition}`, [], 'bench')
  }
  const first = await stored()
  const [row] = await server.sql<{ rows: number }>(
    'SELECT max(aid) AS rows FROM pgbench_accounts',
    [],
    'bench',
  )
  await change(`aid <= ${Math.round(((row?.rows ?? 0) * CHANGED_PERCENT) / 100)}`)
  const together = await stored()
  await change(`aid % ${100 / CHANGED_PERCENT} = 0`)
  const spread = await stored()
  const size = (name: string): number => statSync(join(directory, 'plain', name)).size
  const files = { fileBytes: size('bench.dump'), gzipBytes: size('bench.dump.gz') }
  return { first, together, spread, ...files }
}

/** So that the next dump finds nothing that is stored already. */
function forgetDumps(directory: string): void {
  const dumps = join(directory, 'home/repository/clusters/main/dumps')
  rmSync(dumps, { recursive: true, force: true })
}

async function format(scale: string, rows: readonly Row[], stored: Stored): Promise<string> {
  const head =
    '| case | n | tidemark s | plain tool s | ratio of times (pairs) | cpu s | peak PSS MiB |\n' +
    '|---|---|---|---|---|---|---|\n'
  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
  const { first, together, spread, fileBytes, gzipBytes } = stored
  return (
    `## Dumps\n\n- database: pgbench, scale ${scale}\n` +
    '- the plain tools write and read files, with fsync as they do\n' +
    `${await describeRun()}` +
    `- stored: first dump ${mb(first)}; after ${CHANGED_PERCENT} % of the rows, side by side, ` +
    `were updated ${mb(together)} more; after ${CHANGED_PERCENT} % all over the table ` +
    `${mb(spread)} more\n` +
    `- the tool's files are ${mb(fileBytes)} (-Z0) and ${mb(gzipBytes)} (gzip)\n\n` +
    `${head}${rows.map(formatRow).join('')}`
  )
}

function formatRow({ name, ours, theirs }: Row): string {
  const of = (all: readonly Measurement[], pick: (one: Measurement) => number): number =>
    median(all.map(pick))
  const both = (pick: (one: Measurement) => number, digits: number): string =>
    `${of(ours, pick).toFixed(digits)} / ${of(theirs, pick).toFixed(digits)}`
  const wall = (one: Measurement): number => one.wallSeconds
  const pairs = ours.map((one, at) => one.wallSeconds / (theirs[at]?.wallSeconds ?? Number.NaN))
  const cells = [name, ours.length, of(ours, wall).toFixed(2), of(theirs, wall).toFixed(2)]
  cells.push(
    median(pairs).toFixed(2),
    both(({ cpuSeconds }) => cpuSeconds, 2),
  )
  cells.push(both(({ peakPssBytes }) => peakPssBytes / 2 ** 20, 0))
  return `| ${cells.join(' | ')} |\n`
}
