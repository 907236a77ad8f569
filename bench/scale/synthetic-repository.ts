/**
 * A repository that no server wrote: records, packs, WAL objects and histories in the real
 * format, as many as are asked for, in minutes rather than a year.
 *
 * What is not real is said here: a pack holds one small frame where a real one has 32 MiB,
 * and a WAL object but for the last ones is a header without content. Commands that list,
 * show and plan read neither. `verify` and `restore` would find the damage, rightly.
 */
import { createHash } from 'node:crypto'
import { encodeWalObject } from '../../src/archive/wal-object.ts'
import { segmentKey, walPrefix } from '../../src/archive/wal-file-name.ts'
import { formatHistoryFile, historyFileName } from '../../src/postgres/history-file.ts'
import { formatLsn, formatSegmentName, lsn, segmentStart } from '../../src/postgres/lsn.ts'
import type { BackupRecord, FileEntry, NamedPack } from '../../src/repository/backup-record.ts'
import { encodeEnvelope } from '../../src/repository/envelope.ts'
import { encodePiece } from '../../src/repository/file-list.ts'
import { backupKey, formatPackId, REPOSITORY_KEY } from '../../src/repository/keys.ts'
import { FRAME_KINDS, PAGE_BYTES } from '../../src/repository/pack-format.ts'
import { PackWriter } from '../../src/repository/pack-writer.ts'
import { systemKey } from '../../src/repository/system-identity.ts'
import { encodeBackupRecord } from '../../src/repository/write-backup.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { SWITCH, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'

export const CLUSTER = 'main'
const SEGMENT_BYTES = 16 * 1024 * 1024
const SYSTEM_IDENTIFIER = String(SYSTEM)
const YEAR_MS = 365 * 24 * 3600 * 1000
/** Timeline 2 begins here, as after one recovery in the year. */
const FORK_AT = 0.6
/** WAL objects with content: what is read in search of the last moment. */
const REAL_SEGMENTS = 3

export interface Shape {
  readonly backups: number
  readonly segments: number
  /** Packs that a backup adds, and packs that it hangs on. */
  readonly packsAdded: number
  readonly packsNamed: number
}

export interface MadeObject {
  readonly key: string
  readonly bytes: Uint8Array
}

/** In the order in which a repository comes about: what makes it one comes first. */
export async function* makeObjects(shape: Shape, endsAt: Date): AsyncGenerator<MadeObject> {
  const createdAt = new Date(endsAt.getTime() - YEAR_MS).toISOString()
  const identity = { format: 1, repositoryId: '0'.repeat(32), createdAt }
  yield { key: REPOSITORY_KEY, bytes: Buffer.from(`${JSON.stringify(identity)}\n`) }
  const server = {
    systemIdentifier: SYSTEM_IDENTIFIER,
    major: 15,
    walSegmentSizeBytes: SEGMENT_BYTES,
    createdAt,
  }
  const key = systemKey(CLUSTER, SYSTEM_IDENTIFIER)
  yield { key, bytes: Buffer.from(`${JSON.stringify(server)}\n`) }
  yield* makeBackups(shape, endsAt)
  yield* makeWal(shape, endsAt)
}

async function* makeBackups(shape: Shape, endsAt: Date): AsyncGenerator<MadeObject> {
  const recent: NamedPack[] = []
  let previous: string | undefined
  for (let number = 0; number < shape.backups; number++) {
    const attempt = hexOf(`attempt ${number}`).slice(0, 24)
    const storage = openMemoryStorage()
    const packs = new PackWriter({
      storage,
      cluster: CLUSTER,
      attemptId: attempt,
      firstSequence: 0,
      sequenceStep: 1,
      compressionLevel: 3,
      packTargetBytes: 1,
    })
    await storage.write(REPOSITORY_KEY, new Uint8Array(1))
    for (let pack = 1; pack < shape.packsAdded; pack++) {
      await packs.begin()
      packs.add(FRAME_KINDS.pages, new Uint8Array(PAGE_BYTES).fill(pack), 1, [])
      packs.closeIfFull()
    }
    await packs.begin()
    const entries = fileList(attempt)
    const piece = packs.add(FRAME_KINDS.fileList, encodePiece(entries), 1, [])
    recent.push(...packs.packs.map(({ id, bytes }) => ({ id, bytes })), { id: piece.pack })
    recent.splice(0, recent.length - shape.packsNamed)
    const named = [...recent].sort((a, b) => (a.id < b.id ? -1 : 1))
    const files = { pieces: [{ ...piece, firstPath: 'base', entries: entries.length }], entries }
    const record = makeRecord(shape, number, endsAt, files, named, previous)
    const raw = encodeBackupRecord(record)
    packs.add(FRAME_KINDS.record, raw, 1, [])
    await packs.finish()
    recent[recent.length - 1] = { id: piece.pack, bytes: packs.packs.at(-1)?.bytes as number }
    previous = record.id
    for await (const { key } of storage.list('clusters/')) {
      yield { key, bytes: (await storage.read(key)) as Uint8Array }
    }
    yield { key: backupKey(CLUSTER, record.id), bytes: encodeEnvelope('RECD', raw) }
  }
}

