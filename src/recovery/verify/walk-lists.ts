/**
 * Walks the file lists of many backups at once, path by path: every distinct piece is read
 * once, and what several backups share is met once. In memory is one piece per version of
 * the list at that path.
 *
 * A piece that cannot be read ends the list of the backups that name it: they are told.
 */
import type { Failure } from '../../base/failure.ts'
import type {
  BackupRecord,
  FileEntry,
  FileListPieceReference,
} from '../../repository/backup-record.ts'
import { decodePiece } from '../../repository/file-list.ts'
import { damagedObject } from '../../repository/envelope.ts'
import { openPack, type PackReader } from '../../repository/pack-reader.ts'
import type { Storage } from '../../storage/storage.ts'
import { isDamage } from './prove-pack.ts'

/** One entry and the backups that have it so. */
export interface EntryVersion {
  readonly entry: FileEntry
  readonly owners: readonly BackupRecord[]
}

export interface PathVersions {
  readonly path: string
  readonly versions: readonly EntryVersion[]
}

export interface LostPiece {
  readonly piece: FileListPieceReference
  readonly owners: readonly BackupRecord[]
  readonly failure: Failure
}

interface Piece {
  readonly reference: FileListPieceReference
  readonly owners: BackupRecord[]
}

interface OpenPiece extends Piece {
  readonly entries: readonly FileEntry[]
  at: number
}

export async function* walkLists(
  storage: Storage,
  backups: readonly BackupRecord[],
  onLost: (lost: LostPiece) => void,
): AsyncGenerator<PathVersions> {
  const waiting = collectPieces(backups)
  const packs = new RecentPacks(storage)
  let open: OpenPiece[] = []
  let next = 0
  for (;;) {
    let path = lowestPath(open)
    while (next < waiting.length) {
      const piece = waiting[next] as Piece
      if (path !== undefined && piece.reference.firstPath > path) break
      next++
      const opened = await openPiece(packs, piece, onLost)
      if (opened === undefined) continue
      open.push(opened)
      path = lowestPath(open)
    }
    if (path === undefined) return
    yield { path, versions: takeVersions(open, path) }
    open = open.filter(({ at, entries }) => at < entries.length)
  }
}

/** Distinct pieces in the order of their first paths. */
function collectPieces(backups: readonly BackupRecord[]): Piece[] {
  const pieces = new Map<string, Piece>()
  for (const backup of backups) {
    for (const reference of backup.files.pieces) {
      const { pack, frame, firstPath, entries } = reference
      const name = `${pack}/${frame}/${entries}/${firstPath}`
      const known = pieces.get(name)
      if (known === undefined) pieces.set(name, { reference, owners: [backup] })
      else known.owners.push(backup)
    }
  }
  return [...pieces.values()].sort((a, b) =>
    comparePaths(a.reference.firstPath, b.reference.firstPath),
  )
}

/** UTF-16 code units, as the lists are sorted. */
function comparePaths(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function lowestPath(open: readonly OpenPiece[]): string | undefined {
  let lowest: string | undefined
  for (const { entries, at } of open) {
    const path = entries[at]?.path
    if (path !== undefined && (lowest === undefined || path < lowest)) lowest = path
  }
  return lowest
}

function takeVersions(open: readonly OpenPiece[], path: string): EntryVersion[] {
  const versions: EntryVersion[] = []
  for (const piece of open) {
    const entry = piece.entries[piece.at]
    if (entry?.path !== path) continue
    piece.at++
    versions.push({ entry, owners: piece.owners })
  }
  return versions
}

async function openPiece(
  packs: RecentPacks,
  piece: Piece,
  onLost: (lost: LostPiece) => void,
): Promise<OpenPiece | undefined> {
  const { reference, owners } = piece
  try {
    const reader = await packs.open(owners[0] as BackupRecord, reference.pack)
    const entries = decodePiece(reader.key, await reader.readFrame(reference.frame))
    if (entries.length !== reference.entries || entries[0]?.path !== reference.firstPath) {
      throw damagedObject(reader.key, 'a piece of its file list differs')
    }
    return { ...piece, entries, at: 0 }
  } catch (error) {
    if (!isDamage(error)) throw error
    onLost({ piece: reference, owners, failure: error })
    return undefined
  }
}

const KEPT_PACKS = 16

class RecentPacks {
  readonly #storage: Storage
  readonly #packs = new Map<string, PackReader>()

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async open(owner: BackupRecord, pack: string): Promise<PackReader> {
    const known = this.#packs.get(pack)
    if (known !== undefined) return known
    const reader = await openPack(this.#storage, owner.cluster, pack, `backup ${owner.id}`)
    this.#packs.set(pack, reader)
    if (this.#packs.size > KEPT_PACKS) this.#packs.delete(this.#packs.keys().next().value as string)
    return reader
  }
}
