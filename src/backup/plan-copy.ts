/**
 * Plans what is read: which files are taken over unread from the backup compared with,
 * which are read, and in which batches. Pure.
 *
 * Invariant: a file is taken over unread only when its status proves that nobody has
 * written to it since it was read for that backup: same device, inode, size and both
 * times, times that were settled when it was read, and the same boot of the same host.
 * Anything unknown is read.
 */
import { hash } from 'node:crypto'
import { NumberColumn } from '../base/columns.ts'
import { parseRelationPath } from '../postgres/relation-path.ts'
import type { ContentEntry, FileEntry, PagesEntry } from '../repository/backup-record.ts'
import { PAGE_BYTES } from '../repository/pack-format.ts'
import { LEAF_PAGES } from '../repository/page-map.ts'
import type { ContentPiece, CopyPiece } from './copy/protocol.ts'
import type { ListedEntries } from './file-table.ts'
import type { ListedFile } from './list-files.ts'
import type { Lookup } from './write-metadata.ts'

/** Pages of one piece of a large file: enough work to be worth a message. */
const PIECE_PAGES = 8 * LEAF_PAGES
/** A batch of small files ends at this size, or at this many files. */
const BATCH_BYTES = 8 * 1024 * 1024
const BATCH_FILES = 512

export interface CopyPlan {
  /** Files to read; `file` numbers of the batches are below it. */
  readonly files: number
  readonly filesUnchanged: number
  readonly bytesToRead: number
  readonly bytesUnchanged: number
  /** Made while they are taken. */
  readonly batches: Iterable<readonly CopyPiece[]>
  /** What becomes of the entry of this number in the listing; undefined for no file. */
  fateOf(index: number): Fate | undefined
  file(number: number): PlannedFile
}

/**
 * `read`: it is file number `file`. `unchanged`: its entry in the backup compared with is taken
 * over. `empty`: a relation fork without a page: what comes later is in WAL.
 */
export type Fate =
  | { readonly kind: 'read'; readonly file: number }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'empty' }

export interface PlannedFile {
  readonly listed: ListedFile
  /** So many answers come about it. */
  readonly pieces: number
}

export interface CopyPlanOptions {
  /** May files be taken over by their status? Same boot, no `--full`, no overdue read. */
  readonly trustStatus: boolean
  /** Devices whose file times are those of this kernel: no network file systems. */
  readonly trustedDevices: ReadonlySet<bigint>
  /** Of a segment of a relation fork: 131072 unless the server was built otherwise. */
  readonly relationSegmentBlocks: number
  /** Files with anything in these are read, whatever their status: it is stored again. */
  readonly oldPacks?: ReadonlySet<string>
}

/** `base` are the entries of the backup compared with, by path. */
export function planCopy(
  listed: ListedEntries,
  base: Lookup<FileEntry>,
  options: CopyPlanOptions,
): CopyPlan {
  const plan = new Plan(listed, base, options)
  for (let index = 0; index < listed.length; index++) plan.add(index)
  return plan
}

const FATES = [undefined, 'unchanged', 'empty', 'read'] as const

/** Columns: a cluster may have a million files. */
class Plan implements CopyPlan {
  readonly #listed: ListedEntries
  readonly #base: Lookup<FileEntry>
  readonly #options: CopyPlanOptions
  /** By entry of the listing: index of its fate; number of its file. */
  readonly #fates: Uint8Array
  readonly #numbers: Uint32Array
  /** By file: its entry in the listing. */
  readonly #indexes = new NumberColumn(Uint32Array)
  readonly #large: number[] = []
  readonly #small = new SmallFiles()
  filesUnchanged = 0
  bytesToRead = 0
  bytesUnchanged = 0

  constructor(listed: ListedEntries, base: Lookup<FileEntry>, options: CopyPlanOptions) {
    this.#listed = listed
    this.#base = base
    this.#options = options
    this.#fates = new Uint8Array(listed.length)
    this.#numbers = new Uint32Array(listed.length)
  }

  get files(): number {
    return this.#indexes.length
  }

  add(index: number): void {
    const entry = this.#listed.at(index)
    if (entry?.kind !== 'file') return
    const fate = this.#judge(entry)
    this.#fates[index] = FATES.indexOf(fate)
    if (fate === 'unchanged') {
      this.filesUnchanged++
      this.bytesUnchanged += entry.size
    }
    if (fate !== 'read') return
    const file = this.#indexes.length
    this.#indexes.push(index)
    this.#numbers[index] = file
    this.bytesToRead += entry.size
    if (countPieces(entry) > 1) this.#large.push(file)
    else this.#small.add(file, entry)
  }