/** A small cluster: what is long in a record is its packs. */
function fileList(attempt: string): FileEntry[] {
  const pack = formatPackId(attempt, 0)
  const entries: FileEntry[] = [{ path: 'base', kind: 'directory', mode: 0o700 }]
  for (let file = 0; file < 50; file++) {
    entries.push({
      path: `base/5/${16_384 + file}`,
      kind: 'pages',
      mode: 0o600,
      size: PAGE_BYTES,
      leaves: [{ pack, frame: 0, slot: 0 }],
      digest: hexOf(`${attempt} ${file}`),
      packs: [pack],
      seen: { device: 1n, inode: BigInt(file), modifiedNs: 1n, changedNs: 1n, settled: true },
    })
  }
  return entries
}

const SERVER: BackupRecord['server'] = {
  major: 15,
  version: '15.18 (Debian 15.18-0+deb12u1)',
  controlFileVersion: 1300,
  catalogVersion: 202209061,
  isStandby: false,
  dataDirectory: '/var/lib/postgresql/15/main',
  dataDirectoryMode: 0o700,
}

const SIZES: BackupRecord['sizes'] = {
  blockSizeBytes: PAGE_BYTES,
  relationSegmentBlocks: 131_072,
  walBlockSizeBytes: PAGE_BYTES,
  walSegmentSizeBytes: SEGMENT_BYTES,
}

function makeRecord(
  shape: Shape,
  number: number,
  endsAt: Date,
  files: { pieces: BackupRecord['files']['pieces']; entries: readonly FileEntry[] },
  packs: readonly NamedPack[],
  previous: string | undefined,
): BackupRecord {
  const age = YEAR_MS * (1 - (number + 0.5) / shape.backups)
  const startedAt = new Date(endsAt.getTime() - age)
  const stoppedAt = new Date(startedAt.getTime() + 300_000)
  const segment = BigInt(1 + Math.floor(((number + 0.5) / shape.backups) * (shape.segments - 1)))
  const timeline = segment > forkSegment(shape) ? 2 : 1
  const name = formatSegmentName(timeline, segment, SEGMENT_BYTES)
  const at = (offset: bigint) => formatLsn(lsn(segment * BigInt(SEGMENT_BYTES) + offset))
  const digits = startedAt.toISOString().replaceAll(/[-:]/g, '')
  return {
    format: 1,
    id: `${digits.slice(0, 8)}-${digits.slice(9, 15)}-${hexOf(String(number)).slice(0, 4)}`,
    cluster: CLUSTER,
    systemIdentifier: SYSTEM_IDENTIFIER,
    tidemarkVersion: '0.1.0',
    source: 'local',
    server: SERVER,
    sizes: SIZES,
    dataChecksumVersion: 1,
    startedAt: startedAt.toISOString(),
    stoppedAt: stoppedAt.toISOString(),
    timeline,
    startLsn: at(0x28n),
    checkpointLsn: at(0x60n),
    stopLsn: at(0x100n),
    walFirst: name,
    walLast: name,
    backupLabel: `START WAL LOCATION: ${at(0x28n)} (file ${name})\nLABEL: tidemark\n`,
    tablespaceMap: '',
    tablespaces: [],
    settings: { max_connections: '100', wal_level: 'replica', shared_buffers: '16384' },
    configurationFiles: [],
    labels: {},
    pinned: false,
    files: {
      pieces: files.pieces,
      entries: files.entries.length,
      bytes: 50 * PAGE_BYTES,
      contentHash: hexOf(`content ${number}`),
    },
    packs,
    damage: [],
    ...(previous === undefined ? {} : { comparedWith: previous }),
    lastFullReadAt: startedAt.toISOString(),
    bootId: '00000000-0000-0000-0000-000000000000',
    statistics: {
      filesRead: 50,
      filesUnchangedByStatus: 0,
      bytesRead: 50 * PAGE_BYTES,
      pagesStored: 50,
      bytesStored: 10_000,
      durationMs: 300_000,
    },
  }
}

