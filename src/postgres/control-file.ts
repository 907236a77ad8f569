/**
 * The control file, global/pg_control. PostgreSQL: catalog/pg_control.h (ControlFileData,
 * CheckPoint), common/controldata_utils.c (get_controlfile).
 *
 * Invariant: readControlFile() only ever returns bytes whose CRC holds and that were read
 * twice: the server rewrites the file in place, and its lock does not bind us.
 *
 * Layout of a 64-bit little-endian server; all supported versions agree up to the fields
 * at the end. The checkpoint copy is 40 + its own offset.
 *
 * | offset | field              | offset | field                     |
 * |--------|--------------------|--------|---------------------------|
 * | 0      | system_identifier  | 128    | unloggedLSN               |
 * | 8      | pg_control_version | 136    | minRecoveryPoint          |
 * | 12     | catalog_version_no | 144    | minRecoveryPointTLI       |
 * | 16     | state              | 152    | backupStartPoint          |
 * | 24     | time               | 160    | backupEndPoint            |
 * | 32     | checkPoint         | 168    | backupEndRequired         |
 * | 40     | redo               | 172    | wal_level                 |
 * | 48     | ThisTimeLineID     | 176    | wal_log_hints             |
 * | 52     | PrevTimeLineID     | 180    | MaxConnections            |
 * | 56     | fullPageWrites     | 184    | max_worker_processes      |
 * | 60     | wal_level (17)     | 188    | max_wal_senders           |
 * | 64     | nextXid (64 bits)  | 192    | max_prepared_xacts        |
 * | 72     | nextOid            | 196    | max_locks_per_xact        |
 * | 76     | nextMulti          | 200    | track_commit_timestamp    |
 * | 80     | nextMultiOffset    | 204    | maxAlign                  |
 * | 84     | oldestXid          | 216    | blcksz                    |
 * | 88     | oldestXidDB        | 220    | relseg_size               |
 * | 92     | oldestMulti        | 224    | xlog_blcksz               |
 * | 96     | oldestMultiDB      | 228    | xlog_seg_size             |
 * | 104    | time               | 252    | data_checksum_version     |
 * | 112    | oldestCommitTsXid  | 256    | mock nonce (32), then crc |
 * | 116    | newestCommitTsXid  | 256    | from 18: default signed   |
 * | 120    | oldestActiveXid    |        | char (1), nonce, 292 crc  |
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { monotonicMs, sleep } from '../base/clock.ts'
import { describeSystemError, Failure } from '../base/failure.ts'
import { crc32c } from './crc32c.ts'
import { type Lsn, lsn, type Timeline } from './lsn.ts'

export const CONTROL_FILE_PATH = 'global/pg_control'
const CONTROL_FILE_BYTES = 8192

export type ClusterState =
  | 'starting up'
  | 'shut down'
  | 'shut down in recovery'
  | 'shutting down'
  | 'in crash recovery'
  | 'in archive recovery'
  | 'in production'

/** DBState, in the order of the enum and the words of pg_controldata. */
const STATES: readonly ClusterState[] = [
  'starting up',
  'shut down',
  'shut down in recovery',
  'shutting down',
  'in crash recovery',
  'in archive recovery',
  'in production',
]

export type WalLevel = 'minimal' | 'replica' | 'logical'
const WAL_LEVELS: readonly WalLevel[] = ['minimal', 'replica', 'logical']

export interface ControlFile {
  readonly systemIdentifier: bigint
  readonly controlFileVersion: number
  readonly catalogVersion: number
  readonly state: ClusterState
  readonly modifiedAt: Date
  readonly checkpointLsn: Lsn
  readonly checkpoint: CheckpointCopy
  readonly minRecoveryLsn: Lsn
  readonly minRecoveryTimeline: Timeline
  readonly backupStartLsn: Lsn
  readonly backupEndLsn: Lsn
  readonly isBackupEndRequired: boolean
  readonly walLevel: WalLevel
  readonly walLogHints: boolean
  readonly maxConnections: number
  readonly maxWorkerProcesses: number
  readonly maxWalSenders: number
  readonly maxPreparedTransactions: number
  readonly maxLocksPerTransaction: number
  readonly trackCommitTimestamp: boolean
  readonly maxAlign: number
  readonly blockSizeBytes: number
  /** Blocks in a segment of a relation fork. */
  readonly relationSegmentBlocks: number
  readonly walBlockSizeBytes: number
  readonly walSegmentSizeBytes: number
  /** 0: page checksums are off. */
  readonly dataChecksumVersion: number
  /** False: torn, or damaged; no field may be trusted. */
  readonly isCrcCorrect: boolean
}

