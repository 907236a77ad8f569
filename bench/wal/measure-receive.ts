/**
 * `npm run bench -- --wal-receive`: `tidemark wal receive` beside `pg_receivewal`, in one run:
 * how fast WAL that waits is streamed, and how many transactions commit in a second when each
 * waits for the receiver's flush.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { environment, runChecked } from '../../test/harness/run-program.ts'
import { serverUser } from '../../test/harness/server-user.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { installPackage } from '../install-package.ts'
import { type Command, type Measurement, measure, median } from '../measure.ts'
import { describeRun } from '../scale/measure-scale.ts'

const TARGET = 0.9
const SCALE = 20
const CLIENTS = 4
/** A receiver runs for months: neither is measured while it is being compiled. */
const WARM_SECONDS = 5

const SETTINGS = {
  fsync: 'on',
  shared_buffers: '512MB',
  max_wal_size: '20GB',
  checkpoint_timeout: '30min',
  autovacuum: 'off',
  max_wal_senders: '10',
  max_replication_slots: '10',
} as const

interface Receiver {
  readonly name: string
  /** Everything up to `lsn`, then it ends. */
  catchUp(lsn: string): Command
  /** Until it is told to end; every flush is confirmed at once. */
  synchronous(): Command
  /** application_name of its session. */
  readonly application: string
}

export async function measureReceive(
  args: readonly string[],
  tell: (text: string) => void,
): Promise<string | undefined> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      'wal-receive': { type: 'boolean' },
      segments: { type: 'string', default: '60' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '15' },
      directory: { type: 'string' },
      'dry-run': { type: 'boolean', default: false },
    },
  })
  const rounds = Number(values.rounds)
  const directory = temporaryDirectory(serverUser(), 'tidemark-receive-', values.directory)
  await using server = await startPostgres({
    embedded: false,
    settings: SETTINGS,
    directory: join(directory, 'data'),
  })
  await server.sql('CREATE DATABASE bench')
  await server.tool('pgbench', ['-i', '-q', '-s', String(SCALE), 'bench'])
  const program = await installPackage(join(directory, 'package'))
  const receivers = await setUp(server, directory, program)
  const streams = await measureStreams(server, receivers, Number(values.segments), rounds, tell)
  const commits = await measureCommits(server, receivers, Number(values.seconds), rounds, tell)
  const section = await format({ segments: values.segments, seconds: values.seconds }, [
    formatStreams(streams, Number(values.segments)),
    formatCommits(commits),
  ])
  console.log(`\n${section}`)
  return values['dry-run'] ? undefined : section
}

async function setUp(
  server: PostgresServer,
  directory: string,
  program: string,
): Promise<[Receiver, Receiver]> {
  const own = (path: string): string => {
    mkdirSync(path, { recursive: true, mode: 0o750 })
    if (server.runAs !== undefined) chownSync(path, server.runAs.uid, server.runAs.gid)
    return path
  }
  const target = own(join(directory, 'pg_receivewal'))
  const home = own(join(directory, 'tidemark'))
  const config = join(home, 'tidemark.yaml')
  const env = { HOME: home }
  const init = ['--config', config, '--no-progress', 'init', '--yes', '--name', 'main']
  init.push('--connection', server.url(), '--repository', `file://${own(join(home, 'repository'))}`)
  await runChecked(program, init, { runAs: server.runAs, env })
  const receive = ['--config', config, '--no-progress', '--quiet', 'wal', 'receive', 'main']
  receive.push('--slot', 'bench_tidemark')
  const theirs = ['-h', server.socketDirectory, '-p', String(server.port), '-U', 'postgres']
  theirs.push('-D', target, '-S', 'bench_receivewal', '--no-loop')
  const pgReceivewal = join(server.binDirectory, 'pg_receivewal')
  await server.sql(`SELECT pg_create_physical_replication_slot('bench_receivewal', true)`)
  await server.sql(`SELECT pg_create_physical_replication_slot('bench_tidemark', true)`)
  const command = (path: string, args: readonly string[]): Command => {
    return { program: path, args, runAs: server.runAs, env }
  }
  return [
    {
      name: 'tidemark',
      application: 'tidemark',
      catchUp: (lsn) => command(program, [...receive, '--until', lsn]),
      synchronous: () => command(program, [...receive, '--synchronous']),
    },
    {
      name: 'pg_receivewal',
      application: 'pg_receivewal',
      catchUp: (lsn) => command(pgReceivewal, [...theirs, `--endpos=${lsn}`]),
      synchronous: () => command(pgReceivewal, [...theirs, '--synchronous']),
    },
  ]
}

interface Sample<T> {
  readonly name: string
  readonly round: number
  readonly value: T
}

async function measureStreams(
  server: PostgresServer,
  receivers: readonly [Receiver, Receiver],
  segments: number,
  rounds: number,
  tell: (text: string) => void,
): Promise<Sample<Measurement>[]> {
  const samples: Sample<Measurement>[] = []
  for (let round = 0; round <= rounds; round++) {
    // Round 0 only brings both to the same place.
    const lsn = await makeWal(server, round === 0 ? 1 : segments)
    for (const receiver of inTurn(receivers, round)) {
      const value = await measure(receiver.catchUp(lsn))
      if (round > 0) samples.push({ name: receiver.name, round, value })
      tell(`stream ${round}, ${receiver.name}: ${value.wallSeconds.toFixed(2)} s`)
    }
  }
  return samples
}

function inTurn<T>([one, other]: readonly [T, T], round: number): T[] {
  return round % 2 === 1 ? [one, other] : [other, one]
}