  fateOf(index: number): Fate | undefined {
    const kind = FATES[this.#fates[index] as number]
    if (kind === undefined) return undefined
    return kind === 'read' ? { kind, file: this.#numbers[index] as number } : { kind }
  }

  file(number: number): PlannedFile {
    const listed = this.#listed.at(this.#indexes.get(number)) as ListedFile
    return { listed, pieces: countPieces(listed) }
  }

  /** Pieces of large files first: the longest work must not begin last. */
  get batches(): Iterable<readonly CopyPiece[]> {
    return this.#makeBatches()
  }

  *#makeBatches(): Generator<readonly CopyPiece[]> {
    for (const file of this.#large) for (const piece of this.#piecesOf(file)) yield [piece]
    for (const files of this.#small.batches()) {
      yield files.flatMap((file) => this.#piecesOf(file))
    }
  }

  #piecesOf(file: number): readonly CopyPiece[] {
    const { listed } = this.file(file)
    return planPieces(listed, file, this.#base.get(listed.path), this.#options)
  }

  #judge(entry: ListedFile): 'unchanged' | 'empty' | 'read' {
    const { trustStatus, trustedDevices } = this.#options
    if (entry.size === 0 && parseRelationPath(entry.path) !== undefined) return 'empty'
    if (!trustStatus || !trustedDevices.has(entry.status.device)) return 'read'
    const earlier = this.#base.get(entry.path)
    if (earlier?.kind !== 'pages' || liesIn(earlier, this.#options.oldPacks)) return 'read'
    return isUnchanged(entry, earlier) ? 'unchanged' : 'read'
  }
}

const SHA256_OF_NOTHING = hash('sha256', '', 'hex')

/** The entry of a relation fork without a page. */
export function emptyFile({ path, mode }: ListedFile): ContentEntry {
  return { kind: 'content', path, mode, size: 0, sha256: SHA256_OF_NOTHING, chunks: [] }
}

/** Batches of small files, which never span directories, so that no frame mixes databases. */
class SmallFiles {
  readonly #files = new NumberColumn(Uint32Array)
  /** Where each batch begins. */
  readonly #begins: number[] = []
  #directory: string | undefined
  #bytes = 0
  #count = 0

  add(file: number, { path, size }: ListedFile): void {
    const directory = path.slice(0, path.lastIndexOf('/') + 1)
    const fits = this.#bytes + size <= BATCH_BYTES && this.#count < BATCH_FILES
    if (this.#directory !== directory || !fits) {
      this.#begins.push(this.#files.length)
      this.#directory = directory
      this.#bytes = 0
      this.#count = 0
    }
    this.#files.push(file)
    this.#bytes += size
    this.#count++
  }

  *batches(): Generator<number[]> {
    for (const [number, begin] of this.#begins.entries()) {
      const end = this.#begins[number + 1] ?? this.#files.length
      yield Array.from({ length: end - begin }, (_, at) => this.#files.get(begin + at))
    }
  }
}

function countPieces({ path, size }: ListedFile): number {
  if (parseRelationPath(path) === undefined || size % PAGE_BYTES !== 0) return 1
  return Math.max(1, Math.ceil(size / (PIECE_PAGES * PAGE_BYTES)))
}

function planPieces(
  listed: ListedFile,
  file: number,
  earlier: FileEntry | undefined,
  options: CopyPlanOptions,
): readonly CopyPiece[] {
  const { path, location, size } = listed
  const relation = parseRelationPath(path)
  if (relation === undefined || size % PAGE_BYTES !== 0 || size === 0) {
    const base = earlier?.kind === 'content' ? earlier : undefined
    return [{ form: 'content', file, location, path, base: base && contentOf(base) }]
  }
  const leaves = earlier?.kind === 'pages' ? earlier.leaves : []
  const pages = size / PAGE_BYTES
  const firstBlock = relation.segment * options.relationSegmentBlocks
  const pieces: CopyPiece[] = []
  for (let firstPage = 0; firstPage < pages; firstPage += PIECE_PAGES) {
    const count = Math.min(PIECE_PAGES, pages - firstPage)
    const leaf = firstPage / LEAF_PAGES
    const base = leaves.slice(leaf, leaf + PIECE_PAGES / LEAF_PAGES)
    pieces.push({ form: 'pages', file, location, path, firstPage, pages: count, firstBlock, base })
  }
  return pieces
}

function contentOf({ size, sha256, chunks }: ContentEntry): ContentPiece['base'] {
  return { size, sha256, chunks }
}

/**
 * Relation forks only: their times move with every write of the server, while files that
 * are no pages are small and always read. VM, FSM and init forks are forks like others
 * here: the status of the file tells of every write, WAL-logged or not.
 */
function isUnchanged(listed: ListedFile, earlier: PagesEntry): boolean {
  const { seen } = earlier
  return (
    seen.settled &&
    listed.size === earlier.size &&
    listed.status.device === seen.device &&
    listed.status.inode === seen.inode &&
    listed.status.modifiedNs === seen.modifiedNs &&
    listed.status.changedNs === seen.changedNs
  )
}

function liesIn({ packs, leaves }: PagesEntry, some?: ReadonlySet<string>): boolean {
  if (some === undefined || some.size === 0) return false
  return packs.some((pack) => some.has(pack)) || leaves.some(({ pack }) => some.has(pack))
}

/** A time within two seconds of the look may be that of a write still to come (racy). */
const SETTLED_AFTER_NS = 2_000_000_000n

export function isSettled(file: ListedFile, lookedAtNs: bigint): boolean {
  const latest =
    file.status.modifiedNs > file.status.changedNs ? file.status.modifiedNs : file.status.changedNs
  return lookedAtNs - latest >= SETTLED_AFTER_NS
}
