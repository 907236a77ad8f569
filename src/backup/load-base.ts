/**
 * Reads the file list of the backup that is compared with, and leaves out of it what the
 * repository cannot give any more: what was lost must not keep new backups from being made.
 *
 * Invariant: an entry that is given names only packs that are in the repository now, have the
 * size that is stated or hold by themselves, and are not condemned. What it names in packs
 * that are too old is there, and is not to be referred to.
 */
import { isFailure } from '../base/failure.ts'
import type { BackupRecord, FileEntry, FrameReference } from '../repository/backup-record.ts'
import type { Condemned } from '../repository/condemned-sets.ts'
import { decodePiece } from '../repository/file-list.ts'
import { findWholePacks } from '../repository/judge-pack-size.ts'
import type { PackReader } from '../repository/pack-reader.ts'
import { listPacks } from '../repository/write-backup.ts'
import type { Storage } from '../storage/storage.ts'
import type { ChosenBase } from './choose-base.ts'
import { chooseOldPacks } from './choose-old-packs.ts'
import { type BasePieces, type KnownPiece, packsOf, readBasePieces } from './write-metadata.ts'

export interface LoadedBase {
  readonly chosen: ChosenBase | undefined
  readonly entries: ReadonlyMap<string, FileEntry>
  readonly pieces: BasePieces
  /** Stored sizes of all packs of the cluster, as they are now. */
  readonly packSizes: ReadonlyMap<string, number>
  /** Those of the base that may be referred to. */
  readonly usablePacks: ReadonlySet<string>
  /** Those that have grown too old: what lies in them is stored again. */
  readonly oldPacks: ReadonlySet<string>
  /** Sentences for the report. */
  readonly notes: readonly string[]
}

const NOTHING = {
  chosen: undefined,
  entries: new Map(),
  pieces: { bySha256: new Map(), byFirstPath: new Map() },
  packSizes: new Map(),
  usablePacks: new Set<string>(),
  oldPacks: new Set<string>(),
}

export interface PackAgeLimit {
  readonly at: Date
  readonly maxAgeMs: number
  /** For tests: see chooseOldPacks(). */
  readonly leastBudgetBytes?: number
}

export async function loadBase(
  storage: Storage,
  chosen: ChosenBase | undefined,
  condemned: Condemned,
  age?: PackAgeLimit,
): Promise<LoadedBase> {
  if (chosen === undefined) return { ...NOTHING, notes: [] }
  const { backup } = chosen
  try {
    const packSizes = await listPacks(storage, backup.cluster)
    const there = await findThere(storage, backup, packSizes, condemned)
    const oldPacks =
      age === undefined
        ? NOTHING.oldPacks
        : chooseOldPacks(backup, packSizes, age.at, age.maxAgeMs, age.leastBudgetBytes)
    const present = there.packs.difference(oldPacks)
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
        if (!isThere(entry, there)) lost++
        else if (mayBeCompared(entry, oldPacks)) entries.set(entry.path, entry)
      }
    }
    const notes = lost === 0 ? [] : [lostNote(backup.id, lost)]
    if (oldPacks.size > 0) notes.push(oldNote(oldPacks, packSizes))
    const pieces = { bySha256, byFirstPath }
    return { chosen, entries, pieces, packSizes, usablePacks: present, oldPacks, notes }
  } catch (error) {
    if (!isFailure(error, 'TM1601') && !isFailure(error, 'TM1602')) throw error
    const what = `nothing is compared with backup ${backup.id}`
    const note = `${what}, everything is stored anew: ${error.message}`
    return { ...NOTHING, notes: [note] }
  }
}

interface PacksThere {
  /** Whole, and not condemned. */
  readonly packs: ReadonlySet<string>
  /** Those of them that were opened because of their size: they may have lost frames. */
  readonly opened: ReadonlyMap<string, PackReader>
}

/** Packs that the backup names, that are whole, and that no expiry is about to remove. */
async function findThere(
  storage: Storage,
  { packs, cluster }: BackupRecord,
  sizes: ReadonlyMap<string, number>,
  condemned: Condemned,
): Promise<PacksThere> {
  const found = packs.filter(({ id }) => sizes.has(id) && !condemned.hasPack(id))
  const differ = found.filter(({ id, bytes }) => bytes !== undefined && bytes !== sizes.get(id))
  const ids = new Set(differ.map(({ id }) => id))
  const opened = await findWholePacks(storage, cluster, [...ids])
  const whole = found.map(({ id }) => id).filter((id) => !ids.has(id) || opened.has(id))
  return { packs: new Set(whole), opened }
}

/** Dropped frames that the backup names: expiry keeps them, so that is a pack that was harmed. */
function isThere(entry: FileEntry, { packs, opened }: PacksThere): boolean {
  if (!packsOf(entry).every((pack) => packs.has(pack))) return false
  if (opened.size === 0 || (entry.kind !== 'pages' && entry.kind !== 'content')) return true
  const frames = entry.kind === 'pages' ? entry.leaves : entry.chunks
  return frames.every(({ pack, frame }) => opened.get(pack)?.holdsFrame(frame) !== false)
}

/** Pages in old packs are left out one by one (page-copier.ts), chunks with their file. */
function mayBeCompared(entry: FileEntry, oldPacks: ReadonlySet<string>): boolean {
  return entry.kind !== 'content' || !packsOf(entry).some((pack) => oldPacks.has(pack))
}

function oldNote(packs: ReadonlySet<string>, sizes: ReadonlyMap<string, number>): string {
  const bytes = [...packs].reduce((sum, id) => sum + (sizes.get(id) ?? 0), 0)
  const megabytes = Math.ceil(bytes / 1024 / 1024)
  return (
    `what lies in ${packs.size} packs (${megabytes} MiB) is stored again, because they are older ` +
    'than maxPackAge'
  )
}

function lostNote(backupId: string, files: number): string {
  return (
    `packs of backup ${backupId} are missing, cut short or expiring in the repository: ` +
    `${files} files are stored anew (tidemark verify says whether it can still be restored)`
  )
}