function forkSegment({ segments }: Shape): bigint {
  return BigInt(Math.max(1, Math.floor(segments * FORK_AT)))
}

/** Segments 1 to n; the segment of the fork is on both timelines. */
async function* makeWal(shape: Shape, endsAt: Date): AsyncGenerator<MadeObject> {
  const fork = forkSegment(shape)
  const prefix = walPrefix(CLUSTER, SYSTEM_IDENTIFIER)
  const endLsn = lsn(segmentStart(fork, SEGMENT_BYTES) + 0x1000n)
  const ancestors = [{ timeline: 1, endLsn, reason: 'no recovery target specified' }]
  const history = historyFileName(2)
  const content = Buffer.from(formatHistoryFile({ timeline: 2, ancestors }))
  yield {
    key: `${prefix}${history}`,
    bytes: encodeWalObject({
      systemIdentifier: SYSTEM_IDENTIFIER,
      name: history,
      headerTimeline: 0,
      content,
    }),
  }
  const last = BigInt(shape.segments)
  const firstReal = last - BigInt(REAL_SEGMENTS - 1)
  for (let segment = 1n; segment < firstReal; segment++) {
    if (segment <= fork) yield headerOnly(1, segment)
    if (segment >= fork) yield headerOnly(2, segment)
  }
  yield* makeRealSegments(firstReal, last, endsAt)
}

/** The header of a segment of zeros, and nothing behind it. */
function headerOnly(timeline: number, segment: bigint): MadeObject {
  const name = formatSegmentName(timeline, segment, SEGMENT_BYTES)
  const bytes = Buffer.alloc(128)
  bytes.write('TMWAL002', 0, 'latin1')
  bytes.writeBigUInt64LE(SYSTEM, 8)
  bytes.writeUInt32LE(timeline, 16)
  bytes.writeUInt32LE(timeline, 20)
  bytes.writeUInt32LE(SEGMENT_BYTES, 24)
  bytes.writeUInt8(1, 32)
  bytes.writeUInt8(1, 33)
  bytes.writeUInt16LE(name.length, 34)
  bytes.write(name, 36, 'latin1')
  createHash('sha256').update(bytes.subarray(0, 96)).digest().copy(bytes, 96)
  return { key: segmentKey(CLUSTER, SYSTEM_IDENTIFIER, name), bytes }
}

async function* makeRealSegments(
  first: bigint,
  last: bigint,
  endsAt: Date,
): AsyncGenerator<MadeObject> {
  const wal = new SyntheticWal({ sizeBytes: SEGMENT_BYTES, timeline: 2, firstSegment: first })
  const time = Buffer.alloc(8)
  // Microseconds since 2000, PostgreSQL's beginning.
  time.writeBigInt64LE((BigInt(endsAt.getTime()) - 946_684_800_000n) * 1000n)
  for (let segment = first; segment <= last; segment++) {
    wal.append({ xid: 1000, info: 0, resourceManager: 1, mainData: time })
    wal.append(SWITCH)
  }
  for (const [segment, content] of wal.segments) {
    if (segment > last) continue
    const name = formatSegmentName(2, segment, SEGMENT_BYTES)
    const object = { systemIdentifier: SYSTEM_IDENTIFIER, name, headerTimeline: 2, content }
    yield { key: segmentKey(CLUSTER, SYSTEM_IDENTIFIER, name), bytes: encodeWalObject(object) }
  }
}

function hexOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
