/**
 * A data directory and a server for simulations: files that are small but of every kind
 * that a backup tells apart, and a session that answers as a server does. A segment of a
 * relation has 64 pages here, so that forks of several segments are cheap.
 */
import { mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { crc32c } from '../../src/postgres/crc32c.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import type { Row, ServerSession } from '../../src/postgres/server-session.ts'
import { describeVersion } from '../../src/postgres/versions.ts'
import { buildSegment, MB, SYSTEM, segmentName } from '../harness/wal-builder.ts'

const PAGE = 8192
export const SEGMENT_PAGES = 64
const STARTED_AT = new Date('2026-01-02T03:04:05Z')

export class SimulatedCluster {
  readonly directory: string
  readonly tablespace: string
  /** The segment that the next backup is in, and when it ends. */
  #segment = 1n
  #dayMs = BEGAN_AT

  constructor(directory: string) {
    this.directory = join(directory, 'data')
    this.tablespace = join(directory, 'space')
    this.#fill()
  }

  /** Time passes: the next backup is in the next segment. */
  advance(hours: number): void {
    this.#segment += 1n
    this.#dayMs += hours * 3600 * 1000
    this.write('global/pg_control', makeControlFile(startOf(this.#segment)))
    this.#writeSegment()
  }

  /** After every answer of now, and before the next advance. */
  get now(): Date {
    return new Date(this.#dayMs + secondsPassed * 1000)
  }

  #writeSegment(): void {
    const segment = this.#segment
    this.write(`pg_wal/${segmentName({ segment })}`, buildSegment({ segment }))
  }

  write(path: string, bytes: Uint8Array | string): void {
    const location = join(this.directory, path)
    mkdirSync(dirname(location), { recursive: true })
    writeFileSync(location, bytes)
  }

  truncate(path: string, pages: number): void {
    truncateSync(join(this.directory, path), pages * PAGE)
  }

  remove(path: string): void {
    rmSync(join(this.directory, path))
  }

  #fill(): void {
    this.write('PG_VERSION', '15\n')
    this.write('postgresql.conf', 'max_connections = 10\n')
    this.write('postmaster.pid', `1\n${this.directory}\n${STARTED_AT.getTime() / 1000}\n`)
    this.write('global/pg_control', makeControlFile(startOf(this.#segment)))
    this.write('global/pg_filenode.map', makeRelationMap(1))
    this.write('global/1262', pages(2, 1))
    this.write('base/5/PG_VERSION', '15\n')
    this.write('base/5/pg_filenode.map', makeRelationMap(2))
    this.write('base/5/16384', pages(SEGMENT_PAGES, 3))
    this.write('base/5/16384.1', pages(20, 4))
    this.write('base/5/16384_vm', pages(1, 5))
    this.write('base/5/16390', '')
    this.write('base/5/16391', pages(3, 6))
    this.write('base/5/16392', pages(30, 7))
    this.write('base/5/16392_init', pages(1, 8))
    this.write('base/5/t3_16400', pages(3, 9))
    this.write('pg_xact/0000', pages(1, 10))
    this.write('big.log', Buffer.alloc(1_500_000, 'x'))
    this.#writeSegment()
    mkdirSync(join(this.directory, 'pg_wal/archive_status'))
    const version = join(this.tablespace, 'PG_15_202209061/5')
    mkdirSync(version, { recursive: true })
    writeFileSync(join(version, '16500'), pages(2, 11))
    mkdirSync(join(this.directory, 'pg_tblspc'))
    symlinkSync(this.tablespace, join(this.directory, 'pg_tblspc/16499'))
  }

  /** Answers what a backup asks; anything else is a defect of the simulation. */
  openSession(): ServerSession {
    const directory = this.directory
    const moment = { directory, segment: this.#segment, dayMs: this.#dayMs }
    return {
      address: 'a simulation',
      facts: {
        version: describeVersion(150000),
        versionNum: 150000,
        versionText: '15.0',
        systemIdentifier: SYSTEM,
        dataDirectory: directory,
        postmasterStartedAt: STARTED_AT,
        isInRecovery: false,
        walSegmentSizeBytes: MB,
        backendPid: 1,
        user: 'postgres',
        database: 'postgres',
        isSuperuser: true,
        serverAddress: undefined,
      },
      query: async <R extends Row>(text: string) => answer(text, moment) as R[],
      readSettings: async () => new Map(),
      checkSameServer: async () => ({ isInRecovery: false }),
      lostBecause: () => undefined,
      close: async () => {},
    }
  }
}

function startOf(segment: bigint): bigint {
  return segment * BigInt(MB) + 0x28n
}

/** So lately that files may be left unread. */
const BEGAN_AT = Date.now() - 6 * 86_400_000
let secondsPassed = 0

interface Moment {
  readonly directory: string
  readonly segment: bigint
  readonly dayMs: number
}

/** Later with every answer, so that backups have an order. */
function tellTime({ dayMs }: Moment): Date {
  secondsPassed++
  return new Date(dayMs + secondsPassed * 1000)
}

function answer(text: string, moment: Moment): Row[] {
  const { directory, segment } = moment
  const at = tellTime(moment)
  const start = formatLsn(startOf(segment) as never)
  if (text.includes('FROM pg_settings')) return [{ name: 'data_directory', setting: directory }]
  if (text.includes('pg_file_settings')) return []
  if (text.includes('pg_try_advisory_lock')) return [{ locked: true }]
  if (text.includes('pg_current_wal_lsn')) return [{ lsn: start }]
  if (text.includes('pg_backup_start')) return [{ lsn: start, at }]
  if (text.includes('pg_backup_stop')) {
    const labelfile = makeLabel(start, segment)
    const stop = (segment + 1n) * BigInt(MB)
    return [{ lsn: formatLsn(stop as never), labelfile, spcmapfile: '', at }]
  }
  if (text.includes('FROM pg_tablespace')) return [{ oid: '16499', name: 'space' }]
  if (text.includes('FROM pg_database')) return []
  throw new Error(`no answer to: ${text}`)
}

function makeLabel(start: string, segment: bigint): string {
  return [
    `START WAL LOCATION: ${start} (file ${segmentName({ segment })})`,
    `CHECKPOINT LOCATION: ${start}`,
    'BACKUP METHOD: streamed',
    'BACKUP FROM: primary',
    'START TIME: 2026-01-03 00:00:00 UTC',
    'LABEL: tidemark',
    'START TIMELINE: 1',
    '',
  ].join('\n')
}

/** Pages that differ from each other and, by `seed`, from those of other files. */
export function pages(count: number, seed: number): Buffer {
  const bytes = Buffer.alloc(count * PAGE)
  for (let at = 0; at < bytes.length; at += 4) {
    bytes.writeUInt32LE((Math.imul(seed * 1000 + (at >> 13), 2654435761) + (at >> 6)) >>> 0, at)
  }
  return bytes
}

function makeControlFile(start: bigint): Buffer {
  const bytes = Buffer.alloc(8192)
  bytes.writeBigUInt64LE(SYSTEM, 0)
  bytes.writeUInt32LE(1300, 8)
  bytes.writeUInt32LE(202209061, 12)
  bytes.writeUInt32LE(6, 16)
  bytes.writeBigUInt64LE(start, 32)
  bytes.writeBigUInt64LE(start, 40)
  bytes.writeUInt32LE(1, 48)
  bytes.writeUInt32LE(8, 204)
  bytes.writeUInt32LE(PAGE, 216)
  bytes.writeUInt32LE(SEGMENT_PAGES, 220)
  bytes.writeUInt32LE(PAGE, 224)
  bytes.writeUInt32LE(MB, 228)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 288)), 288)
  return bytes
}

function makeRelationMap(seed: number): Buffer {
  const bytes = Buffer.alloc(512)
  bytes.writeUInt32LE(0x592717, 0)
  bytes.writeUInt32LE(seed, 8)
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 504)), 504)
  return bytes
}
