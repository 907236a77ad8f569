/**
 * What PostgreSQL itself says of WAL records: pg_waldump's lines and pg_walinspect's rows,
 * taken apart; and servers that archive WAL to a plain directory for it.
 */
import { spawn } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { formatLsn, type Lsn, parseLsn } from '../../src/postgres/lsn.ts'
import { findTool } from './postgres-binaries.ts'
import { type PostgresServer, startPostgres } from './postgres-server.ts'
import { environment } from './run-program.ts'
import { serverUser } from './server-user.ts'
import { temporaryDirectory } from './temporary-directory.ts'

const MB = 1024 * 1024

export interface WalDirectory {
  readonly directory: string
  readonly sizeBytes: number
  readonly systemIdentifier: bigint
  readonly from: Lsn
}

export async function startArchiving(
  major: number,
  walSegmentSizeMb: number,
  embedded?: boolean,
  settings: Readonly<Record<string, string>> = {},
) {
  const owner = serverUser()
  const directory = temporaryDirectory(owner)
  const server = await startPostgres({
    major,
    ...(embedded === undefined ? {} : { embedded }),
    walSegmentSizeMb,
    settings: {
      archive_mode: 'on',
      archive_command: `cp %p ${directory}/%f.tmp && mv ${directory}/%f.tmp ${directory}/%f`,
      max_prepared_transactions: '5',
      wal_level: 'replica',
      track_commit_timestamp: 'on',
      min_wal_size: `${2 * walSegmentSizeMb}MB`,
      max_wal_size: `${Math.max(64, 4 * walSegmentSizeMb)}MB`,
      ...settings,
    },
  })
  return { server, directory }
}

/** Switches the segment, and waits until it is archived. */
export async function archiveOf(
  server: PostgresServer,
  directory: string,
  from: Lsn,
  walSegmentSizeMb: number,
): Promise<WalDirectory> {
  const [row] = await server.sql<{ id: string; segment: string }>(
    `SELECT system_identifier::text AS id, pg_walfile_name(pg_switch_wal()) AS segment
       FROM pg_control_system()`,
  )
  await waitForFile(directory, row?.segment ?? '')
  const systemIdentifier = BigInt(row?.id ?? 0)
  return { directory, sizeBytes: walSegmentSizeMb * MB, systemIdentifier, from }
}

async function waitForFile(directory: string, name: string): Promise<void> {
  while (!(await readdir(directory)).includes(name)) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export async function currentLsn(server: PostgresServer): Promise<Lsn> {
  const [row] = await server.sql<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
  return parseLsn(row?.lsn ?? '') as Lsn
}

export interface DumpedRecord {
  readonly resourceManager: string
  readonly xid: number
  readonly lsn: string
  readonly previous: string
  readonly totalLength: number
  /** Of page images in it. */
  readonly imageBytes: number
  readonly description: string
  readonly blocks: string[]
}

const LENGTHS = 'len \\(rec/tot\\):\\s*(\\d+)/\\s*(\\d+)'
const PLACES = 'tx:\\s*(\\d+), lsn: (\\S+), prev (\\S+)'
const RECORD = new RegExp(`^rmgr: (\\S+)\\s+${LENGTHS}, ${PLACES}, desc: (.*)$`)
const BLOCK = /blkref #\d+: .*?(?=\s+blkref #|$)/g

/** Undefined: this machine has no pg_waldump of that version. */
export async function dumpWal(
  major: number,
  { directory, from }: WalDirectory,
  timeline = 1,
): Promise<DumpedRecord[] | undefined> {
  const records = streamDump(major, { directory, from }, timeline)
  return records === undefined ? undefined : await Array.fromAsync(records)
}

/** The same, one record after the other: the WAL of a whole test suite is millions. */
export function streamDump(
  major: number,
  { directory, from }: Pick<WalDirectory, 'directory' | 'from'>,
  timeline = 1,
): AsyncIterable<DumpedRecord> | undefined {
  const tool = findTool('pg_waldump', major)
  if (tool === undefined) return undefined
  const args = ['-b', '-p', directory, '-t', String(timeline), '-s', formatLsn(from)]
  // It ends with status 1 at the end of WAL, and says so.
  const child = spawn('sh', ['-c', '"$0" "$@" 2>/dev/null || true', tool, ...args], {
    env: environment({ TZ: 'UTC' }),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return parseDump(createInterface({ input: child.stdout }))
}

async function* parseDump(lines: AsyncIterable<string>): AsyncGenerator<DumpedRecord> {
  let last: DumpedRecord | undefined
  for await (const text of lines) {
    const match = RECORD.exec(text)
    if (match === null) {
      last?.blocks.push(...(text.match(BLOCK) ?? []))
      continue
    }
    if (last !== undefined) yield last
    const [, resourceManager = '', own, total, xid, lsn = '', previous = '', desc = ''] = match
    const imageBytes = Number(total) - Number(own)
    const numbers = { xid: Number(xid), totalLength: Number(total), imageBytes }
    last = { resourceManager, ...numbers, lsn, previous, description: desc, blocks: [] }
  }
  if (last !== undefined) yield last
}

/** As dumpWal, from the server's own pg_wal (15 and later). */
export async function inspectWal(
  server: PostgresServer,
  from: Lsn,
  to: Lsn,
): Promise<DumpedRecord[]> {
  await server.sql('CREATE EXTENSION IF NOT EXISTS pg_walinspect')
  const rows = await server.sql<Record<string, string>>(
    `SELECT resource_manager AS rm, xid::text, start_lsn::text AS lsn, prev_lsn::text AS previous,
            record_length AS total, fpi_length AS image, record_type || ' ' || description AS desc,
            coalesce(block_ref, '') AS blocks
       FROM pg_get_wal_records_info('${formatLsn(from)}', '${formatLsn(to)}')`,
  )
  return rows.map((row) => ({
    resourceManager: row['rm'] ?? '',
    xid: Number(row['xid']),
    lsn: padded(row['lsn'] ?? ''),
    previous: padded(row['previous'] ?? ''),
    totalLength: Number(row['total']),
    imageBytes: Number(row['image']),
    description: row['desc'] ?? '',
    blocks: row['blocks']?.match(BLOCK) ?? [],
  }))
}

/** `0/3000028` as pg_waldump writes it: `0/03000028`. */
function padded(position: string): string {
  const [high = '', low = ''] = position.split('/')
  return `${high}/${low.padStart(8, '0')}`
}

export function formatPadded(position: Lsn): string {
  return padded(formatLsn(position))
}
