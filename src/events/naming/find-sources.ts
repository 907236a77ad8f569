/**
 * Finds the readings of names that a range of the WAL needs: those within it, the nearest before
 * and the nearest behind, on the timelines of the path.
 */
import { isFailure } from '../../base/failure.ts'
import { includes } from '../../postgres/history-file.ts'
import { type Lsn, parseLsn } from '../../postgres/lsn.ts'
import type { WalPath } from '../../archive/load-segment.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import { openPack } from '../../repository/pack-reader.ts'
import { listBackups } from '../../repository/read-backups.ts'
import { parseRelationNames } from '../../repository/relation-names.ts'
import type { Storage } from '../../storage/storage.ts'
import { findNamesSnapshot, listNamesSnapshots } from '../names-snapshot.ts'
import { type NameSource, sourceOfBackup, sourceOfSnapshot } from './name-source.ts'

export interface NameRange {
  readonly from: Lsn | undefined
  readonly to: Lsn | undefined
}

/** Names of a million relations are large; between the ends a few readings are enough. */
const MAX_SOURCES = 24

interface Candidate {
  readonly lsn: Lsn
  /** Undefined: it is damaged or has gone. */
  read(): Promise<NameSource | undefined>
}

/** In the order of their LSNs. What cannot be read is left out: names are a help. */
export async function findSources(path: WalPath, range: NameRange): Promise<NameSource[]> {
  const sources: NameSource[] = []
  const seen = new Set<Lsn>()
  const chosen = chooseCandidates(await listCandidates(path), range)
  for (const candidate of chosen) {
    // Repositories have the same readings: the first whole copy counts.
    if (seen.has(candidate.lsn)) continue
    const source = await orNothing(candidate.read())
    if (source === undefined) continue
    seen.add(candidate.lsn)
    sources.push(source)
  }
  return sources
}

async function orNothing<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found
  } catch (error) {
    if (isFailure(error) || error instanceof SyntaxError) return undefined
    throw error
  }
}

async function listCandidates(path: WalPath): Promise<Candidate[]> {
  const lists = await Promise.all(
    path.storages.map(async (storage) => [
      ...((await orNothing(listSnapshots(storage, path))) ?? []),
      ...((await orNothing(listNamedBackups(storage, path))) ?? []),
    ]),
  )
  return lists.flat().sort((a, b) => (a.lsn < b.lsn ? -1 : 1))
}

async function listSnapshots(storage: Storage, path: WalPath): Promise<Candidate[]> {
  const listed = await listNamesSnapshots(storage, path)
  return listed
    .filter(({ timeline, lsn }) => includes(path.path, timeline, lsn))
    .map(({ key, lsn }) => ({
      lsn,
      read: async () => {
        const names = await findNamesSnapshot(storage, key)
        return names === undefined ? undefined : sourceOfSnapshot(names)
      },
    }))
}

async function listNamedBackups(storage: Storage, path: WalPath): Promise<Candidate[]> {
  const { backups } = await listBackups(storage, path.cluster)
  return backups.flatMap((backup): Candidate[] => {
    const [lsn, stop] = [parseLsn(backup.startLsn), parseLsn(backup.stopLsn)]
    if (lsn === undefined || stop === undefined) return []
    const isOurs =
      backup.systemIdentifier === path.systemIdentifier &&
      includes(path.path, backup.timeline, stop)
    return isOurs ? [{ lsn, read: async () => await readBackupNames(storage, backup) }] : []
  })
}

async function readBackupNames(
  storage: Storage,
  backup: BackupRecord,
): Promise<NameSource | undefined> {
  if (backup.relationNames === undefined) return undefined
  const { pack, frame } = backup.relationNames
  const reader = await openPack(storage, backup.cluster, pack)
  return sourceOfBackup(backup, parseRelationNames(await reader.readFrame(frame)))
}

/** Candidates ascend. Those of the same LSN, of several repositories, count as one. */
function chooseCandidates(all: readonly Candidate[], { from, to }: NameRange): Candidate[] {
  const lsns = [...new Set(all.map(({ lsn }) => lsn))]
  const before = from === undefined ? undefined : lsns.findLast((lsn) => lsn < from)
  const behind = to === undefined ? undefined : lsns.find((lsn) => lsn > to)
  const within = lsns.filter(
    (lsn) => (from === undefined || lsn >= from) && (to === undefined || lsn <= to),
  )
  const wanted = new Set<Lsn | undefined>([before, behind, ...spread(within, MAX_SOURCES)])
  return all.filter(({ lsn }) => wanted.has(lsn))
}

/** At most `count` of a list, the first and the last among them. */
function spread<T>(list: readonly T[], count: number): T[] {
  if (list.length <= count) return [...list]
  const step = (list.length - 1) / (count - 1)
  return Array.from({ length: count }, (_, n) => list[Math.round(n * step)] as T)
}
