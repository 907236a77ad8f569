/**
 * Writes what describes a backup: the pieces of its file list, the relation names, and the
 * record as the last frame (docs/design/repository-format.md, sections 5 and 6).
 *
 * Invariant: a piece or a set of names that equals the one of the backup compared with is
 * not written again; it is judged by its bytes or by every field of its entries, never by
 * its name alone.
 */
import { createHash, hash } from 'node:crypto'
import { isFailure } from '../base/failure.ts'
import type {
  BackupRecord,
  ContentEntry,
  FileEntry,
  FileListPieceReference,
  FrameReference,
} from '../repository/backup-record.ts'
import { encodePiece, endsPiece, makePackCache } from '../repository/file-list.ts'
import { FRAME_KINDS, type FrameKind } from '../repository/pack-format.ts'
import type { PackWriter } from '../repository/pack-writer.ts'
import type { Storage } from '../storage/storage.ts'

export interface WrittenFileList {
  readonly pieces: readonly FileListPieceReference[]
  readonly entries: number
  readonly bytes: number
  readonly contentHash: string
  /** Packs that entries and pieces refer to. */
  readonly packs: ReadonlySet<string>
}

/** `entries` in the order of their paths; no more than those of a piece are held. */
export async function writeFileList(
  entries: Iterable<FileEntry>,
  packs: PackWriter,
  basePieces: BasePieces,
): Promise<WrittenFileList> {
  const pieces: FileListPieceReference[] = []
  const used = new Set<string>()
  const content = createHash('sha256')
  let bytes = 0
  let count = 0
  let gathered: FileEntry[] = []
  const endPiece = async (): Promise<void> => {
    content.update(gathered.map(describeContent).join(''))
    const piece = await writePiece(gathered, packs, basePieces)
    used.add(piece.pack)
    pieces.push(piece)
    gathered = []
  }
  for (const entry of entries) {
    gathered.push(entry)
    count++
    for (const pack of packsOf(entry)) used.add(pack)
    if (entry.kind === 'pages' || entry.kind === 'content') bytes += entry.size
    if (endsPiece(entry.path, gathered.length)) await endPiece()
  }
  if (gathered.length > 0) await endPiece()
  return { pieces, entries: count, bytes, contentHash: content.digest('hex'), packs: used }
}

/** One line per entry: what it holds, not where. */
export function describeContent(entry: FileEntry): string {
  const head = `${entry.path}\0${entry.kind}\0${entry.mode}`
  switch (entry.kind) {
    case 'pages':
      return `${head}\0${entry.size}\0${entry.digest}\n`
    case 'content':
      return `${head}\0${entry.size}\0${entry.sha256}\n`
    case 'link':
      return `${head}\0${entry.target}\n`
    case 'directory':
    case 'empty':
      return `${head}\n`
  }
}

/** Packs that an entry cannot do without. */
export function packsOf(entry: FileEntry): string[] {
  if (entry.kind === 'content') return entry.chunks.map(({ pack }) => pack)
  if (entry.kind !== 'pages') return []
  return [...entry.packs, ...entry.leaves.map(({ pack }) => pack)]
}

async function writePiece(
  entries: readonly FileEntry[],
  packs: PackWriter,
  basePieces: BasePieces,
): Promise<FileListPieceReference> {
  const firstPath = entries[0]?.path ?? ''
  const head = { firstPath, entries: entries.length }
  const same = basePieces.byFirstPath.get(firstPath)
  if (same !== undefined && hasSameEntries(entries, same)) return { ...head, ...same.reference }
  const raw = encodePiece(entries)
  const known = basePieces.bySha256.get(hash('sha256', raw, 'hex'))
  if (known !== undefined) return { ...head, ...known }
  return { ...head, ...(await addFrame(packs, FRAME_KINDS.fileList, raw)) }
}

/** Where the pieces of the backup compared with lie. */
export interface BasePieces {
  /** By the SHA-256 of their bytes. */
  readonly bySha256: Lookup<FrameReference>
  readonly byFirstPath: Lookup<KnownPiece>
}

/** A map is one. */
export interface Lookup<T> {
  get(key: string): T | undefined
}

export interface KnownPiece {
  readonly reference: FrameReference
  readonly entries: readonly FileEntry[]
}

/** To compare entries is quicker than to encode those that are most often the same. */
function hasSameEntries(entries: readonly FileEntry[], known: KnownPiece): boolean {
  if (entries.length !== known.entries.length) return false
  return entries.every((entry, at) => isSameEntry(entry, known.entries[at] as FileEntry))
}

/** Entries of pages that were taken over are the very objects of the base. */
function isSameEntry(one: FileEntry, other: FileEntry): boolean {
  if (one === other) return true
  if (one.path !== other.path || one.mode !== other.mode) return false
  if (one.kind === 'link') return other.kind === 'link' && one.target === other.target
  if (one.kind === 'content') return other.kind === 'content' && isSameContent(one, other)
  return one.kind === other.kind && one.kind !== 'pages'
}

function isSameContent(one: ContentEntry, other: ContentEntry): boolean {
  if (one.size !== other.size || one.sha256 !== other.sha256) return false
  if (one.chunks.length !== other.chunks.length) return false
  return one.chunks.every(({ pack, frame }, at) => {
    const chunk = other.chunks[at]
    return chunk?.pack === pack && chunk.frame === frame
  })
}

export interface BasePiece {
  readonly reference: FrameReference
  /** Of the pack, for failures. */
  readonly key: string
  readonly bytes: Uint8Array
  readonly sha256: string
}

/** Reads the base's pieces one by one: of a large cluster they are many megabytes. */
export async function* readBasePieces(
  storage: Storage,
  record: BackupRecord,
): AsyncGenerator<BasePiece> {
  const pack = makePackCache(storage, record.cluster, `backup ${record.id}`)
  for (const piece of record.files.pieces) {
    const reader = await pack(piece.pack)
    const bytes = await reader.readFrame(piece.frame)
    const reference = { pack: piece.pack, frame: piece.frame }
    yield { reference, key: reader.key, bytes, sha256: hash('sha256', bytes, 'hex') }
  }
}

/** What of a LoadedBase tells whether its relation names may be referred to. */
interface NamesOfBase {
  readonly chosen: { readonly backup: BackupRecord } | undefined
  readonly usablePacks: ReadonlySet<string>
}

export async function writeRelationNames(
  raw: Uint8Array,
  packs: PackWriter,
  storage: Storage,
  { chosen, usablePacks }: NamesOfBase,
): Promise<FrameReference> {
  const base = chosen?.backup
  const known = base?.relationNames
  if (base !== undefined && known !== undefined && usablePacks.has(known.pack)) {
    if (await holdsNames(storage, base, raw)) return known
  }
  return await addFrame(packs, FRAME_KINDS.relationNames, raw)
}

/** Names that cannot be read any more are written anew. */
async function holdsNames(storage: Storage, base: BackupRecord, raw: Uint8Array): Promise<boolean> {
  if (base.relationNames === undefined) return false
  const pack = makePackCache(storage, base.cluster, `backup ${base.id}`)
  const { pack: id, frame } = base.relationNames
  try {
    return Buffer.from(raw).equals(await (await pack(id)).readFrame(frame))
  } catch (error) {
    if (isFailure(error, 'TM1601') || isFailure(error, 'TM1602')) return false
    throw error
  }
}

export async function addFrame(
  packs: PackWriter,
  kind: FrameKind,
  raw: Uint8Array,
): Promise<FrameReference> {
  if (packs.needsPack) await packs.begin()
  return packs.add(kind, raw, 1, [])
}
