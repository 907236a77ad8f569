/**
 * A server protected with `tidemark init --configure`, a table `mark` of which every row
 * lies in a WAL segment of its own, and what a test needs to spoil the repository and to
 * mend it again. A lost segment is a lost row, so silent loss is seen by counting.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import {
  openServerOn,
  type PostgresServer,
  type StartOptions,
  startPostgres,
} from '../harness/postgres-server.ts'
import { checkInvariant, createBench, type Load, startLoad } from '../harness/workload.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { type RunningTidemark, startTidemark, type TidemarkResult } from '../harness/tidemark.ts'

export interface Mark {
  readonly number: number
  readonly xid: string
  /** Just behind its commit. */
  readonly lsn: string
  /** Of the server, after its commit and before the next mark. */
  readonly time: string
  /** The segment that holds its commit. */
  readonly segment: string
}

export interface FaultCluster extends AsyncDisposable {
  readonly server: PostgresServer
  readonly base: string
  readonly repository: string
  readonly config: string
  readonly systemIdentifier: string
  run(...args: string[]): Promise<TidemarkResult>
  ok(...args: string[]): Promise<TidemarkResult>
  /** For a command that is killed, or that something is done to meanwhile. */
  begin(...args: string[]): RunningTidemark
  backup(...args: string[]): Promise<string>
  path(name: string): string
  /** One row in a WAL segment of its own, archived when this returns. */
  mark(number: number, on?: PostgresServer): Promise<Mark>
  load(): Promise<Load>
  segmentFile(segment: string): string
}

export async function startFaultCluster(options: StartOptions = {}): Promise<FaultCluster> {
  const settings = { archive_mode: 'on', wal_level: 'replica', ...options.settings }
  const server = await startPostgres({ ...options, settings })
  const base = temporaryDirectory(server.runAs, 'tidemark-faults-')
  const config = join(base, 'tidemark.yaml')
  const repository = join(base, 'repository')
  const begin = (...args: string[]): RunningTidemark =>
    startTidemark(['--config', config, ...args], { runAs: server.runAs })
  const run = async (...args: string[]): Promise<TidemarkResult> => await begin(...args).done
  const ok = async (...args: string[]): Promise<TidemarkResult> => {
    const result = await run(...args)
    assert.equal(result.status, 0, `${args.join(' ')}\n${result.stdout}${result.stderr}`)
    return result
  }
  const place = ['--connection', server.url(), '--repository', `file://${repository}`]
  await ok('init', '--yes', ...place, '--name', 'main', '--configure')
  // What these tests break and count is the archive alone; and processors are few.
  const text = readFileSync(config, 'utf8')
  writeFileSync(config, text.replace(/^( +)connection:/m, '$1wal: { index: false }\n$&'))
  // No segment of its own accord: the tests name the last one.
  await server.sql('ALTER SYSTEM SET archive_timeout = 0')
  await server.sql('SELECT pg_reload_conf()')
  await createBench(server, 1)
  await server.sql('CREATE TABLE mark (number int)')
  const [row] = await server.sql<{ id: string }>(
    'SELECT system_identifier::text AS id FROM pg_control_system()',
  )
  const systemIdentifier = row?.id ?? ''
  return {
    server,
    base,
    repository,
    config,
    systemIdentifier,
    run,
    ok,
    begin,
    async backup(...args) {
      const { backups } = (await ok('--json', 'backup', ...args)).json<Backups>()
      return backups[0]?.id ?? ''
    },
    path: (name) => join(base, name),
    mark: async (number, on = server) => await mark(on, number),
    load: async () => await startLoad(server, { clients: 1 }),
    segmentFile: (segment) =>
      join(
        repository,
        'clusters/main/wal',
        systemIdentifier,
        segment.slice(0, 8),
        segment.slice(8, 16),
        `${segment}.wal`,
      ),
    async [Symbol.asyncDispose]() {
      await server.dispose()
      await removeDirectory(base)
    },
  }
}

interface Backups {
  readonly backups: readonly { readonly id: string }[]
}

