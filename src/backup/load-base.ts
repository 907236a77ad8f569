/**
 * Reads the file list of the backup that is compared with, and leaves out of it what the
 * repository cannot give any more: what was lost must not keep new backups from being made.
 *
 * Invariant: an entry that is given names only packs that are in the repository now.
 */
import { isFailure } from '../base/failure.ts'
import type { FileEntry } from '../repository/backup-record.ts'
import { decodePiece } from '../repository/file-list.ts'
import { listPacks } from '../repository/write-backup.ts'
import type { Storage } from '../storage/storage.ts'
import type { ChosenBase } from './choose-base.ts'
import { type BasePieces, packsOf, readBasePieces } from './write-metadata.ts'

export interface LoadedBase {
  readonly chosen: ChosenBase | undefined
  readonly entries: ReadonlyMap<string, FileEntry>
  readonly pieces: BasePieces
  /** Sentences for the report. */
  readonly notes: readonly string[]
}

const NOTHING = { chosen: undefined, entries: new Map(), pieces: new Map() }

export async function loadBase(
  storage: Storage,
  chosen: ChosenBase | undefined,
): Promise<LoadedBase> {
  if (chosen === undefined) return { ...NOTHING, notes: [] }
  const { backup } = chosen
  try {
    const present = await listPacks(storage, backup.cluster)
    const { references, raw } = await readBasePieces(storage, backup)
    const entries = new Map<string, FileEntry>()
    let lost = 0
    for (const { key, bytes } of raw) {
      for (const entry of decodePiece(key, bytes)) {
        if (isPresent(entry, present)) entries.set(entry.path, entry)
        else lost++
      }
    }
    return { chosen, entries, pieces: references, notes: lost === 0 ? [] : [lostNote(backup.id, lost)] }
  } catch (error) {
    if (!isFailure(error, 'TM1601') && !isFailure(error, 'TM1602')) throw error
    const note = `nothing is compared with backup ${backup.id}, everything is stored anew: ${error.message}`
    return { ...NOTHING, notes: [note] }
  }
}

function isPresent(entry: FileEntry, present: ReadonlyMap<string, number>): boolean {
  for (const pack of packsOf(entry)) if (!present.has(pack)) return false
  return true
}

function lostNote(backupId: string, files: number): string {
  return (
    `packs of backup ${backupId} are missing in the repository: ` +
    `${files} files are stored anew (that backup cannot be restored any more)`
  )
}
