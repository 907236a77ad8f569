/**
 * Takes a physical backup with the local source: the story in order.
 *
 * Order (docs/design/repository-format.md, section 7): hold, packs, pg_backup_stop, WAL,
 * record. Nothing is visible before the record; what an interrupted run leaves is removed
 * by itself where it can, else by the next run.
 */
import { now } from '../base/clock.ts'
import { isFailure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { randomHex } from '../base/random.ts'
import { requireSupportedSizes } from '../postgres/control-file.ts'
import { openServerSession, type ServerSession } from '../postgres/server-session.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { cleanUpDeadHolds } from '../repository/clean-up.ts'
import { type Hold, removeDeadAttempt, removeHold } from '../repository/holds.ts'
import { makeBackupId } from '../repository/keys.ts'
import type { PackWriter } from '../repository/pack-writer.ts'
import { listBackups } from '../repository/read-backups.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import {
  type BackupContext,
  type BackupResult,
  sizesOf,
  type TakeBackupOptions,
} from './backup-context.ts'
import { cancelOnAbort, lockBackups, startBackup, watchSession } from './backup-mode.ts'
import { type ChosenBase, chooseBase } from './choose-base.ts'
import { copyCluster, openOwnPacks, requireCheckpoint } from './copy-cluster.ts'
import { type CopyRunner, startCopy } from './copy-files.ts'
import { type HeldBase, holdBase } from './hold-base.ts'
import { judgeArchiving } from './judge-archiving.ts'
import { loadBase, type PackAgeLimit } from './load-base.ts'
import { publish } from './publish.ts'
import { NameReader } from './relation-names.ts'
import { readServerFacts, requireLocalServer, type ServerFacts } from './server-facts.ts'

export async function takeBackup(
  options: TakeBackupOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<BackupResult> {
  progress.phase('connecting')
  const startCopying = options.startCopying ?? startCopy
  const runner = startCopying(
    options.storage,
    options.workers,
    options.specification ?? { url: options.storage.url },
  )
  try {
    const open = options.openSession ?? openServerSession
    const session = await open({
      connection: options.connection,
      applicationName: 'tidemark backup',
      forceVersion: options.forceVersion ?? false,
    })
    try {
      return await backUpServer(session, runner, options, progress, signal)
    } finally {
      await session.close()
    }
  } finally {
    await runner.close()
  }
}

async function backUpServer(
  session: ServerSession,
  runner: CopyRunner,
  options: TakeBackupOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<BackupResult> {
  const prepared = await prepare(session, options, progress, signal)
  signal.throwIfAborted()
  const held = await holdBase(prepared, async (without) => await findBase(prepared, without))
  const { hold } = held
  const context = { ...prepared, base: held.base }
  if (context.base?.trustStatus !== true) runner.expectMuch()
  const packs = openOwnPacks(context, runner.workers)
  try {
    const record = await copyAndPublish(context, held, runner, packs)
    await dropHold(context, hold)
    return { record, notes: context.notes }
  } catch (error) {
    await packs.abort().catch(() => undefined)
    await runner.close()
    await removeOwnAttempt(options, hold)
    throw error
  }
}

async function copyAndPublish(
  context: BackupContext,
  held: HeldBase,
  runner: CopyRunner,
  packs: PackWriter,
): Promise<BackupRecord> {
  const { session, options, progress, signal, version, backupId } = context
  progress.phase('waiting for the checkpoint')
  const starting = startBackup(session, version, `tidemark ${backupId}`)
  const [started, base] = await Promise.all([
    cancelOnAbort(session, options.connection, signal, starting),
    loadBase(options.storage, context.base, held.condemned, ageLimitOf(context)),
  ])
  signal.throwIfAborted()
  context.notes.push(...base.notes)
  await requireCheckpoint(context, started)
  const names = new NameReader(session, options.connection)
  const watch = watchSession(session)
  try {
    const watched = { ...context, signal: AbortSignal.any([signal, watch.signal]) }
    const copy = await copyCluster(watched, base, runner, packs)
    names.limit()
    return await publish({ ...context, base: base.chosen }, started, copy, { base, packs, names })
  } finally {
    watch.end()
    names.giveUp()
  }
}

/** The backup exists already: a hold that stays is removed by the next run. */
async function dropHold({ options, notes }: BackupContext, hold: Hold): Promise<void> {
  try {
    await removeHold(options.storage, options.cluster, hold.id)
  } catch (error) {
    if (!isFailure(error)) throw error
    notes.push(`the hold of this backup could not be removed, the next one will: ${error.message}`)
  }
}

async function prepare(
  session: ServerSession,
  options: TakeBackupOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<BackupContext> {
  const { storage, cluster } = options
  const { version } = session.facts
  const facts = await readServerFacts(session)
  const control = await requireLocalServer(session, facts.dataDirectory)
  requireSupportedSizes(control)
  const notes: string[] = version.caution === undefined ? [] : [version.caution]
  if (options.archiveCheck !== false) requireArchiving(options, facts)
  await lockBackups(session, cluster)
  await ensureSystemIdentity(storage, cluster, {
    systemIdentifier: String(control.systemIdentifier),
    major: version.major,
    walSegmentSizeBytes: control.walSegmentSizeBytes,
    createdAt: now().toISOString(),
  })
  notes.push(...(await cleanUpDeadHolds(storage, cluster)))
  const beganAt = now()
  const context = {
    options,
    session,
    version,
    facts,
    control,
    base: undefined,
    backupId: makeBackupId(beganAt),
    attemptId: randomHex(12),
    progress,
    signal,
    notes,
    beganAt,
  }
  return { ...context, base: await findBase(context) }
}

function ageLimitOf({ options, beganAt: at }: BackupContext): PackAgeLimit | undefined {
  const { maxPackAgeMs: maxAgeMs, leastRenewalBytes: leastBudgetBytes } = options
  if (maxAgeMs === undefined) return undefined
  return { at, maxAgeMs, ...(leastBudgetBytes === undefined ? {} : { leastBudgetBytes }) }
}

function requireArchiving(options: TakeBackupOptions, facts: ServerFacts): void {
  const { settings } = facts
  const failure = judgeArchiving(
    {
      archiveMode: settings['archive_mode'] ?? 'off',
      archiveCommand: settings['archive_command'] ?? '',
      archiveLibrary: settings['archive_library'] ?? '',
      walLevel: settings['wal_level'] ?? '',
    },
    options.cluster,
    options.archiveCommand,
  )
  if (failure !== undefined) throw failure
}

async function findBase(
  { options, facts, control, beganAt }: BackupContext,
  without: ReadonlySet<string> = new Set(),
): Promise<ChosenBase | undefined> {
  if (options.rewrite === true) return undefined
  const { backups } = await listBackups(options.storage, options.cluster)
  const candidates = backups.filter(({ id }) => !without.has(id))
  return chooseBase(candidates, {
    systemIdentifier: String(control.systemIdentifier),
    sizes: sizesOf(control),
    dataChecksumVersion: control.dataChecksumVersion,
    dataDirectory: facts.dataDirectory,
    bootId: facts.bootId,
    bootedAtMs: facts.bootedAtMs,
    now: beganAt,
    full: options.full ?? false,
  })
}

/** What cannot be removed now is removed by the next run: its hold stays until then. */
async function removeOwnAttempt(options: TakeBackupOptions, hold: Hold): Promise<void> {
  try {
    await removeDeadAttempt(options.storage, options.cluster, hold)
  } catch (error) {
    if (!isFailure(error)) throw error
  }
}
