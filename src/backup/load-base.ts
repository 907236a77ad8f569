/**
 * Reads the file list of the backup that is compared with, and leaves out of it what the
 * repository cannot give any more: what was lost must not keep new backups from being made.
 *
 * Invariant: an entry that is given names only packs that are in the repository now, have the
 * size that they were written with, and are not condemned.
 */
import { isFailure } from '../base/failure.ts'
import type { BackupRecord, FileEntry, FrameReference } from '../repository/backup-record.ts'
import { type Condemned, NOTHING_CONDEMNED } from '../repository/condemned-sets.ts'
import { decodePiece } from '../repository/file-list.ts'
import { listPacks } from '../repository/write-backup.ts'
import type { Storage } from '../storage/storage.ts'
import type { WriteGroup } from '../storage/write-group.ts'
import type { ChosenBase } from './choose-base.ts'
import { openComparedStorage } from './compared-storage.ts'
import { type BasePieces, type KnownPiece, packsOf, readBasePieces } from './write-metadata.ts'

export interface LoadedBase {
  readonly chosen: ChosenBase | undefined
  readonly entries: ReadonlyMap<string, FileEntry>
  readonly pieces: BasePieces
  /** Stored sizes of all packs of the cluster, as they are now. */
  readonly packSizes: ReadonlyMap<string, number>
  /** Those of the base that may be referred to: whole, and not expiring, wherever the base is. */
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

/** `comparedIn`: the members of the group that hold the base, the nearest first. */
export async function loadBase(
  group: WriteGroup,
  comparedIn: readonly number[],
  chosen: ChosenBase | undefined,
  condemned: ReadonlyMap<number, Condemned>,
): Promise<LoadedBase> {
  if (chosen === undefined) return { ...NOTHING, notes: [] }
  const { backup } = chosen
  try {
    const list = async (storage: Storage) => await listPacks(storage, backup.cluster)
    const listings = await group.gather(list, comparedIn)
    const packSizes = listings.values().next().value ?? new Map<string, number>()
    const present = findCommonPacks(backup, listings, condemned)
    const storage = openComparedStorage(group, comparedIn)
    const bySha256 = new Map<string, FrameReference>()
    const byFirstPath = new Map<string, KnownPiece>()
    const entries = new Map<string, FileEntry>()
    let lost = 0
    for await (const { key, bytes, reference, sha256 } of readBasePieces(storage, backup)) {
      const decoded = decodePiece(key, bytes)
      if (present.has(reference.pack)) {
        bySha256.set(sha256, reference)
        byFirstPath.set(decoded[0]?.path ?? '', { reference, entries: decoded })
      }
      for (const entry of decoded) {
        if (isPresent(entry, present)) entries.set(entry.path, entry)
        else lost++
      }
    }
    const notes = lost === 0 ? [] : [lostNote(backup.id, lost)]
    const pieces = { bySha256, byFirstPath }
    return { chosen, entries, pieces, packSizes, usablePacks: present, notes }
  } catch (error) {
    if (!isFailure(error, 'TM1601') && !isFailure(error, 'TM1602')) throw error
    const what = `nothing is compared with backup ${backup.id}`
    const note = `${what}, everything is stored anew: ${error.message}`
    return { ...NOTHING, notes: [note] }
  }
}

/** What one of the targets has lost counts as lost: it is stored anew, in all. */
function findCommonPacks(
  backup: BackupRecord,
  listings: ReadonlyMap<number, ReadonlyMap<string, number>>,
  condemned: ReadonlyMap<number, Condemned>,
): ReadonlySet<string> {
  const whole = [...listings].map(([target, sizes]) => {
    return findWholePacks(backup, sizes, condemned.get(target) ?? NOTHING_CONDEMNED)
  })
  const [first = new Set<string>(), ...others] = whole
  return new Set([...first].filter((id) => others.every((one) => one.has(id))))
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

function isPresent(entry: FileEntry, present: ReadonlySet<string>): boolean {
  return packsOf(entry).every((pack) => present.has(pack))
}

function lostNote(backupId: string, files: number): string {
  return (
    `packs of backup ${backupId} are missing, cut short or expiring in the repository: ` +
    `${files} files are stored anew (tidemark verify says whether it can still be restored)`
  )
}
