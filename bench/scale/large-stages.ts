/**
 * One stage in the life of a large backup, in a process of its own so that its memory can be
 * measured: `node large-stages.ts STAGE DIRECTORY FACTOR`. The code that plans, assembles,
 * writes, reads and restores is Tidemark's; large-cluster.ts says what is invented.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { assembleFiles } from '../../src/backup/assemble-files.ts'
import { CopyResults } from '../../src/backup/copy-results.ts'
import { listDataDirectory } from '../../src/backup/list-files.ts'
import { type LoadedBase, loadBase } from '../../src/backup/load-base.ts'
import { planCopy } from '../../src/backup/plan-copy.ts'
import { findTrustedDevices } from '../../src/backup/trusted-devices.ts'
import { addFrame, writeFileList } from '../../src/backup/write-metadata.ts'
import { keepHeapSmall } from '../../src/base/heap.ts'
import { SILENT } from '../../src/base/progress.ts'
import { describeVersion } from '../../src/postgres/versions.ts'
import { requirePacks, surveyFiles } from '../../src/recovery/plan-restore.ts'
import { provePacks } from '../../src/recovery/prove-packs.ts'
import { restoreFiles } from '../../src/recovery/restore-files.ts'
import { RestoredManifest } from '../../src/recovery/write-manifest.ts'
import type { BackupRecord, NamedPack } from '../../src/repository/backup-record.ts'
import { readFileList } from '../../src/repository/file-list.ts'
import { FRAME_KINDS } from '../../src/repository/pack-format.ts'
import { type PackSummary, PackWriter } from '../../src/repository/pack-writer.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { encodeBackupRecord, listPacks, publishBackup } from '../../src/repository/write-backup.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import {
  CLUSTER,
  InventedCopy,
  type LargeShape,
  makeDirectory,
  makePacks,
  scaleShape,
  TEN_TERABYTES,
} from './large-cluster.ts'
import { WriteGroup } from '../../src/storage/write-group.ts'
import { SinkPool } from './sink-pool.ts'

const [stage = '', directory = '', factor = '1'] = process.argv.slice(2)
const shape: LargeShape = scaleShape(TEN_TERABYTES, Number(factor))
const repository = join(directory, 'repository')
const data = join(directory, 'data')
const specification = { url: `file://${repository}` }
const storage = await openStorage(specification)
const SEGMENT_BLOCKS = 131_072

async function make(): Promise<void> {
  await createRepository(storage, new Date())
  mkdirSync(data)
  const files = makeDirectory(data, shape)
  const packs = await makePacks(repository, shape)
  writeFileSync(join(directory, 'packs.json'), JSON.stringify(packs))
  console.log(`${files} files`)
}

/** As backup/take-backup.ts does from the base to the record. */
async function backUp(id: string, digit: string, earlier: boolean): Promise<void> {
  const base = earlier ? await loadNewest() : undefined
  const version = describeVersion(150_000)
  const exclusions = { ...version.exclusions, tablespaceVersionDirectory: 'PG_15_202209061' }
  const listedAtNs = BigInt(Date.now()) * 1_000_000n
  const { entries } = listDataDirectory(data, exclusions)
  keepHeapSmall(entries.length)
  const plan = planCopy(entries, base?.entries ?? new Map(), {
    trustStatus: true,
    trustedDevices: findTrustedDevices(entries),
    relationSegmentBlocks: SEGMENT_BLOCKS,
  })
  const copy = new InventedCopy(shape)
  const results = new CopyResults(plan.files)
  for (const batch of plan.batches) for (const piece of batch) results.add(copy.copy(piece))
  const assembled = assembleFiles({
    listed: entries,
    plan,
    results,
    base: base?.entries ?? new Map(),
    others: [],
    listedAtNs,
    relationSegmentBlocks: SEGMENT_BLOCKS,
  })
  const packs = new PackWriter({
    storage,
    cluster: CLUSTER,
    attemptId: digit.repeat(24),
    firstSequence: 0,
    sequenceStep: 1,
    compressionLevel: 3,
  })
  const nothing = { bySha256: new Map(), byFirstPath: new Map() }
  const files = await writeFileList(assembled.entries, packs, base?.pieces ?? nothing)
  if (packs.needsPack) await packs.begin()
  const own = [...packs.packs.map((pack) => pack.id), packs.openPackId as string]
  const record = describe(id, files, namePacks(files.packs, own))
  const raw = encodeBackupRecord(record)
  await addFrame(packs, FRAME_KINDS.record, raw)
  await packs.finish()
  await publishBackup(storage, record, raw, packs.packs)
  console.log(
    `${plan.files} read, ${plan.filesUnchanged} unchanged, ${files.entries} entries in ` +
      `${files.pieces.length} pieces, ${(files.bytes / 1e12).toFixed(2)} TB, ` +
      `${record.packs.length} packs, record of ${raw.length} bytes`,
  )
}