/** At least so many segments, full of what pgbench writes; the LSN behind them. */
async function makeWal(server: PostgresServer, segments: number): Promise<string> {
  await server.sql('CHECKPOINT')
  const [begin] = await server.sql<{ lsn: string }>('SELECT pg_current_wal_lsn() AS lsn')
  for (;;) {
    const args = ['-n', '-c', String(CLIENTS), '-j', '2', '-t', '2000', 'bench']
    await server.tool('pgbench', args)
    const [row] = await server.sql<{ lsn: string; made: number }>(
      `SELECT pg_switch_wal() AS lsn, pg_wal_lsn_diff(pg_current_wal_lsn(), $1)::float8 AS made`,
      [begin?.lsn],
    )
    if (row !== undefined && row.made >= segments * 2 ** 24) break
  }
  await server.sql(`SELECT pg_logical_emit_message(true, 'bench', 'end')`)
  const [end] = await server.sql<{ lsn: string }>('SELECT pg_current_wal_flush_lsn() AS lsn')
  return end?.lsn ?? ''
}

async function measureCommits(
  server: PostgresServer,
  receivers: readonly [Receiver, Receiver],
  seconds: number,
  rounds: number,
  tell: (text: string) => void,
): Promise<Sample<number>[]> {
  const samples: Sample<number>[] = []
  for (let round = 1; round <= rounds; round++) {
    for (const receiver of inTurn(receivers, round)) {
      const child = start(receiver.synchronous())
      try {
        await waitUntilSynchronous(server, receiver.application)
        await transactionsPerSecond(server, WARM_SECONDS)
        const value = await transactionsPerSecond(server, seconds)
        samples.push({ name: receiver.name, round, value })
        tell(`commits ${round}, ${receiver.name}: ${value.toFixed(0)} a second`)
      } finally {
        await server.sql(`ALTER SYSTEM SET synchronous_standby_names = ''`)
        await server.sql('SELECT pg_reload_conf()')
        await end(child)
      }
    }
  }
  return samples
}

function start({ program, args, runAs, env }: Command): ChildProcess {
  const stdio = ['ignore', 'ignore', 'inherit'] as const
  return spawn(program, args, { stdio: [...stdio], cwd: '/', env: environment(env), ...runAs })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await ended
}

async function waitUntilSynchronous(server: PostgresServer, application: string): Promise<void> {
  await server.sql(`ALTER SYSTEM SET synchronous_standby_names = '${application}'`)
  await server.sql('SELECT pg_reload_conf()')
  for (;;) {
    const rows = await server.sql(
      `SELECT 1 FROM pg_stat_replication WHERE application_name = $1
         AND sync_state = 'sync' AND state = 'streaming'`,
      [application],
    )
    if (rows.length > 0) return
    await sleep(100)
  }
}

async function transactionsPerSecond(server: PostgresServer, seconds: number): Promise<number> {
  await server.sql('CHECKPOINT')
  const args = ['-n', '-c', String(CLIENTS), '-j', '2', '-T', String(seconds), 'bench']
  const { stdout } = await server.tool('pgbench', args)
  return Number(/tps = ([\d.]+)/.exec(stdout)?.[1])
}

function ratios<T>(samples: readonly Sample<T>[], pick: (value: T) => number): number[] {
  const of = (name: string): Sample<T>[] => samples.filter((sample) => sample.name === name)
  const theirs = of('pg_receivewal')
  return of('tidemark').flatMap(({ round, value }) => {
    const pair = theirs.find((one) => one.round === round)
    return pair === undefined ? [] : [pick(value) / pick(pair.value)]
  })
}

function formatStreams(samples: readonly Sample<Measurement>[], segments: number): string {
  // Of speeds, not of times.
  const all = ratios(samples, ({ wallSeconds }) => 1 / wallSeconds)
  const cell = (name: string, pick: (value: Measurement) => number): string =>
    median(samples.filter((one) => one.name === name).map(({ value }) => pick(value))).toFixed(2)
  const both = (pick: (value: Measurement) => number): string =>
    `${cell('tidemark', pick)} / ${cell('pg_receivewal', pick)}`
  return [
    `streaming ${segments} segments, s`,
    String(all.length),
    cell('tidemark', ({ wallSeconds }) => wallSeconds),
    cell('pg_receivewal', ({ wallSeconds }) => wallSeconds),
    median(all).toFixed(3),
    both(({ cpuSeconds }) => cpuSeconds),
    both(({ peakPssBytes }) => peakPssBytes / 2 ** 20),
  ].join(' | ')
}

function formatCommits(samples: readonly Sample<number>[]): string {
  const all = ratios(samples, (value) => value)
  const of = (name: string): string =>
    median(samples.filter((one) => one.name === name).map(({ value }) => value)).toFixed(0)
  const cells = ['synchronous commits a second', String(all.length), of('tidemark')]
  return [...cells, of('pg_receivewal'), median(all).toFixed(3), '–', '–'].join(' | ')
}

async function format(
  options: { readonly segments: string; readonly seconds: string },
  rows: readonly string[],
): Promise<string> {
  const head =
    '| case | n | tidemark | pg_receivewal | ratio of speeds (pairs) ' +
    '| cpu s | peak PSS MiB | target |\n' +
    '|---|---|---|---|---|---|---|---|\n'
  const body = rows.map((row) => `| ${row} | ≥ ${TARGET.toFixed(2)} |\n`).join('')
  return (
    `## Receiving WAL\n\n` +
    `- WAL: pgbench, scale ${SCALE}, ${CLIENTS} clients; at least ${options.segments} segments\n` +
    `- commits: pgbench, ${CLIENTS} clients, ${options.seconds} s, ` +
    `each waits for the receiver's flush; ` +
    `${WARM_SECONDS} s before that are not counted, for either\n` +
    `- pg_receivewal writes plain segments; tidemark a repository in a directory (zstd)\n` +
    `${await describeRun()}\n${head}${body}`
  )
}
