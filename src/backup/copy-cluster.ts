/**
 * Copies the files of a running cluster between start and stop of the backup: list, plan,
 * copy, pg_control last.
 *
 * Invariant: what was listed and is not in the result was removed by PostgreSQL while the
 * backup ran.
 */
import { hash } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { monotonicMs, readEpochNs, sleep } from '../base/clock.ts'
import { describeSystemError, Failure } from '../base/failure.ts'
import { keepHeapSmall } from '../base/heap.ts'
import { CONTROL_FILE_PATH, type ControlFile, readControlFile } from '../postgres/control-file.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { parseRelationDirectory } from '../postgres/relation-path.ts'
import { versionDirectoryName } from '../postgres/versions.ts'
import type { ContentEntry } from '../repository/backup-record.ts'
import { type PackSummary, PackWriter } from '../repository/pack-writer.ts'
import { type AssembledFiles, assembleFiles } from './assemble-files.ts'
import { type BackupContext, compressionLevelOf } from './backup-context.ts'
import type { StartedBackup } from './backup-mode.ts'
import { type CopyRunner, sequenceStep } from './copy-files.ts'
import { storeContent } from './copy/content-copier.ts'
import { CopyResults } from './copy-results.ts'
import { type FileListing, listDataDirectory } from './list-files.ts'
import type { LoadedBase } from './load-base.ts'
import { type CopyPlan, planCopy } from './plan-copy.ts'
import { findTrustedDevices } from './trusted-devices.ts'

export interface ClusterCopy extends AssembledFiles {
  readonly listing: FileListing
  readonly plan: CopyPlan
  readonly workerPacks: readonly PackSummary[]
  readonly control: ControlFile
  readonly configurationFiles: readonly { readonly location: string; readonly path: string }[]
  readonly storedPages: number
  readonly bytesRead: number
}

/** `packs` are the main thread's own; the caller aborts them when anything fails. */
export async function copyCluster(
  context: BackupContext,
  base: LoadedBase,
  runner: CopyRunner,
  packs: PackWriter,
): Promise<ClusterCopy> {
  const { progress, control: before } = context
  progress.phase('listing files')
  const listedAtNs = readEpochNs()
  const listing = listFiles(context)
  keepHeapSmall(listing.entries.length)
  const plan = planCopy(listing.entries, base.entries, {
    trustStatus: base.chosen?.trustStatus ?? false,
    trustedDevices: findTrustedDevices(listing.entries),
    relationSegmentBlocks: before.relationSegmentBlocks,
    oldPacks: base.oldPacks,
  })
  const { results, workerPacks, bytesRead } = await runCopy(context, runner, plan, base.oldPacks)
  await requireLivingFiles(plan, results, context.signal)
  noteLostLeaves(context, base, results)
  const configuration = await copyConfiguration(context, packs)
  const { control, entry } = await copyControlFile(context, packs)
  const assembled = assembleFiles({
    listed: listing.entries,
    plan,
    results,
    base: base.entries,
    others: [entry, ...configuration.entries],
    listedAtNs,
    relationSegmentBlocks: before.relationSegmentBlocks,
  })
  return {
    ...assembled,
    listing,
    plan,
    workerPacks,
    control,
    configurationFiles: configuration.files,
    storedPages: results.storedPages,
    bytesRead,
  }
}

function listFiles(context: BackupContext): FileListing {
  const { facts, version, control } = context
  const listing = listDataDirectory(facts.dataDirectory, {
    ...version.exclusions,
    tablespaceVersionDirectory: versionDirectoryName(version.major, control.catalogVersion),
  })
  context.notes.push(...listing.notes)
  return listing
}

function noteLostLeaves(
  { notes }: BackupContext,
  { chosen }: LoadedBase,
  { filesWithLostLeaves: lost }: CopyResults,
): void {
  if (lost === 0) return
  notes.push(
    `packs of backup ${chosen?.backup.id} are damaged: the page maps of ${lost} files could ` +
      'not be read, and these files were stored anew',
  )
}

/** The local pg_control must show the checkpoint that the backup began with, or a later one. */
export async function requireCheckpoint(
  context: BackupContext,
  started: StartedBackup,
): Promise<void> {
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

async function runCopy(
  context: BackupContext,
  runner: CopyRunner,
  plan: CopyPlan,
  oldPacks: ReadonlySet<string>,
) {
  const { options, progress } = context
  progress.phase('reading data files', plan.bytesToRead)
  const results = new CopyResults(plan.files)
  let bytesRead = 0
  const setup = {
    cluster: options.cluster,
    attemptId: context.attemptId,
    comparedIn: context.comparedIn,
    compressionLevel: compressionLevelOf(options),
    verifyChecksums: context.control.dataChecksumVersion !== 0,
    oldPacks,
  }
  const workerPacks = await runner.run(
    plan.batches,
    setup,
    {
      onBytes: (bytes) => {
        bytesRead += bytes
        progress.advance(bytes)
      },
      onResult: (result) => results.add(result),
      onDropped: (target, failure) => context.targets.noteFailure(target, failure),
      signal: context.signal,
    },
    plan.bytesToRead,
  )
  return { results, workerPacks, bytesRead }
}

/** Relation files, two-phase files and the like may go; these go with their database only. */
const GOES_WITH_ITS_DATABASE = /(^|\/)(PG_VERSION|pg_filenode\.map)$/
const REMOVAL_LIMIT_MS = 10_000
const REMOVAL_POLL_MS = 20

/** DROP DATABASE and a move to another tablespace remove a directory file by file. */
async function requireLivingFiles(
  plan: CopyPlan,
  { vanished: gone }: CopyResults,
  signal: AbortSignal,
): Promise<void> {
  const limit = monotonicMs() + REMOVAL_LIMIT_MS
  for (const file of gone) {
    const { path, location } = plan.file(file).listed
    if (!GOES_WITH_ITS_DATABASE.test(path)) continue
    while (existsSync(dirname(location))) {
      if (parseRelationDirectory(dirname(path)) === undefined || monotonicMs() > limit) {
        throw vanished(path)
      }
      await sleep(REMOVAL_POLL_MS, signal)
    }
  }
}

function vanished(path: string): Failure {
  return new Failure('TM1307', {
    message: `the file ${path} vanished while the backup ran`,
    because: 'PostgreSQL does not remove it from a database that lives',
    fix: 'find out what removes files of the data directory, then run the backup again',
  })
}

export function openOwnPacks(context: BackupContext, workers: number): PackWriter {
  const { options, attemptId } = context
  return new PackWriter({
    storage: context.targets.group.writers,
    cluster: options.cluster,
    attemptId,
    firstSequence: workers,
    sequenceStep: sequenceStep(workers),
    compressionLevel: compressionLevelOf(options),
  })
}

/** Configuration outside the data directory, as content below `@config/`. */
async function copyConfiguration(context: BackupContext, packs: PackWriter) {
  const entries: ContentEntry[] = []
  const files: { location: string; path: string }[] = []
  for (const location of context.facts.configurationFiles) {
    let bytes: Buffer
    let mode: number
    try {
      bytes = await readFile(location)
      mode = statSync(location).mode & 0o7777
    } catch (error) {
      context.notes.push(`${location} was not backed up: ${describeSystemError(error)}`)
      continue
    }
    const path = `@config/${String(files.length).padStart(4, '0')}/${basename(location)}`
    files.push({ location, path })
    entries.push(await storeBytes(context, path, bytes, mode, packs))
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
