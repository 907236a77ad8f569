/**
 * A small repository in memory with everything that a cluster leaves in one: two backups
 * that share packs, WAL with records, a second timeline, labels, partials, quarantine, a tail.
 */
import { encodeTailPiece } from '../../src/archive/tail-format.ts'
import { pieceKey } from '../../src/archive/tail-keys.ts'
import { encodeWalObject, hashContent } from '../../src/archive/wal-object.ts'
import { nameHash, quarantineKey, segmentKey, walPrefix } from '../../src/archive/wal-file-name.ts'
import { now } from '../../src/base/clock.ts'
import { SILENT } from '../../src/base/progress.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { type VerifyMode, type VerifyReport, verify } from '../../src/recovery/verify.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { decodeEnvelope, encodeEnvelope } from '../../src/repository/envelope.ts'
import { backupKey } from '../../src/repository/keys.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { buildSegment, SWITCH, SYSTEM, segmentName, SyntheticWal } from '../harness/wal-builder.ts'
import { pages, SEGMENT_PAGES, SimulatedCluster } from './backup-cluster.ts'
import { takeSimulatedBackup } from './take-simulated-backup.ts'

export const CLUSTER = 'main'
const SYSTEM_TEXT = SYSTEM.toString()

export type Objects = Map<string, Uint8Array>

export interface SmallRepository {
  readonly objects: Objects
  readonly backups: readonly BackupRecord[]
}

/** `relations`: files of one page besides those of the simulated cluster. */
export async function makeRepository(relations = 0): Promise<SmallRepository> {
  const cluster = new SimulatedCluster(temporaryDirectory())
  for (let number = 0; number < relations; number++) {
    cluster.write(`base/5/${20_000 + number}`, pages(1, 20_000 + number))
  }
  const objects: Objects = new Map()
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  const first = await backUp(storage, cluster)
  cluster.write('base/5/16384', pages(SEGMENT_PAGES, 3).fill(7, 8192 * 5, 8192 * 6))
  cluster.write('base/5/16391', pages(5, 15))
  cluster.write('pg_xact/0000', pages(1, 16))
  const second = await backUp(storage, cluster)
  await addWal(storage, objects)
  return { objects, backups: [first, second] }
}

async function backUp(storage: Storage, cluster: SimulatedCluster): Promise<BackupRecord> {
  return await takeSimulatedBackup(storage, cluster)
}

/** Segments 1 to 3 of timeline 1, and segment 4 of timeline 2, which begins with it. */
async function addWal(storage: Storage, objects: Objects): Promise<void> {
  const wal = new SyntheticWal({ firstSegment: 1n })
  for (let segment = 1; segment <= 3; segment++) fillSegment(wal)
  const fork = wal.position
  wal.timeline = 2
  fillSegment(wal)
  for (const [segment, content] of wal.segments) {
    const timeline = segment < 4n ? 1 : 2
    const name = segmentName({ timeline, segment })
    // The backups archived an empty one.
    objects.delete(segmentKey(CLUSTER, SYSTEM_TEXT, name))
    await put(storage, segmentKey(CLUSTER, SYSTEM_TEXT, name), name, content, timeline)
  }
  await addTail(storage, wal)
  const history = Buffer.from(`1\t${formatLsn(fork as never)}\tno recovery target specified\n`)
  const prefix = walPrefix(CLUSTER, SYSTEM_TEXT)
  await put(storage, `${prefix}00000002.history`, '00000002.history', history, 0)
  const label = `${segmentName({ segment: 1n })}.00000028.backup`
  await put(storage, `${prefix}labels/${label}`, label, Buffer.from('START WAL\n'), 0)
  const partial = `${segmentName({ segment: 9n })}.partial`
  const half = buildSegment({ segment: 9n })
  const hash16 = nameHash(hashContent(half))
  await put(storage, `${prefix}partial/${partial}-${hash16}`, partial, half, 1)
  const refused = buildSegment({ segment: 2n, mark: 9 })
  const key = quarantineKey(
    CLUSTER,
    SYSTEM_TEXT,
    segmentName({ segment: 2n }),
    nameHash(hashContent(refused)),
  )
  await put(storage, key, segmentName({ segment: 2n }), refused, 1)
  const rotten = Buffer.from('what a damaged object was')
  const kept = quarantineKey(
    CLUSTER,
    SYSTEM_TEXT,
    segmentName({ segment: 3n }),
    nameHash(hashContent(rotten)),
  )
  await storage.write(`${kept}.damaged`, rotten)
}

/** What was flushed of segment 5. */
async function addTail(storage: Storage, wal: SyntheticWal): Promise<void> {
  wal.append({ info: 0x30, resourceManager: 10, mainData: Buffer.alloc(3000, 5) })
  const segment = segmentName({ timeline: 2, segment: 5n })
  const bytes = wal.segments.get(5n) as Buffer
  const end = Number(wal.position % BigInt(wal.sizeBytes))
  const opening = '0123456789abcdef'
  const rest = { walSegmentSizeBytes: wal.sizeBytes, opening, writer: 'test', startedAt: '' }
  const head = { systemIdentifier: SYSTEM_TEXT, segment, ...rest }
  const key = pieceKey(CLUSTER, SYSTEM_TEXT, segment, opening, 0, end)
  await storage.write(key, encodeTailPiece(head, 0, [bytes.subarray(0, end)]))
}

function fillSegment(wal: SyntheticWal): void {
  for (let record = 0; record < 5; record++) {
    wal.append({ info: 0x30, resourceManager: 10, mainData: Buffer.alloc(300, record) })
  }
  wal.append(SWITCH)
}

async function put(
  storage: Storage,
  key: string,
  name: string,
  content: Buffer,
  headerTimeline: number,
): Promise<void> {
  const object = { systemIdentifier: SYSTEM_TEXT, name, headerTimeline, content }
  await storage.write(key, encodeWalObject(object))
}

/** On this thread; `objects` keeps what verify remembers. */
export async function verifyObjects(
  objects: Objects,
  mode: VerifyMode = { kind: 'full' },
  rebuild = false,
): Promise<VerifyReport> {
  return await verifyStorage(openMemoryStorage(objects), mode, rebuild)
}

export async function verifyStorage(
  storage: Storage,
  mode: VerifyMode = { kind: 'full' },
  rebuild = false,
): Promise<VerifyReport> {
  return await verify({
    storage,
    cluster: CLUSTER,
    mode,
    workers: 1,
    rebuildCatalogue: rebuild,
    progress: SILENT,
    signal: new AbortController().signal,
  })
}

/** Writes a record anew with other content. */
export function changeRecord(
  objects: Objects,
  id: string,
  change: (record: BackupRecord) => BackupRecord,
): void {
  const key = backupKey(CLUSTER, id)
  const raw = decodeEnvelope(key, 'RECD', objects.get(key) as Uint8Array)
  const record = change(JSON.parse(Buffer.from(raw).toString()) as BackupRecord)
  objects.set(key, encodeEnvelope('RECD', Buffer.from(JSON.stringify(record))))
}