async function loadNewest(): Promise<LoadedBase> {
  const { backups } = await listBackups(storage, CLUSTER)
  const backup = backups.at(-1) as BackupRecord
  const group = new WriteGroup([{ storage, required: true }], () => {})
  return await loadBase(group, [0], { backup, trustStatus: true }, new Map())
}

function namePacks(used: ReadonlySet<string>, own: readonly string[]): NamedPack[] {
  const made = JSON.parse(readFileSync(join(directory, 'packs.json'), 'utf8')) as PackSummary[]
  const sizes = new Map(made.map(({ id, bytes }) => [id, bytes]))
  return [...new Set([...used, ...own])].sort().map((id) => {
    const bytes = sizes.get(id)
    return bytes === undefined ? { id } : { id, bytes }
  })
}

type Files = Awaited<ReturnType<typeof writeFileList>>

/** What listing, base loading and restore look at. */
function describe(id: string, files: Files, packs: readonly NamedPack[]): BackupRecord {
  const { pieces, entries, bytes, contentHash } = files
  return {
    format: 1,
    id,
    cluster: CLUSTER,
    systemIdentifier: '7400000000000000001',
    startedAt: new Date().toISOString(),
    stoppedAt: new Date().toISOString(),
    timeline: 1,
    startLsn: '0/1000028',
    stopLsn: '0/1000100',
    configurationFiles: [],
    files: { pieces, entries, bytes, contentHash },
    packs,
  } as unknown as BackupRecord
}

async function newest(): Promise<BackupRecord> {
  const { backups } = await listBackups(storage, CLUSTER)
  return backups.at(-1) as BackupRecord
}

async function read(): Promise<void> {
  let count = 0
  let bytes = 0
  for await (const entry of readFileList(storage, await newest())) {
    count++
    if (entry.kind === 'pages' || entry.kind === 'content') bytes += entry.size
  }
  console.log(`${count} entries, ${(bytes / 1e12).toFixed(2)} TB`)
}

/** As recovery/restore.ts does, but that nothing is written and no frame of pages is read. */
async function restore(): Promise<void> {
  const record = await newest()
  keepHeapSmall(record.files.entries)
  requirePacks(record, await listPacks(storage, CLUSTER))
  await provePacks(storage, record)
  const aside = { takeOver: true, hasConfiguration: false }
  const survey = await surveyFiles(readFileList(storage, record), aside)
  const into = join(directory, 'restored')
  mkdirSync(into)
  const manifest = new RestoredManifest({
    dataDirectory: into,
    owner: undefined,
    version: 1,
    systemIdentifier: record.systemIdentifier,
    modifiedAt: new Date(),
  })
  let files = 0
  const bytes = await restoreFiles({
    storage: specification,
    record,
    dataDirectory: into,
    owner: undefined,
    workers: 2,
    progress: SILENT,
    openPool: () => new SinkPool(),
    placeOf: (entry) => entry.path,
    onFile(file) {
      files++
      manifest.add(file)
    },
  })
  manifest.close()
  console.log(`${survey.files} files planned, ${files} restored, ${(bytes / 1e12).toFixed(2)} TB`)
}

const STAGES: Readonly<Record<string, () => Promise<void>>> = {
  make,
  full: async () => await backUp('20261121-120000-full', 'b', false),
  incremental: async () => await backUp('20261121-130000-incr', 'c', true),
  read,
  restore,
}

await STAGES[stage]?.()