/** The latest checkpoint's record as the control file repeats it. */
export interface CheckpointCopy {
  readonly redoLsn: Lsn
  readonly timeline: Timeline
  readonly previousTimeline: Timeline
  readonly fullPageWrites: boolean
  /** With epoch: 64 bits. */
  readonly nextXid: bigint
  readonly nextOid: number
  readonly nextMultiXact: number
  readonly nextMultiOffset: number
  readonly oldestXid: number
  readonly oldestXidDatabase: number
  readonly oldestMultiXact: number
  readonly oldestMultiXactDatabase: number
  readonly time: Date
  readonly oldestCommitTimestampXid: number
  readonly newestCommitTimestampXid: number
  readonly oldestActiveXid: number
}

/** Where the CRC is, per pg_control_version; it covers all bytes before it. */
const CRC_OFFSETS: ReadonlyMap<number, number> = new Map([
  [1300, 288],
  [1700, 288],
  [1800, 292],
])

/**
 * Reads the fields. A wrong CRC is a field, not a failure. Failures: TM1110 (too short),
 * TM1111 (unknown version), TM1112 (written by a big-endian server).
 */
export function parseControlFile(bytes: Uint8Array): ControlFile {
  if (bytes.length < 296) {
    throw new Failure('TM1110', {
      message: `the control file has ${bytes.length} bytes instead of ${CONTROL_FILE_BYTES}`,
      fix: 'check that the data directory is the right one and is not damaged',
    })
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const crcOffset = findCrcOffset(view)
  return {
    ...parseIdentity(view),
    checkpoint: parseCheckpoint(view),
    ...parseRecovery(view),
    ...parseSettings(view),
    ...parseSizes(view),
    isCrcCorrect: crc32c(bytes.subarray(0, crcOffset)) === view.getUint32(crcOffset, true),
  }
}

function findCrcOffset(view: DataView): number {
  const version = view.getUint32(8, true)
  const offset = CRC_OFFSETS.get(version)
  if (offset !== undefined) return offset
  if (CRC_OFFSETS.has(view.getUint32(8, false))) {
    throw new Failure('TM1112', {
      message: 'the control file was written by a big-endian server',
      because: 'its version number has its bytes in the other order',
      fix: 'big-endian machines are not supported; use pg_dump there',
      details: { controlFileVersion: view.getUint32(8, false) },
    })
  }
  throw new Failure('TM1111', {
    message: `the control file has version ${version}, which this Tidemark does not know`,
    because: `known are ${[...CRC_OFFSETS.keys()].join(', ')} (PostgreSQL 13 to 18)`,
    fix: 'use a Tidemark that knows this PostgreSQL version',
    details: { controlFileVersion: version },
  })
}

function parseIdentity(view: DataView) {
  return {
    systemIdentifier: view.getBigUint64(0, true),
    controlFileVersion: view.getUint32(8, true),
    catalogVersion: view.getUint32(12, true),
    state: STATES[view.getUint32(16, true)] ?? 'starting up',
    modifiedAt: dateAt(view, 24),
    checkpointLsn: lsnAt(view, 32),
  }
}

function parseCheckpoint(view: DataView): CheckpointCopy {
  return {
    redoLsn: lsnAt(view, 40),
    timeline: view.getUint32(48, true),
    previousTimeline: view.getUint32(52, true),
    fullPageWrites: view.getUint8(56) !== 0,
    nextXid: view.getBigUint64(64, true),
    nextOid: view.getUint32(72, true),
    nextMultiXact: view.getUint32(76, true),
    nextMultiOffset: view.getUint32(80, true),
    oldestXid: view.getUint32(84, true),
    oldestXidDatabase: view.getUint32(88, true),
    oldestMultiXact: view.getUint32(92, true),
    oldestMultiXactDatabase: view.getUint32(96, true),
    time: dateAt(view, 104),
    oldestCommitTimestampXid: view.getUint32(112, true),
    newestCommitTimestampXid: view.getUint32(116, true),
    oldestActiveXid: view.getUint32(120, true),
  }
}

function parseRecovery(view: DataView) {
  return {
    minRecoveryLsn: lsnAt(view, 136),
    minRecoveryTimeline: view.getUint32(144, true),
    backupStartLsn: lsnAt(view, 152),
    backupEndLsn: lsnAt(view, 160),
    isBackupEndRequired: view.getUint8(168) !== 0,
  }
}

function parseSettings(view: DataView) {
  return {
    walLevel: WAL_LEVELS[view.getUint32(172, true)] ?? 'minimal',
    walLogHints: view.getUint8(176) !== 0,
    maxConnections: view.getInt32(180, true),
    maxWorkerProcesses: view.getInt32(184, true),
    maxWalSenders: view.getInt32(188, true),
    maxPreparedTransactions: view.getInt32(192, true),
    maxLocksPerTransaction: view.getInt32(196, true),
    trackCommitTimestamp: view.getUint8(200) !== 0,
  }
}

function parseSizes(view: DataView) {
  return {
    maxAlign: view.getUint32(204, true),
    blockSizeBytes: view.getUint32(216, true),
    relationSegmentBlocks: view.getUint32(220, true),
    walBlockSizeBytes: view.getUint32(224, true),
    walSegmentSizeBytes: view.getUint32(228, true),
    dataChecksumVersion: view.getUint32(252, true),
  }
}

function lsnAt(view: DataView, offset: number): Lsn {
  return lsn(view.getBigUint64(offset, true))
}

/** pg_time_t: seconds since 1970. */
function dateAt(view: DataView, offset: number): Date {
  return new Date(Number(view.getBigInt64(offset, true)) * 1000)
}

/** Failure TM1112 for a cluster whose sizes the repository format does not serve. */
export function requireSupportedSizes(control: ControlFile): void {
  const refuse = (what: string, size: number, wanted: number): never => {
    throw new Failure('TM1112', {
      message: `the cluster has a ${what} of ${size} bytes, and only ${wanted} is supported`,
      because: 'the server was built with another size than PostgreSQL has by default',
      fix: 'move the data to a server with default sizes (pg_dump and restore)',
      details: { size, wanted },
    })
  }
  if (control.blockSizeBytes !== 8192) refuse('block size', control.blockSizeBytes, 8192)
  if (control.walBlockSizeBytes !== 8192) refuse('WAL block size', control.walBlockSizeBytes, 8192)
  if (control.maxAlign !== 8) refuse('maximum data alignment', control.maxAlign, 8)
}

export interface ReadControlFile {
  readonly control: ControlFile
  /** All 8192 bytes, to be stored as they are. */
  readonly bytes: Uint8Array
}

const RETRY_PAUSE_MS = 10
const RETRY_LIMIT_MS = 10_000

/**
 * Reads global/pg_control of a cluster that may be running: until the CRC holds and two
 * reads in a row agree. Failures: TM1110 (not within `limitMs`, or not readable), those
 * of parseControlFile.
 */
export async function readControlFile(
  dataDirectory: string,
  limitMs = RETRY_LIMIT_MS,
): Promise<ReadControlFile> {
  const path = join(dataDirectory, CONTROL_FILE_PATH)
  return await readStable(path, limitMs, () => readWhole(path))
}

/** The loop of readControlFile; `read` gives all that is there now. */
export async function readStable(
  path: string,
  limitMs: number,
  read: () => Promise<Buffer>,
): Promise<ReadControlFile> {
  const started = monotonicMs()
  let before = await read()
  do {
    const bytes = await read()
    if (bytes.length === CONTROL_FILE_BYTES && bytes.equals(before)) {
      const control = parseControlFile(bytes)
      if (control.isCrcCorrect) return { control, bytes }
    }
    before = bytes
    await sleep(RETRY_PAUSE_MS)
  } while (monotonicMs() - started < limitMs)
  throw new Failure('TM1110', {
    message: `the control file ${path} could not be read whole within ${limitMs / 1000} seconds`,
    because: 'its checksum did not hold, or it was never the same in two reads',
    fix: 'check the disk and the server log; pg_controldata shows what PostgreSQL makes of it',
    details: { path, bytes: before.length },
  })
}

async function readWhole(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw new Failure('TM1110', {
      message: `the control file ${path} cannot be read`,
      because: describeSystemError(error),
      fix: 'run as the user that owns the data directory, and check its path',
      details: { path },
      cause: error,
    })
  }
}
