/**
 * Reads the file list of the backup that is compared with, and leaves out of it what the
 * repository cannot give any more: what was lost must not keep new backups from being made.
 *
 * Invariant: an entry that is given names only packs that are in the repository now, have the
 * size that is stated or hold by themselves, and are not condemned. What it names in packs
 * that are too old is there, and is not to be referred to.
 */
import { isFailure } from '../base/failure.ts'
import { keepHeapSmall } from '../base/heap.ts'
import type { BackupRecord, FileEntry } from '../repository/backup-record.ts'
import { type Condemned, NOTHING_CONDEMNED } from '../repository/condemned-sets.ts'
import { findWholePacks } from '../repository/judge-pack-size.ts'
import type { PackReader } from '../repository/pack-reader.ts'
import { listPacks } from '../repository/write-backup.ts'
import type { Storage } from '../storage/storage.ts'
import type { WriteGroup } from '../storage/write-group.ts'
import type { ChosenBase } from './choose-base.ts'
import { BaseList } from './base-list.ts'
import { chooseOldPacks } from './choose-old-packs.ts'
import { openComparedStorage } from './compared-storage.ts'
import { type BasePieces, type Lookup, packsOf, readBasePieces } from './write-metadata.ts'

export interface LoadedBase {
  readonly chosen: ChosenBase | undefined
  /** By path. */
  readonly entries: Lookup<FileEntry>
  readonly pieces: BasePieces
  /** Stored sizes of all packs of the cluster, as they are now. */
  readonly packSizes: ReadonlyMap<string, number>
  /** Those of the base that may be referred to: whole, and not expiring, wherever the base is. */
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

/** `comparedIn`: the members of the group that hold the base, the nearest first. */
export async function loadBase(
  group: WriteGroup,
  comparedIn: readonly number[],
  chosen: ChosenBase | undefined,
  condemned: ReadonlyMap<number, Condemned>,
  age?: PackAgeLimit,
): Promise<LoadedBase> {
  if (chosen === undefined) return { ...NOTHING, notes: [] }
  const { backup } = chosen
  try {
    const listings = await group.gather(async (target, number) => {
      const sizes = await listPacks(target, backup.cluster)
      const expiring = condemned.get(number) ?? NOTHING_CONDEMNED
      return { sizes, there: await findThere(target, backup, sizes, expiring) }
    }, comparedIn)
    const there = [...listings.values()].map((listing) => listing.there)
    const packSizes = listings.values().next().value?.sizes ?? new Map<string, number>()
    const storage = openComparedStorage(group, comparedIn)
    const oldPacks =
      age === undefined
        ? NOTHING.oldPacks
        : chooseOldPacks(backup, packSizes, age.at, age.maxAgeMs, age.leastBudgetBytes)
    const present = findCommonPacks(there).difference(oldPacks)
    keepHeapSmall(backup.files.entries)
    const list = new BaseList(backup.files.entries, {
      isThere: (entry) => there.every((target) => isThere(entry, target)),
      mayBeCompared: (entry) => mayBeCompared(entry, oldPacks),
      mayRefer: (pack) => present.has(pack),
    })
    for await (const piece of readBasePieces(storage, backup)) list.add(piece)
    const notes = list.lost === 0 ? [] : [lostNote(backup.id, list.lost)]
    if (oldPacks.size > 0) notes.push(oldNote(oldPacks, packSizes))
    const { entries } = list
    return { chosen, entries, pieces: list, packSizes, usablePacks: present, oldPacks, notes }
  } catch (error) {
    if (!isFailure(error, 'TM1601') && !isFailure(error, 'TM1602')) throw error
    const what = `nothing is compared with backup ${backup.id}`
    const note = `${what}, everything is stored anew: ${error.message}`
    return { ...NOTHING, notes: [note] }
  }
}

/** What one of the targets has lost counts as lost: it is stored anew, in all. */
function findCommonPacks([first, ...others]: readonly PacksThere[]): ReadonlySet<string> {
  const packs = [...(first?.packs ?? [])]
  return new Set(packs.filter((id) => others.every((other) => other.packs.has(id))))
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
