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
import { ensureSlot } from '../postgres/replication-slot.ts'
import { parseLsn, segmentNumber } from '../postgres/lsn.ts'
import { openServerSession, type ServerSession } from '../postgres/server-session.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { cleanUpDeadHolds } from '../repository/clean-up.ts'
import { removeDeadAttempt, removeHold } from '../repository/holds.ts'
import { makeBackupId, packKey } from '../repository/keys.ts'
import type { PackWriter } from '../repository/pack-writer.ts'
import { openRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'
import {
  type BackupContext,
  type BackupResult,
  type TakeBackupOptions,
  targetsOf,
} from './backup-context.ts'
import { cancelOnAbort, lockBackups, startBackup, watchSession } from './backup-mode.ts'
import { findBase } from './find-base.ts'
import { copyCluster, openOwnPacks, requireCheckpoint } from './copy-cluster.ts'
import { type CopyRunner, startCopy } from './copy-files.ts'
import { type HeldBase, holdBase } from './hold-base.ts'
import { judgeArchiving } from './judge-archiving.ts'
import { loadBase, type PackAgeLimit } from './load-base.ts'
import { publish } from './publish.ts'
import { NameReader } from './relation-names.ts'
import { Targets } from './targets.ts'
import {
  readServerFacts,
  readWalPosition,
  requireLocalServer,
  type ServerFacts,
} from './server-facts.ts'

export async function takeBackup(
  options: TakeBackupOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<BackupResult> {
  progress.phase('connecting')
  const startCopying = options.startCopying ?? startCopy
  const targets = new Targets(targetsOf(options))
  await targets.group.gather(openRepository)
  const specifications = targets.list.map(({ specification }) => specification)
  const runner = startCopying(targets.group, options.workers, specifications)
  try {
    const open = options.openSession ?? openServerSession
    const session = await open({
      connection: options.connection,
      applicationName: 'tidemark backup',
      forceVersion: options.forceVersion ?? false,
    })
    try {
      return await backUpServer(session, runner, { options, targets, progress, signal })
    } finally {
      await session.close()
    }
  } finally {
    await runner.close()
  }
}

type Assignment = Pick<BackupContext, 'options' | 'targets' | 'progress' | 'signal'>

async function backUpServer(
  session: ServerSession,
  runner: CopyRunner,
  assignment: Assignment,
): Promise<BackupResult> {
  const { targets, signal } = assignment
  const prepared = await prepare(session, assignment)
  signal.throwIfAborted()
  const held = await holdBase(prepared)
  const context = { ...prepared, base: held.base, comparedIn: held.comparedIn }
  if (await mayReadMuch(context)) runner.expectMuch()
  const packs = openOwnPacks(context, runner.workers)
  try {
    const record = await copyAndPublish(context, held, runner, packs)
    await dropHolds(context, record)
    await removeAttempt(context, held, targets.reachableDropped())
    return { record, notes: context.notes, targets: targets.report() }
  } catch (error) {
    await packs.abort().catch(() => undefined)
    await runner.close()
    const reachable = [...targets.group.living(), ...targets.reachableDropped()]
    await removeAttempt(context, held, reachable)
    throw error
  }
}

/** With fewer segments of WAL since the last backup it is likely that hardly a file has changed. */
const FEW_SEGMENTS = 2n

/** A guess, for time only: threads take a tenth of a second to start. */
async function mayReadMuch({ base, control, session }: BackupContext): Promise<boolean> {
  if (base?.trustStatus !== true) return true
  const [position, stop] = [await readWalPosition(session), parseLsn(base.backup.stopLsn)]
  if (position === undefined || stop === undefined) return false
  const size = control.walSegmentSizeBytes
  // This backup's end switched to the next one, and so may have another's beginning and end.
  return segmentNumber(position, size) > segmentNumber(stop, size) + 1n + FEW_SEGMENTS
}

async function copyAndPublish(
  context: BackupContext,
  held: HeldBase,
  runner: CopyRunner,
  packs: PackWriter,
): Promise<BackupRecord> {
  const { session, options, progress, signal, version, backupId, targets, comparedIn } = context
  progress.phase('waiting for the checkpoint')
  const starting = startBackup(session, version, `tidemark ${backupId}`)
  const [started, base] = await Promise.all([
    cancelOnAbort(session, options.connection, signal, starting),
    loadBase(targets.group, comparedIn, context.base, held.condemned, ageLimitOf(context)),
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
async function dropHolds(context: BackupContext, record: BackupRecord): Promise<void> {
  const { options, notes, backupId, targets } = context
  for (const target of targets.group.living()) {
    const storage = targets.group.storageOf(target)
    try {
      if (!targets.isStored(target)) await removeRecordCopy(storage, record)
      await removeHold(storage, options.cluster, backupId)
    } catch (error) {
      if (!isFailure(error)) throw error
      const next = 'could not be removed, the next one will'
      notes.push(`the hold of this backup ${next}: ${error.message}`)
    }
  }
}

/**
 * A repository that gets no record must not look as if it had lost one: expiry would stop, and a
 * rebuilt catalogue would list what is not whole there. Before the hold goes, since no sync brings
 * a backup that is under way; where the pack is locked, the copy stays until a sync.
 */
async function removeRecordCopy(storage: Storage, record: BackupRecord): Promise<void> {
  const pack = record.packs.find(({ bytes }) => bytes === undefined)
  if (pack === undefined) return
  try {
    await storage.remove(packKey(record.cluster, pack.id))
  } catch (error) {
    if (!isFailure(error, 'TM1513')) throw error
  }
}

async function prepare(session: ServerSession, assignment: Assignment): Promise<BackupContext> {
  const { options, targets } = assignment
  const { cluster } = options
  const { version } = session.facts
  const facts = await readServerFacts(session)
  const control = await requireLocalServer(session, facts.dataDirectory)
  requireSupportedSizes(control)
  const notes: string[] = version.caution === undefined ? [] : [version.caution]
  // With the slot the server keeps all WAL from here on for the receiver, running or not.
  if (options.slot !== undefined) await ensureSlot(session, options.slot)
  else if (options.archiveCheck !== false) requireArchiving(options, facts)
  await lockBackups(session, cluster)
  await targets.group.gather(async (storage) => {
    await ensureSystemIdentity(storage, cluster, {
      systemIdentifier: String(control.systemIdentifier),
      major: version.major,
      walSegmentSizeBytes: control.walSegmentSizeBytes,
      createdAt: now().toISOString(),
    })
    notes.push(...(await cleanUpDeadHolds(storage, cluster)))
  })
  const beganAt = now()
  const context = {
    ...assignment,
    session,
    version,
    facts,
    control,
    backupId: makeBackupId(beganAt),
    attemptId: randomHex(12),
    notes,
    beganAt,
  }
  return { ...context, ...(await findBase(context)) }
}

function ageLimitOf({ options, beganAt: at }: BackupContext): PackAgeLimit | undefined {
  const { maxPackAgeMs: maxAgeMs, leastRenewalBytes: leastBudgetBytes } = options
  if (maxAgeMs === undefined) return undefined
  return { at, maxAgeMs, ...(leastBudgetBytes === undefined ? {} : { leastBudgetBytes }) }
}

function requireArchiving(options: BackupContext['options'], facts: ServerFacts): void {
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

/** What cannot be removed now is removed by the next run: its hold stays until then. */
async function removeAttempt(
  { targets, options }: BackupContext,
  { holds }: HeldBase,
  numbers: readonly number[],
): Promise<void> {
  const removals = [...new Set(numbers)].map(async (target) => {
    const hold = holds.get(target)
    if (hold === undefined) return
    await removeDeadAttempt(targets.group.storageOf(target), options.cluster, hold)
  })
  for (const outcome of await Promise.allSettled(removals)) {
    if (outcome.status === 'rejected' && !isFailure(outcome.reason)) throw outcome.reason
  }
}
