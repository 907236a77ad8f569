/** `pin`, `unpin`, `label`: what a person says of a backup or a dump that is there. */
import { Failure, isFailure } from '../../base/failure.ts'
import { chooseCluster, chooseRepository } from '../../config/configuration.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import type { DumpRecord } from '../../repository/dump-record.ts'
import {
  type LabelChanges,
  labelBackup,
  labelDump,
  pinBackup,
  pinDump,
  unpinBackup,
  unpinDump,
} from '../../repository/marks.ts'
import { listBackups, readBackup } from '../../repository/read-backups.ts'
import { findDump } from '../../repository/read-dumps.ts'
import { openRepository } from '../../repository/repository.ts'
import type { Storage } from '../../storage/storage.ts'
import type { CommandContext } from '../command-context.ts'
import { formatCount } from '../format-units.ts'
import { parseLabels } from './backup.ts'

export interface MarkCommandOptions {
  readonly cluster?: string
  readonly repository?: string
}

interface Mark {
  backup(storage: Storage, record: BackupRecord): Promise<void>
  dump(storage: Storage, record: DumpRecord): Promise<void>
}

export async function runPin(
  context: CommandContext,
  backupId: string,
  options: MarkCommandOptions,
): Promise<number> {
  return await markBackup(
    context,
    backupId,
    options,
    { backup: pinBackup, dump: pinDump },
    'is pinned',
  )
}

export async function runUnpin(
  context: CommandContext,
  backupId: string,
  options: MarkCommandOptions,
): Promise<number> {
  return await markBackup(
    context,
    backupId,
    options,
    { backup: unpinBackup, dump: unpinDump },
    'is not pinned',
  )
}

export async function runLabel(
  context: CommandContext,
  backupId: string,
  texts: readonly string[],
  options: MarkCommandOptions & { readonly remove?: readonly string[] },
): Promise<number> {
  const removed = (options.remove ?? []).map((key) => [key, null] as const)
  const changes: LabelChanges = { ...Object.fromEntries(removed), ...parseLabels(texts) }
  const count = Object.keys(changes).length
  if (count === 0) {
    throw new Failure('TM1001', {
      message: 'there is no label to give or to take away',
      because: 'neither KEY=VALUE nor --remove KEY is there',
      fix: `for example: tidemark label ${backupId} reason=before-migration`,
    })
  }
  const mark: Mark = {
    backup: async (storage, record) => await labelBackup(storage, record, changes),
    dump: async (storage, record) => await labelDump(storage, record, changes),
  }
  const what = `has ${formatCount(count, 'label')} changed`
  return await markBackup(context, backupId, options, mark, what)
}

/** In every repository of the cluster that has it, unless one is named. */
async function markBackup(
  context: CommandContext,
  backupId: string,
  options: MarkCommandOptions,
  mark: Mark,
  what: string,
): Promise<number> {
  const cluster = chooseCluster(context.configuration(), options.cluster)
  const repositories =
    options.repository === undefined
      ? cluster.repositories
      : [chooseRepository(cluster, options.repository)]
  const marked: { repository: string; backup?: string; dump?: string }[] = []
  for (const repository of repositories) {
    const storage = await openRepositoryStorage(repository, context.env)
    await openRepository(storage)
    const id = await markIn(storage, cluster.name, backupId, mark)
    if (id === undefined) continue
    marked.push({ repository: repository.name, ...id })
    const name = id.backup ?? id.dump
    if (!context.json) context.terminal.print(`${name} ${what} in ${repository.name}`)
  }
  if (marked.length === 0) throw noSuchBackup(cluster.name, backupId)
  if (context.json) context.terminal.printJson({ cluster: cluster.name, marked })
  return 0
}

async function markIn(
  storage: Storage,
  cluster: string,
  id: string,
  mark: Mark,
): Promise<{ readonly backup?: string; readonly dump?: string } | undefined> {
  const backup = await findRecord(storage, cluster, id)
  if (backup !== undefined) {
    await mark.backup(storage, backup)
    return { backup: backup.id }
  }
  const dump = await findDump(storage, cluster, id)
  if (dump === undefined) return undefined
  await mark.dump(storage, dump)
  return { dump: dump.id }
}

async function findRecord(
  storage: Storage,
  cluster: string,
  backupId: string,
): Promise<BackupRecord | undefined> {
  if (backupId === 'latest') return (await listBackups(storage, cluster)).backups.at(-1)
  try {
    return await readBackup(storage, cluster, backupId)
  } catch (error) {
    if (isFailure(error, 'TM1505')) return undefined
    throw error
  }
}

function noSuchBackup(cluster: string, backupId: string): Failure {
  return new Failure('TM1505', {
    message: `there is no backup or dump ${backupId} of ${cluster}`,
    because: 'no repository of the cluster holds it',
    fix: `tidemark list ${cluster} shows all of them`,
    details: { backup: backupId },
  })
}
