/** What both repositories are, and which backups they list. */
import { Failure } from '../base/failure.ts'
import { backupKey } from '../repository/keys.ts'
import { listBackups } from '../repository/read-backups.ts'
import { openRepository } from '../repository/repository.ts'
import type { Storage } from '../storage/storage.ts'
import type { RecordSide } from './plan-sync.ts'
import { addProblem, type SyncNames, type SyncProblem } from './sync-state.ts'

export interface Sides {
  readonly source: RecordSide
  readonly target: RecordSide
}

interface SidesRequest {
  readonly source: Storage
  readonly target: Storage
  readonly names: SyncNames
  readonly cluster: string
}

/** TM1503 where a side is no repository, TM1930 where both are the same one. */
export async function requireTwo({ source, target, names }: SidesRequest): Promise<void> {
  const [from, to] = await Promise.all([openRepository(source), openRepository(target)])
  if (from.repositoryId !== to.repositoryId) return
  throw new Failure('TM1930', {
    message: `${names.source} and ${names.target} are one repository`,
    because: `${source.url} and ${target.url} have the id ${from.repositoryId}`,
    fix: 'name two repositories; a new one is made by tidemark init, not by copying files',
    details: { repositoryId: from.repositoryId },
  })
}

/** Records of the source that are damaged are problems; those of the target are work. */
export async function readSides(request: SidesRequest, problems: SyncProblem[]): Promise<Sides> {
  const { source, target, cluster, names } = request
  const [from, to] = await Promise.all([listBackups(source, cluster), listBackups(target, cluster)])
  for (const { backupId, failure } of from.damaged) {
    addProblem({ problems, names }, 'source', backupKey(cluster, backupId), failure)
  }
  return {
    source: { records: from.backups, damaged: from.damaged.map(({ backupId }) => backupId) },
    target: { records: to.backups, damaged: to.damaged.map(({ backupId }) => backupId) },
  }
}
