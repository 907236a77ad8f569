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
import { parseRelationPath } from '../postgres/relation-path.ts'
import type { ContentEntry, FileEntry, PagesEntry } from '../repository/backup-record.ts'
import { PAGE_BYTES } from '../repository/pack-format.ts'
import { LEAF_PAGES } from '../repository/page-map.ts'
import type { ContentPiece, CopyPiece } from './copy/protocol.ts'
import type { Listed, ListedFile } from './list-files.ts'

/** Pages of one piece of a large file: enough work to be worth a message. */
const PIECE_PAGES = 8 * LEAF_PAGES
/** A batch of small files ends at this size, or at this many files. */
const BATCH_BYTES = 8 * 1024 * 1024
const BATCH_FILES = 512

export interface CopyPlan {
  /** Files to read; `file` numbers of the batches index this list. */
  readonly files: readonly PlannedFile[]
  /** Taken over as they are. */
  readonly unchanged: readonly PagesEntry[]
  /** Relation forks without a page: what comes later is in WAL, so there is nothing to read. */
  readonly empty: readonly ContentEntry[]
  readonly batches: readonly (readonly CopyPiece[])[]
  readonly bytesToRead: number
  readonly bytesUnchanged: number
}

export interface PlannedFile {
  readonly listed: ListedFile
  readonly form: 'pages' | 'content'
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
  listed: readonly Listed[],
  base: ReadonlyMap<string, FileEntry>,
  options: CopyPlanOptions,
): CopyPlan {
  const files: PlannedFile[] = []
  const unchanged: PagesEntry[] = []
  const empty: ContentEntry[] = []
  const large: (readonly CopyPiece[])[] = []
  const small: { directory: string; bytes: number; pieces: CopyPiece[] }[] = []
  let bytesToRead = 0
  let bytesUnchanged = 0
  for (const entry of listed) {
    if (entry.kind !== 'file') continue
    if (entry.size === 0 && parseRelationPath(entry.path) !== undefined) {
      empty.push(emptyFile(entry))
      continue
    }
    const earlier = base.get(entry.path)
    const isTrusted = options.trustStatus && options.trustedDevices.has(entry.status.device)
    const isKept = isTrusted && earlier?.kind === 'pages' && !liesIn(earlier, options.oldPacks)
    if (isKept && isUnchanged(entry, earlier)) {
      unchanged.push(earlier.mode === entry.mode ? earlier : { ...earlier, mode: entry.mode })
      bytesUnchanged += entry.size
      continue
    }
    const pieces = planPieces(entry, files.length, earlier, options)
    files.push({ listed: entry, form: pieces[0]?.form ?? 'content', pieces: pieces.length })
    bytesToRead += entry.size
    if (pieces.length > 1) large.push(...pieces.map((piece) => [piece]))
    else addToBatch(small, entry, pieces[0] as CopyPiece)
  }
  return {
    files,
    unchanged,
    empty,
    batches: [...large, ...small.map((batch) => batch.pieces)],
    bytesToRead,
    bytesUnchanged,
  }
}

const SHA256_OF_NOTHING = hash('sha256', '', 'hex')

function emptyFile({ path, mode }: ListedFile): ContentEntry {
  return { kind: 'content', path, mode, size: 0, sha256: SHA256_OF_NOTHING, chunks: [] }
}

/** A batch never spans directories, so that no frame mixes databases. */
function addToBatch(
  batches: { directory: string; bytes: number; pieces: CopyPiece[] }[],
  file: ListedFile,
  piece: CopyPiece,
): void {
  const directory = file.path.slice(0, file.path.lastIndexOf('/') + 1)
  const last = batches.at(-1)
  if (
    last !== undefined &&
    last.directory === directory &&
    last.bytes + file.size <= BATCH_BYTES &&
    last.pieces.length < BATCH_FILES
  ) {
    last.pieces.push(piece)
    last.bytes += file.size
  } else {
    batches.push({ directory, bytes: file.size, pieces: [piece] })
  }
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