export async function mark(server: PostgresServer, number: number): Promise<Mark> {
  const client = await server.connect()
  try {
    await client.query('BEGIN')
    await client.query(`INSERT INTO mark VALUES (${number})`)
    const {
      rows: [xid],
    } = await client.query('SELECT txid_current()::text AS xid')
    await client.query('COMMIT')
    const {
      rows: [place],
    } = await client.query(
      `SELECT lsn::text, pg_walfile_name(lsn) AS segment, to_char(
         clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time
         FROM pg_current_wal_lsn() AS lsn`,
    )
    await archiveNow(server)
    return {
      number,
      xid: xid.xid,
      lsn: place.lsn,
      segment: place.segment,
      time: place.time,
    }
  } finally {
    await client.end()
  }
}

/** Switches the segment and waits until it is archived; gives its name. */
export async function archiveNow(server: PostgresServer): Promise<string> {
  const [end] = await server.sql<{ bytes: string }>(
    `SELECT pg_wal_lsn_diff(pg_switch_wal(), '0/0')::text AS bytes`,
  )
  // With nothing to switch that is a segment's beginning, which 17 gives the new one's name.
  const last = BigInt(end?.bytes ?? 0) - 1n
  const lsn = `${(last >> 32n).toString(16)}/${(last & 0xffffffffn).toString(16)}`
  const [row] = await server.sql<{ name: string }>(`SELECT pg_walfile_name('${lsn}') AS name`)
  const name = row?.name ?? ''
  const directory = join(server.dataDirectory, 'pg_wal/archive_status')
  for (let waited = 0; waited < 1200; waited++) {
    const names = readdirSync(directory)
    // A checkpoint removes the status together with the recycled segment.
    if (names.includes(`${name}.done`)) return name
    const segments = readdirSync(join(server.dataDirectory, 'pg_wal'))
    if (!segments.includes(name) && !names.includes(`${name}.ready`)) return name
    await sleep(25)
  }
  throw new Error(`${name} was not archived:\n${await server.log()}`)
}

/** Starts what was restored, checks it, and gives its marks. */
export async function marksOf(directory: string): Promise<number[]> {
  await using copy = await openServerOn(directory)
  await waitUntilPromoted(copy)
  await checkInvariant(copy)
  return await readMarks(copy)
}

export async function readMarks(server: PostgresServer): Promise<number[]> {
  const rows = await server.sql<{ number: number }>('SELECT number FROM mark ORDER BY number')
  return rows.map(({ number }) => number)
}

/** While replay runs without hot standby the server refuses connections (57P03). */
export async function waitUntilPromoted(server: PostgresServer): Promise<void> {
  for (let waited = 0; waited < 1200 && server.isRunning(); waited++) {
    if (await isPromoted(server)) return
    await sleep(25)
  }
  throw new Error(`not promoted:\n${await server.log()}`)
}

async function isPromoted(server: PostgresServer): Promise<boolean> {
  try {
    const [row] = await server.sql<{ on: boolean }>('SELECT pg_is_in_recovery() AS on')
    return row?.on === false
  } catch (error) {
    const { code } = error as { code?: string }
    if (code === '57P03' || code === 'ENOENT' || code === 'ECONNREFUSED') return false
    throw error
  }
}

/** Replaces a file's bytes as its owner left them: mode and owner stay. */
export function spoil(path: string, change: (bytes: Buffer) => Buffer): () => void {
  const intact = `${path}.intact`
  execFileSync('cp', ['-p', path, intact])
  writeFileSync(path, change(readFileSync(path)))
  return () => {
    rmSync(path, { force: true })
    renameSync(intact, path)
  }
}

export function flipBit(where: (length: number) => number): (bytes: Buffer) => Buffer {
  return (bytes) => {
    const at = where(bytes.length)
    bytes[at] = (bytes[at] as number) ^ 0x10
    return bytes
  }
}

export const inTheMiddle = (length: number): number => length >> 1

/** Takes a file or directory away; what it gives brings it back. */
export function remove(path: string): () => void {
  const away = `${path}.away`
  renameSync(path, away)
  return () => {
    renameSync(away, path)
  }
}

/** Every file below a directory, relative, sorted; empty when it is absent. */
export function filesBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true }).map(String).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Mends the fault however the check ends, so that the next test has its own only. */
export async function withFault(undo: () => void, check: () => Promise<void>): Promise<void> {
  try {
    await check()
  } finally {
    undo()
  }
}
