/**
 * Turns a part of the file list into tasks. Pure.
 *
 * Small files share frames, so their pages are taken in order of the packs, each frame
 * once. A large file is taken in its own order, by one worker as far as possible: two
 * threads that write one file wait for each other in the kernel, and a file that is written
 * with holes is laid out in pieces (docs/design/recovery.md).
 *
 * Invariant: the tasks cover every stored page of every file of the batch once.
 */
import type { FileEntry, PagesEntry } from '../../repository/backup-record.ts'
import { PAGE_BYTES, PAGES_PER_FRAME } from '../../repository/pack-format.ts'
import { LEAF_PAGES, type Leaf, type PageRun, ZERO_RUN } from '../../repository/page-map.ts'
import { proveMap } from './prove-map.ts'
import { type BatchFile, RUN_FIELDS, type ToWorker } from './messages.ts'

/** A task of small files is cut at a frame's end once it has this many pages (8 MiB). */
const TASK_PAGES = 1024
/** Files from here on (8 MiB, one leaf) are written in their own order. */
const LARGE_FILE_PAGES = LEAF_PAGES
/** A large file whose own order would decode each frame more often is taken like small ones. */
const MAX_DECODES = 2
/** Content files are small: so many bytes, or so many files, make a task. */
const TASK_CONTENT_BYTES = 4 * 1024 * 1024
const TASK_FILES = 64

const BATCH_PAGES = 1024 * 1024
const BATCH_FILES = 16_384

export interface Batch {
  readonly files: readonly BatchFile[]
  readonly fingerprints: SharedArrayBuffer
  /** Tasks that one worker should do one after another; the longest come first. */
  readonly queues: readonly (readonly ToWorker[])[]
  /** Zero pages of each file, by number; the rest must come back as pieces. */
  readonly zeroPages: Uint32Array
  readonly bytes: number
}

export class BatchBuilder {
  readonly #files: BatchFile[] = []
  readonly #large: ToWorker[][] = []
  readonly #runs = new Map<string, number[]>()
  readonly #leaves: BigUint64Array[] = []
  readonly #zeroPages: number[] = []
  readonly #contents: number[] = []
  readonly #creations: number[] = []
  readonly #maxPages: number
  #pages = 0
  #bytes = 0

  constructor(maxPages = BATCH_PAGES) {
    this.#maxPages = maxPages
  }

