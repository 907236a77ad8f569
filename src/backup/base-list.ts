/**
 * The file list of the backup that is compared with, for looking up entries by path. That of
 * a small cluster is kept as it is; of a large one the pieces are kept compressed and those
 * last used decoded: whoever asks in the order of paths, as a backup does, decodes each once.
 *
 * Invariant: no entry is given that its judge has found lost, or not to be compared with.
 */
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import type { FileEntry, FrameReference } from '../repository/backup-record.ts'
import { decodePiece } from '../repository/file-list.ts'
import type { BasePiece, BasePieces, KnownPiece } from './write-metadata.ts'

/** A list of so many entries stays decoded as a whole: some 40 MB. */
const WHOLE_LIST_ENTRIES = 65_536
/** Of a larger one so many: enough for two or three that go through it at once. */
const KEPT_ENTRIES = 4096

export interface EntryJudge {
  /** False: the repository cannot give it any more. */
  isThere(entry: FileEntry): boolean
  /** Asked of what is there. */
  mayBeCompared(entry: FileEntry): boolean
  /** May a new backup name the pack? */
  mayRefer(pack: string): boolean
}

interface StoredPiece {
  readonly reference: FrameReference
  readonly key: string
  readonly firstPath: string
  /** It has entries that are not given. */
  readonly hides: boolean
  /** Undefined: it stays decoded. */
  readonly compressed: Uint8Array | undefined
}

export class BaseList implements BasePieces {
  readonly #judge: EntryJudge
  readonly #staysDecoded: boolean
  readonly #kept: number
  readonly #pieces: StoredPiece[] = []
  readonly #bySha256 = new Map<string, FrameReference>()
  /** By number of the piece, the last used ones last. */
  readonly #decoded = new Map<number, readonly FileEntry[]>()
  #decodedEntries = 0
  /** Entries that are not there. */
  lost = 0

  /** `entries`: how many there are in all. */
  constructor(
    entries: number,
    judge: EntryJudge,
    limits = { whole: WHOLE_LIST_ENTRIES, kept: KEPT_ENTRIES },
  ) {
    this.#judge = judge
    this.#staysDecoded = entries <= limits.whole
    this.#kept = limits.kept
  }

  /** In the order of the list. */
  add({ key, bytes, reference, sha256 }: BasePiece): void {
    const entries = decodePiece(key, bytes)
    let hides = false
    for (const entry of entries) {
      const isThere = this.#judge.isThere(entry)
      if (!isThere) this.lost++
      if (!isThere || !this.#judge.mayBeCompared(entry)) hides = true
    }
    if (this.#judge.mayRefer(reference.pack)) this.#bySha256.set(sha256, reference)
    const number = this.#pieces.push({
      reference,
      key,
      firstPath: entries[0]?.path ?? '',
      hides,
      compressed: this.#staysDecoded ? undefined : zstdCompressSync(bytes),
    })
    this.#keep(number - 1, entries)
  }

  readonly entries = { get: (path: string): FileEntry | undefined => this.#find(path) }

  readonly bySha256 = { get: (sha256: string) => this.#bySha256.get(sha256) }

  readonly byFirstPath = { get: (path: string): KnownPiece | undefined => this.#findPiece(path) }

  #find(path: string): FileEntry | undefined {
    const number = lastUpTo(
      this.#pieces.length,
      (at) => (this.#pieces[at]?.firstPath ?? '') <= path,
    )
    const piece = this.#pieces[number]
    if (piece === undefined) return undefined
    const entries = this.#decode(number)
    const at = lastUpTo(entries.length, (index) => (entries[index]?.path ?? '') <= path)
    const entry = entries[at]
    if (entry?.path !== path) return undefined
    return piece.hides && !this.#isGiven(entry) ? undefined : entry
  }

  #findPiece(firstPath: string): KnownPiece | undefined {
    const number = lastUpTo(
      this.#pieces.length,
      (at) => (this.#pieces[at]?.firstPath ?? '') <= firstPath,
    )
    const piece = this.#pieces[number]
    if (piece?.firstPath !== firstPath || !this.#judge.mayRefer(piece.reference.pack))
      return undefined
    return { reference: piece.reference, entries: this.#decode(number) }
  }

  #decode(number: number): readonly FileEntry[] {
    const decoded = this.#decoded.get(number)
    if (decoded !== undefined) return decoded
    const { key, compressed } = this.#pieces[number] as StoredPiece
    const entries = decodePiece(key, zstdDecompressSync(compressed as Uint8Array))
    this.#keep(number, entries)
    return entries
  }

  /** The oldest go; the one that was asked for stays. */
  #keep(number: number, entries: readonly FileEntry[]): void {
    this.#decoded.set(number, entries)
    this.#decodedEntries += entries.length
    if (this.#staysDecoded) return
    for (const [oldest, { length }] of this.#decoded) {
      if (this.#decodedEntries <= this.#kept || oldest === number) return
      this.#decoded.delete(oldest)
      this.#decodedEntries -= length
    }
  }

  #isGiven(entry: FileEntry): boolean {
    return this.#judge.isThere(entry) && this.#judge.mayBeCompared(entry)
  }
}

/** The last of `count` numbers that holds; those that hold come first. -1: none. */
function lastUpTo(count: number, holds: (at: number) => boolean): number {
  let [low, high] = [0, count]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (holds(middle)) low = middle + 1
    else high = middle
  }
  return low - 1
}
