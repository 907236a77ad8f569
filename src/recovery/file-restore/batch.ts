/**
 * Turns a part of the file list into tasks: page runs sorted by pack and frame, so that
 * each frame is read and decoded once, and whole content files. Pure but for the reading
 * of leaves, which the caller passes in.
 *
 * Invariant: the tasks cover every stored page of every file of the batch once.
 */
import type { FileEntry, PagesEntry } from '../../repository/backup-record.ts'
import { PAGE_BYTES, PAGES_PER_FRAME } from '../../repository/pack-format.ts'
import { LEAF_PAGES, type Leaf, ZERO_RUN } from '../../repository/page-map.ts'
import { type BatchFile, RUN_FIELDS, type ToWorker } from './messages.ts'

/** A page task is cut at a frame's end once it has this many pages (8 MiB). */
const TASK_PAGES = 1024
/** Content files are small: so many bytes, or so many files, make a task. */
const TASK_CONTENT_BYTES = 4 * 1024 * 1024
const TASK_FILES = 64

export const BATCH_PAGES = 1024 * 1024
export const BATCH_FILES = 16_384

export interface Batch {
  readonly files: readonly BatchFile[]
  readonly fingerprints: SharedArrayBuffer
  readonly tasks: readonly ToWorker[]
  /** Zero pages of each file, by number; the rest must come back as pieces. */
  readonly zeroPages: Uint32Array
  readonly bytes: number
}

export class BatchBuilder {
  readonly #files: BatchFile[] = []
  readonly #runs = new Map<string, number[]>()
  readonly #leaves: BigUint64Array[] = []
  readonly #zeroPages: number[] = []
  readonly #contents: number[] = []
  readonly #creations: number[] = []
  #pages = 0
  #bytes = 0

  get isFull(): boolean {
    return this.#pages >= BATCH_PAGES || this.#files.length >= BATCH_FILES
  }

  get isEmpty(): boolean {
    return this.#files.length === 0
  }

  /** `path`: where it is written, which is not always the entry's own. */
  addContent(entry: Extract<FileEntry, { kind: 'content' }>, path: string): void {
    const { mode, size, chunks, sha256 } = entry
    this.#contents.push(this.#addFile({ path, mode, size, chunks, sha256 }, 0))
  }

  addEmpty(entry: FileEntry, path: string): void {
    this.#creations.push(this.#addFile({ path, mode: entry.mode, size: 0 }, 0))
  }

  addPages(entry: PagesEntry, leaves: readonly Leaf[]): void {
    const { path, mode, size } = entry
    const pages = leaves.reduce((sum, leaf) => sum + leaf.pageCount, 0)
    if (pages * PAGE_BYTES !== size) throw new Error(`the page map of ${path} has ${pages} pages`)
    const file = this.#addFile({ path, mode, size }, 0)
    let zeroPages = 0
    leaves.forEach((leaf, number) => {
      zeroPages += this.#addLeaf(leaf, file, number * LEAF_PAGES)
    })
    this.#zeroPages[file] = zeroPages
    if (zeroPages === pages) this.#creations.push(file)
  }

  build(): Batch {
    const fingerprints = new SharedArrayBuffer(this.#pages * 8)
    const all = new BigUint64Array(fingerprints)
    let at = 0
    for (const part of this.#leaves) {
      all.set(part, at)
      at += part.length
    }
    const tasks: ToWorker[] = []
    for (const [pack, runs] of this.#runs) tasks.push(...cutRuns(pack, sortRuns(runs)))
    for (const files of this.#cutContents()) tasks.push({ kind: 'content', files })
    for (let from = 0; from < this.#creations.length; from += TASK_FILES) {
      tasks.push({ kind: 'create', files: this.#creations.slice(from, from + TASK_FILES) })
    }
    const zeroPages = Uint32Array.from(this.#zeroPages)
    return { files: this.#files, fingerprints, tasks, zeroPages, bytes: this.#bytes }
  }

  #addFile(file: BatchFile, zeroPages: number): number {
    this.#bytes += file.size
    this.#zeroPages.push(zeroPages)
    return this.#files.push(file) - 1
  }

  #addLeaf(leaf: Leaf, file: number, firstPage: number): number {
    let zeroPages = 0
    for (const run of leaf.runs) {
      if (run.pack === ZERO_RUN) {
        zeroPages += run.count
        continue
      }
      const pack = leaf.packs[run.pack] as string
      let runs = this.#runs.get(pack)
      if (runs === undefined) {
        runs = []
        this.#runs.set(pack, runs)
      }
      const { frame, slot, count, first } = run
      runs.push(frame, slot, count, file, firstPage + first, this.#pages + first)
    }
    this.#leaves.push(leaf.fingerprints)
    this.#pages += leaf.pageCount
    return zeroPages
  }

  *#cutContents(): Generator<number[]> {
    let files: number[] = []
    let bytes = 0
    for (const file of this.#contents) {
      files.push(file)
      bytes += (this.#files[file] as BatchFile).size
      if (bytes >= TASK_CONTENT_BYTES || files.length >= TASK_FILES) {
        yield files
        files = []
        bytes = 0
      }
    }
    if (files.length > 0) yield files
  }
}

/** In order of frame and slot. Runs of a file that was just backed up are sorted already. */
export function sortRuns(runs: readonly number[]): Uint32Array {
  const count = runs.length / RUN_FIELDS
  const order = Uint32Array.from({ length: count }, (_, number) => number)
  const positionOf = (run: number): number =>
    (runs[run * RUN_FIELDS] as number) * PAGES_PER_FRAME + (runs[run * RUN_FIELDS + 1] as number)
  order.sort((a, b) => positionOf(a) - positionOf(b))
  const sorted = new Uint32Array(runs.length)
  order.forEach((run, to) => {
    for (let field = 0; field < RUN_FIELDS; field++) {
      sorted[to * RUN_FIELDS + field] = runs[run * RUN_FIELDS + field] as number
    }
  })
  return sorted
}

/** Cuts sorted runs into tasks of about TASK_PAGES; no frame is in two tasks. */
export function* cutRuns(pack: string, sorted: Uint32Array): Generator<ToWorker> {
  let runs: number[] = []
  let pages = 0
  let lastFrame = -1
  for (let at = 0; at < sorted.length; at += RUN_FIELDS) {
    let [frame, slot, count, file, page, fingerprint] = [
      ...sorted.subarray(at, at + RUN_FIELDS),
    ] as [number, number, number, number, number, number]
    while (count > 0) {
      if (pages >= TASK_PAGES && frame > lastFrame) {
        yield { kind: 'pages', pack, runs: Uint32Array.from(runs) }
        runs = []
        pages = 0
      }
      const inFrame = Math.min(count, PAGES_PER_FRAME - slot)
      runs.push(frame, slot, inFrame, file, page, fingerprint)
      pages += inFrame
      lastFrame = Math.max(lastFrame, frame)
      count -= inFrame
      page += inFrame
      fingerprint += inFrame
      frame += 1
      slot = 0
    }
  }
  if (runs.length > 0) yield { kind: 'pages', pack, runs: Uint32Array.from(runs) }
}
