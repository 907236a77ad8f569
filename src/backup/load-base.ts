/**
 * Reads the file list of the backup that is compared with, and leaves out of it what the
 * repository cannot give any more: what was lost must not keep new backups from being made.
 *
 * Invariant: an entry that is given names only packs that are in the repository now, have the
 * size that they were written with, and are not condemned.
 */
import { isFailure } from '../base/failure.ts'
import { keepHeapSmall } from '../base/heap.ts'
import type { BackupRecord, FileEntry } from '../repository/backup-record.ts'
import type { Condemned } from '../repository/condemned-sets.ts'
import { listPacks } from '../repository/write-backup.ts'
import type { Storage } from '../storage/storage.ts'
import type { ChosenBase } from './choose-base.ts'
import { BaseList } from './base-list.ts'
import { type BasePieces, type Lookup, readBasePieces } from './write-metadata.ts'

export interface LoadedBase {
  readonly chosen: ChosenBase | undefined
  /** By path. */
  readonly entries: Lookup<FileEntry>
  readonly pieces: BasePieces
  /** Stored sizes of all packs of the cluster, as they are now. */
  readonly packSizes: ReadonlyMap<string, number>
  /** Those of the base that may be referred to. */
  readonly usablePacks: ReadonlySet<string>
  /** Sentences for the report. */
  readonly notes: readonly string[]
}

const NOTHING = {
  chosen: undefined,
  entries: new Map(),
  pieces: { bySha256: new Map(), byFirstPath: new Map() },
  packSizes: new Map(),
  usablePacks: new Set<string>(),
}

export async function loadBase(
  storage: Storage,
  chosen: ChosenBase | undefined,
  condemned: Condemned,
): Promise<LoadedBase> {
  if (chosen === undefined) return { ...NOTHING, notes: [] }
  const { backup } = chosen
  try {
    const packSizes = await listPacks(storage, backup.cluster)
    const present = findWholePacks(backup, packSizes, condemned)
    keepHeapSmall(backup.files.entries)
    const list = new BaseList(present, backup.files.entries)
    for await (const piece of readBasePieces(storage, backup)) list.add(piece)
    const notes = list.lost === 0 ? [] : [lostNote(backup.id, list.lost)]
    const { entries } = list
    return { chosen, entries, pieces: list, packSizes, usablePacks: present, notes }
  } catch (error) {
    if (!isFailure(error, 'TM1601') && !isFailure(error, 'TM1602')) throw error
    const what = `nothing is compared with backup ${backup.id}`
    const note = `${what}, everything is stored anew: ${error.message}`
    return { ...NOTHING, notes: [note] }
  }
}

/** Packs that the backup names, that have their size, and that no expiry is about to remove. */
function findWholePacks(
  { packs }: BackupRecord,
  sizes: ReadonlyMap<string, number>,
  condemned: Condemned,
): ReadonlySet<string> {
  const whole = packs.filter(({ id, bytes }) => {
    const size = condemned.hasPack(id) ? undefined : sizes.get(id)
    return size !== undefined && (bytes === undefined || bytes === size)
  })
  return new Set(whole.map(({ id }) => id))
}

function lostNote(backupId: string, files: number): string {
  return (
    `packs of backup ${backupId} are missing, cut short or expiring in the repository: ` +
    `${files} files are stored anew (tidemark verify says whether it can still be restored)`
  )
}
