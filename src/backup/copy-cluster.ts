/**
 * Copies the files of a running cluster between start and stop of the backup: list, plan,
 * copy, pg_control last.
 */
import { hash } from 'node:crypto'
import { statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readEpochNs } from '../base/clock.ts'
import { describeSystemError, Failure } from '../base/failure.ts'
import { CONTROL_FILE_PATH, type ControlFile, readControlFile } from '../postgres/control-file.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { versionDirectoryName } from '../postgres/versions.ts'
import type { ContentEntry, FileEntry } from '../repository/backup-record.ts'
import { decodePiece } from '../repository/file-list.ts'
import { type PackSummary, PackWriter } from '../repository/pack-writer.ts'
import { type AssembledFiles, assembleFiles } from './assemble-files.ts'
import { type BackupContext, compressionLevelOf } from './backup-context.ts'
import type { StartedBackup } from './backup-mode.ts'
import { copyFiles, sequenceStep } from './copy-files.ts'
import { storeContent } from './copy/content-copier.ts'
import type { CopyResult } from './copy/protocol.ts'
import { type FileListing, listDataDirectory } from './list-files.ts'
import { type CopyPlan, planCopy } from './plan-copy.ts'
import { type BasePieces, readBasePieces } from './write-metadata.ts'

export interface ClusterCopy extends AssembledFiles {
  readonly listing: FileListing
  readonly plan: CopyPlan
  readonly workerPacks: readonly PackSummary[]
  /** The main thread's own packs: metadata goes in behind. */
  readonly packs: PackWriter
  readonly control: ControlFile
  readonly configurationFiles: readonly { readonly location: string; readonly path: string }[]
  readonly basePieces: BasePieces
  readonly storedPages: number
  readonly bytesRead: number
}

export async function copyCluster(
  context: BackupContext,
  started: StartedBackup,
): Promise<ClusterCopy> {
  const { facts, version, base, progress } = context
  await requireCheckpoint(context, started)
  progress.phase('listing files')
  const baseFiles = await readBase(context)
  const listedAtNs = readEpochNs()
  const listing = listDataDirectory(facts.dataDirectory, {
    ...version.exclusions,
    tablespaceVersionDirectory: versionDirectoryName(
      version.major,
      context.control.catalogVersion,
    ),
  })
  context.notes.push(...listing.notes)
  const plan = planCopy(listing.entries, baseFiles.entries, {
    trustStatus: base?.trustStatus ?? false,
  })
  const { results, workerPacks, bytesRead } = await runCopy(context, started, plan)
  const packs = openOwnPacks(context)
  const configuration = await copyConfiguration(context, packs)
  const { control, entry } = await copyControlFile(context, packs)
  const assembled = assembleFiles({
    listed: listing.entries,
    files: plan.files,
    results,
    unchanged: plan.unchanged,
    others: [entry, ...configuration.entries],
    listedAtNs,
  })
  return {
    ...assembled,
    listing,
    plan,
    workerPacks,
    packs,
    control,
    configurationFiles: configuration.files,
    basePieces: baseFiles.references,
    storedPages: sumStoredPages(results),
    bytesRead,
  }
}

function sumStoredPages(results: readonly CopyResult[]): number {
  return results.reduce((sum, r) => sum + (r.form === 'pages' ? r.storedPages : 0), 0)
}

/** The local pg_control must show the checkpoint that the backup began with, or a later one. */
async function requireCheckpoint(context: BackupContext, started: StartedBackup): Promise<void> {
  const { control } = await readControlFile(context.facts.dataDirectory)
  const { redoLsn } = control.checkpoint
  if (redoLsn >= started.startLsn) return
  throw new Failure('TM1303', {
    message: `the files in ${context.facts.dataDirectory} are not those of the server that answers`,
    because:
      `the backup starts at ${formatLsn(started.startLsn)}, ` +
      `pg_control here knows no checkpoint after ${formatLsn(redoLsn)}`,
    fix: 'let the connection of the cluster go to the server on this host, by its Unix socket',
  })
}

async function readBase(
  context: BackupContext,
): Promise<{ entries: Map<string, FileEntry>; references: BasePieces }> {
  const entries = new Map<string, FileEntry>()
  if (context.base === undefined) return { entries, references: new Map() }
  const { references, raw } = await readBasePieces(context.options.storage, context.base.backup)
  for (const { key, bytes } of raw) {
    for (const entry of decodePiece(key, bytes)) entries.set(entry.path, entry)
  }
  return { entries, references }
}

async function runCopy(context: BackupContext, started: StartedBackup, plan: CopyPlan) {
  const { options, progress } = context
  progress.phase('reading data files', plan.bytesToRead)
  const results: CopyResult[] = []
  let bytesRead = 0
  const workerPacks = await copyFiles(plan.batches, {
    setup: {
      storageUrl: options.storage.url,
      cluster: options.cluster,
      attemptId: context.attemptId,
      compressionLevel: compressionLevelOf(options),
      verifyChecksums: context.control.dataChecksumVersion !== 0,
      startLsn: started.startLsn,
    },
    workers: options.workers,
    onBytes: (bytes) => {
      bytesRead += bytes
      progress.advance(bytes)
    },
    onResult: (result) => results.push(result),
    signal: context.signal,
  })
  return { results, workerPacks, bytesRead }
}

function openOwnPacks(context: BackupContext): PackWriter {
  const { options, attemptId } = context
  return new PackWriter({
    storage: options.storage,
    cluster: options.cluster,
    attemptId,
    firstSequence: options.workers,
    sequenceStep: sequenceStep(options.workers),
    compressionLevel: compressionLevelOf(options),
  })
}

/** Configuration outside the data directory, as content below `@config/`. */
async function copyConfiguration(context: BackupContext, packs: PackWriter) {
  const entries: ContentEntry[] = []
  const files: { location: string; path: string }[] = []
  for (const location of context.facts.configurationFiles) {
    let bytes: Buffer
    try {
      bytes = await readFile(location)
    } catch (error) {
      context.notes.push(`${location} was not backed up: ${describeSystemError(error)}`)
      continue
    }
    const path = `@config/${String(files.length).padStart(4, '0')}/${basename(location)}`
    files.push({ location, path })
    entries.push(await storeBytes(context, path, bytes, statSync(location).mode & 0o7777, packs))
  }
  return { entries, files }
}

/** After all other files, so that on a standby its minRecoveryPoint covers them. */
async function copyControlFile(context: BackupContext, packs: PackWriter) {
  const { dataDirectory } = context.facts
  const { control, bytes } = await readControlFile(dataDirectory)
  const mode = statSync(join(dataDirectory, CONTROL_FILE_PATH)).mode & 0o7777
  return { control, entry: await storeBytes(context, CONTROL_FILE_PATH, bytes, mode, packs) }
}

async function storeBytes(
  context: BackupContext,
  path: string,
  bytes: Uint8Array,
  mode: number,
  packs: PackWriter,
): Promise<ContentEntry> {
  context.signal.throwIfAborted()
  const chunks = await storeContent(path, bytes, packs)
  const sha256 = hash('sha256', bytes, 'hex')
  return { kind: 'content', path, mode, size: bytes.length, sha256, chunks }
}
