/** Verifies the dumps of a repository beside its backups, or one dump by itself. */
import { Failure } from '../../../base/failure.ts'
import type { Configuration } from '../../../config/configuration.ts'
import { openRepositoryStorage } from '../../../config/unlock-storage.ts'
import { hasDump, verifyDumps } from '../../../dump/verify-dumps.ts'
import type { OtherRepositories, VerifyMode, VerifyReport } from '../../../recovery/verify.ts'
import type { Storage } from '../../../storage/storage.ts'
import { HealerSearch } from '../../../sync/find-healers.ts'
import type { CommandContext } from '../../command-context.ts'
import type { ToldDumps } from './format-dumps.ts'

export interface DumpsRequest {
  readonly storage: Storage
  readonly cluster: string
  readonly mode: VerifyMode
  /** What was spent on backups; undefined: they were not looked at. */
  readonly report: VerifyReport | undefined
  /** This one alone. */
  readonly dumpId: string | undefined
  readonly openOthers: () => Promise<OtherRepositories>
}

/** Undefined where one is asked for that this repository does not have, or dumps are not. */
export async function tellDumps(
  { progress, signal }: CommandContext,
  request: DumpsRequest,
): Promise<ToldDumps | undefined> {
  const { storage, cluster, mode, dumpId, openOthers } = request
  if (mode.kind === 'backup') return undefined
  if (dumpId !== undefined && !(await hasDump(storage, cluster, dumpId))) return undefined
  const verified = await verifyDumps({
    storage,
    cluster,
    ...(dumpId === undefined ? limitOf(request) : { only: new Set([dumpId]) }),
    progress,
    signal,
  })
  const { findings, notes } = verified
  if (findings.length === 0) return { ...verified, findings: [] }
  const others = await openOthers()
  const search = new HealerSearch(others.healers, cluster)
  const told: ToldDumps['findings'][number][] = []
  for (const finding of findings) {
    const { failure, key } = finding
    const object = { code: failure.code, key, frame: undefined }
    const healableFrom = others.healers.length === 0 ? undefined : await search.find(object)
    told.push({ ...finding, healableFrom })
  }
  return { ...verified, findings: told, notes: [...notes, ...others.notes] }
}

/** Dumps get what backups have left of a budget. */
function limitOf({ mode, report }: DumpsRequest) {
  if (mode.kind !== 'incremental') return {}
  const { days, budget } = mode
  if (budget === undefined || report === undefined) return { days }
  const { bytes, ms } = budget
  const left = {
    ...(bytes === undefined ? {} : { bytes: bytes - report.proved.bytes }),
    ...(ms === undefined ? {} : { ms: ms - report.durationMs }),
  }
  return { days, budget: left }
}

/** The cluster that has the dump in one of its repositories; TM2061 where none has. */
export async function findClusterOfDump(
  { env }: CommandContext,
  { clusters }: Configuration,
  dumpId: string,
): Promise<string> {
  for (const [name, { repositories }] of clusters) {
    for (const repository of repositories) {
      const storage = await openRepositoryStorage(repository, env)
      if (await hasDump(storage, name, dumpId)) return name
    }
  }
  throw noSuchDump(dumpId, [...clusters.keys()])
}

export function noSuchDump(dumpId: string, clusters: readonly string[]): Failure {
  return new Failure('TM2061', {
    message: `there is no dump ${dumpId} of ${clusters.join(', ')}`,
    because: 'no repository that was looked at has one of that id',
    fix: 'tidemark list shows all of them; a backup is verified with --backup ID',
    details: { dump: dumpId },
  })
}