  get isFull(): boolean {
    const isLong = this.#bytes >= this.#maxPages * PAGE_BYTES
    return isLong || this.#files.length >= BATCH_FILES
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
    proveMap(entry, leaves)
    const { path, mode, size } = entry
    const pages = size / PAGE_BYTES
    const zeroPages = leaves.reduce((sum, leaf) => sum + countZeroPages(leaf), 0)
    const inOwnOrder = pages >= LARGE_FILE_PAGES && countDecodes(leaves) <= MAX_DECODES
    const file = this.#addFile({ path, mode, size, direct: inOwnOrder }, zeroPages)
    if (zeroPages === pages) this.#creations.push(file)
    const tasks: ToWorker[] = []
    leaves.forEach((leaf, number) => {
      const place = { file, page: number * LEAF_PAGES, fingerprint: this.#pages }
      if (inOwnOrder) tasks.push(...makeLeafTask(leaf, place))
      else this.#addRuns(leaf, place)
      this.#leaves.push(leaf.fingerprints)
      this.#pages += leaf.pageCount
    })
    if (tasks.length > 0) this.#large.push(tasks)
  }

  build(): Batch {
    const fingerprints = new SharedArrayBuffer(this.#pages * 8)
    const all = new BigUint64Array(fingerprints)
    let at = 0
    for (const part of this.#leaves) {
      all.set(part, at)
      at += part.length
    }
    const queues = this.#large.sort((one, other) => other.length - one.length)
    for (const [pack, runs] of this.#runs) {
      for (const task of cutRuns(pack, sortRuns(runs))) queues.push([task])
    }
    for (const files of this.#cutContents()) queues.push([{ kind: 'content', files }])
    for (let from = 0; from < this.#creations.length; from += TASK_FILES) {
      queues.push([{ kind: 'create', files: this.#creations.slice(from, from + TASK_FILES) }])
    }
    const zeroPages = Uint32Array.from(this.#zeroPages)
    return { files: this.#files, fingerprints, queues, zeroPages, bytes: this.#bytes }
  }

  #addFile(file: BatchFile, zeroPages: number): number {
    this.#bytes += file.size
    this.#zeroPages.push(zeroPages)
    return this.#files.push(file) - 1
  }

  #addRuns(leaf: Leaf, { file, page, fingerprint }: Place): void {
    for (const run of leaf.runs) {
      if (run.pack === ZERO_RUN) continue
      const pack = leaf.packs[run.pack] as string
      let runs = this.#runs.get(pack)
      if (runs === undefined) {
        runs = []
        this.#runs.set(pack, runs)
      }
      cutAtFrames(run, 0, { file, page, fingerprint }, runs)
    }
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

/** Where a leaf begins: its file, its first page there, its first fingerprint. */
interface Place {
  readonly file: number
  readonly page: number
  readonly fingerprint: number
}

function countZeroPages(leaf: Leaf): number {
  return leaf.runs.reduce((sum, run) => sum + (run.pack === ZERO_RUN ? run.count : 0), 0)
}

/** How often a frame is decoded on average when every leaf is restored by itself. */
function countDecodes(leaves: readonly Leaf[]): number {
  const all = new Set<string>()
  let decodes = 0
  for (const { runs, packs } of leaves) {
    const inLeaf = new Set<string>()
    for (const { pack, frame, slot, count } of runs) {
      if (pack === ZERO_RUN) continue
      const last = frame + Math.floor((slot + count - 1) / PAGES_PER_FRAME)
      for (let number = frame; number <= last; number++) inLeaf.add(`${packs[pack]}/${number}`)
    }
    decodes += inLeaf.size
    for (const name of inLeaf) all.add(name)
  }
  return all.size === 0 ? 0 : decodes / all.size
}

/** The task of one leaf in order of its pages; none when all of them are zero. */
function makeLeafTask(leaf: Leaf, place: Place): ToWorker[] {
  const runs: number[] = []
  for (const run of leaf.runs) {
    if (run.pack !== ZERO_RUN) cutAtFrames(run, run.pack, place, runs)
  }
  if (runs.length === 0) return []
  return [{ kind: 'pages', packs: leaf.packs, runs: Uint32Array.from(runs) }]
}

function cutAtFrames(run: PageRun, pack: number, place: Place, to: number[]): void {
  let { frame, slot, count, first } = run
  while (count > 0) {
    const pages = Math.min(count, PAGES_PER_FRAME - slot)
    to.push(pack, frame, slot, pages, place.file, place.page + first, place.fingerprint + first)
    count -= pages
    first += pages
    frame += 1
    slot = 0
  }
}

/** In order of frame and slot. Runs of a file that was just backed up are sorted already. */
function sortRuns(runs: readonly number[]): Uint32Array {
  const count = runs.length / RUN_FIELDS
  const order = Uint32Array.from({ length: count }, (_, number) => number)
  const positionOf = (run: number): number =>
    (runs[run * RUN_FIELDS + 1] as number) * PAGES_PER_FRAME +
    (runs[run * RUN_FIELDS + 2] as number)
  order.sort((a, b) => positionOf(a) - positionOf(b))
  const sorted = new Uint32Array(runs.length)
  order.forEach((run, to) => {
    for (let field = 0; field < RUN_FIELDS; field++) {
      sorted[to * RUN_FIELDS + field] = runs[run * RUN_FIELDS + field] as number
    }
  })
  return sorted
}

/** Cuts sorted runs of one pack into tasks of about TASK_PAGES; no frame is in two tasks. */
function* cutRuns(pack: string, sorted: Uint32Array): Generator<ToWorker> {
  let from = 0
  let pages = 0
  let lastFrame = -1
  for (let at = 0; at < sorted.length; at += RUN_FIELDS) {
    const frame = sorted[at + 1] as number
    if (pages >= TASK_PAGES && frame > lastFrame) {
      yield { kind: 'pages', packs: [pack], runs: sorted.slice(from, at) }
      from = at
      pages = 0
    }
    pages += sorted[at + 3] as number
    lastFrame = frame
  }
  if (from < sorted.length) yield { kind: 'pages', packs: [pack], runs: sorted.slice(from) }
}
