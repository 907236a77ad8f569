/**
 * Copies the pages of relation files into frames: read, check, compare, compress.
 *
 * Invariant: a page is left out only when all of its bytes are zero, or its fingerprint
 * equals that of the same page of the same file in the backup compared with, where it does
 * not lie in a pack that has grown too old.
 *
 * Hot path: no object per page, one copy only where the pages of a frame are not
 * neighbours in the read buffer.
 */
import { hash } from 'node:crypto'
import { readSync } from 'node:fs'
import { pauseThread } from '../../base/clock.ts'
import { isFailure } from '../../base/failure.ts'
import {
  createPageKernel,
  FINGERPRINT_BYTES,
  PAGE_BAD_CHECKSUM,
  PAGE_UNCHANGED,
  PAGE_ZERO,
  type PageKernel,
  type PageScan,
} from '../../postgres/page-kernel.ts'
import type { LeafReference } from '../../repository/backup-record.ts'
import {
  FRAME_KINDS,
  type FrameExtent,
  PAGE_BYTES,
  PAGES_PER_FRAME,
} from '../../repository/pack-format.ts'
import type { PackWriter } from '../../repository/pack-writer.ts'
import {
  type Leaf,
  LEAF_PAGES,
  type PageLocation,
  type PageRun,
  ZERO_RUN,
} from '../../repository/page-map.ts'
import type { LeafReader } from '../../repository/read-leaves.ts'
import type { LeafStore } from './leaf-store.ts'
import type { BadPage, PagesPiece, PagesResult } from './protocol.ts'

/** One read: large enough to be cheap, small enough to stay in the processor's cache. */
const READ_PAGES = 128
/** Pauses before a page with a wrong checksum is read again: it may have been torn. */
const REREAD_PAUSES_MS = [1, 20, 200]
/** With so many bad pages it is no tearing: more of them are read again without pauses. */
const PATIENT_BAD_PAGES = 256

export interface PageCopierOptions {
  readonly verifyChecksums: boolean
  readonly oldPacks: ReadonlySet<string>
}

/** What is known of one page of the leaf under way. */
const FROM_FRAME = -1
const IS_ZERO = -2

export class PageCopier {
  readonly #kernel: PageKernel = createPageKernel({ readBufferBytes: READ_PAGES * PAGE_BYTES })
  readonly #frame = new Uint8Array(PAGES_PER_FRAME * PAGE_BYTES)
  #frameExtents: FrameExtent[] = []
  #frameSlots = 0
  /** Pages of leaves that wait for the frame under way: leaf, page in leaf. */
  #waiting: { leaf: LeafDraft; page: number }[] = []
  readonly #packs: PackWriter
  readonly #leaves: LeafStore
  readonly #baseLeaves: LeafReader
  readonly #options: PageCopierOptions
  #badPagesSeen = 0
  #lostLeaves = 0

  constructor(
    packs: PackWriter,
    leaves: LeafStore,
    baseLeaves: LeafReader,
    options: PageCopierOptions,
  ) {
    this.#packs = packs
    this.#leaves = leaves
    this.#baseLeaves = baseLeaves
    this.#options = options
  }

  /**
   * Copies one piece of an open file and returns the bytes read. Its leaves are complete
   * after flushFrame().
   */
  async copy(piece: PagesPiece, fd: number, done: (result: PagesResult) => void): Promise<number> {
    const references: LeafReference[] = []
    const leafDigests: string[] = []
    const usedPacks = new Set<string>()
    const badPages: BadPage[] = []
    let pages = 0
    let storedPages = 0
    let lostBaseLeaves = 0
    let waitingLeaves = 1
    const lostBefore = this.#lostLeaves
    const settle = () => {
      waitingLeaves--
      if (waitingLeaves > 0) return
      const { file, firstPage } = piece
      const packs = [...usedPacks]
      const facts = { pages, leafDigests, packs, badPages, storedPages, lostBaseLeaves }
      done({ form: 'pages', file, firstPage, leaves: references, ...facts })
    }
    for (let leafStart = 0; leafStart < piece.pages; leafStart += LEAF_PAGES) {
      const number = leafStart / LEAF_PAGES
      const wanted = Math.min(LEAF_PAGES, piece.pages - leafStart)
      const baseReference = piece.base[number]
      const base = baseReference && (await this.#readBaseLeaf(baseReference))
      const draft = new LeafDraft(base, wanted, this.#options.oldPacks)
      const read = await this.#copyLeaf(piece, fd, leafStart, wanted, draft, badPages)
      pages += read
      if (read > 0) leafDigests.push(draft.digest(read))
      storedPages += draft.storedPages
      const isKept = baseReference !== undefined && !this.#options.oldPacks.has(baseReference.pack)
      if (read > 0 && isKept && draft.equalsBase(read)) {
        references[number] = baseReference
        for (const pack of base?.packs ?? []) usedPacks.add(pack)
      } else if (read > 0) {
        waitingLeaves++
        draft.close(read, (leaf) => {
          for (const pack of leaf.packs) usedPacks.add(pack)
          this.#leaves.add(leaf, (reference) => {
            references[number] = reference
            settle()
          })
        })
      }
      if (read < wanted) break
    }
    lostBaseLeaves = this.#lostLeaves - lostBefore
    settle()
    return pages * PAGE_BYTES
  }

  /** A leaf that is damaged or gone is no base: its pages are stored anew. */
  async #readBaseLeaf(reference: LeafReference): Promise<Leaf | undefined> {
    try {
      return await this.#baseLeaves.read(reference)
    } catch (error) {
      if (!isFailure(error, 'TM1601') && !isFailure(error, 'TM1602')) throw error
      this.#lostLeaves++
      return undefined
    }
  }

  /** Ends the frame under way: called at the end of every batch of files. */
  async flushFrame(): Promise<void> {
    if (this.#frameSlots === 0) return
    const raw = this.#frame.subarray(0, this.#frameSlots * PAGE_BYTES)
    const slots = this.#frameSlots
    const waiting = this.#waiting
    const extents = this.#frameExtents
    this.#frameSlots = 0
    this.#waiting = []
    this.#frameExtents = []
    const { pack, frame } = await this.#add(raw, slots, extents)
    waiting.forEach(({ leaf, page }, slot) => {
      leaf.locate(page, pack, frame, slot)
    })
  }

  async #add(raw: Uint8Array, slots: number, extents: readonly FrameExtent[]) {
    if (this.#packs.needsPack) await this.#packs.begin()
    const reference = this.#packs.add(FRAME_KINDS.pages, raw, slots, extents)
    this.#packs.closeIfFull()
    return reference
  }

  async #copyLeaf(
    piece: PagesPiece,
    fd: number,
    leafStart: number,
    wanted: number,
    draft: LeafDraft,
    badPages: BadPage[],
  ): Promise<number> {
    let read = 0
    while (read < wanted) {
      const pages = Math.min(READ_PAGES, wanted - read)
      const first = piece.firstPage + leafStart + read
      const got = readPages(fd, this.#kernel.readBuffer, first, pages)
      if (got > 0) {
        const scan = this.#scan(piece, fd, first, got, draft.baseFingerprints(read), badPages)
        draft.setFingerprints(read, scan.fingerprints)
        const flags = scan.flags.slice()
        draft.storeOldAgain(read, flags)
        await this.#store(piece, first, read, got, flags, draft)
      }
      read += got
      if (got < pages) break
    }
    return read
  }

  /** Scans what was read; pages with a wrong checksum are read again before they count. */
  #scan(
    piece: PagesPiece,
    fd: number,
    first: number,
    pages: number,
    base: Uint8Array | undefined,
    badPages: BadPage[],
  ): PageScan {
    const { verifyChecksums } = this.#options
    const block = piece.firstBlock + first
    const options =
      base === undefined ? { checksums: verifyChecksums } : { checksums: verifyChecksums, base }
    let scan = this.#kernel.scanPages(0, pages, block, options)
    for (const pause of REREAD_PAUSES_MS) {
      if ((scan.anyFlags & PAGE_BAD_CHECKSUM) === 0) return scan
      if (this.#badPagesSeen < PATIENT_BAD_PAGES) pauseThread(pause)
      readBadPagesAgain(fd, this.#kernel.readBuffer, first, scan)
      scan = this.#kernel.scanPages(0, pages, block, options)
    }
    for (let page = 0; page < pages; page++) {
      const flags = scan.flags[page] as number
      if ((flags & PAGE_BAD_CHECKSUM) === 0) continue
      this.#badPagesSeen++
      const isInBase = base !== undefined && page * FINGERPRINT_BYTES < base.length
      const isNew = isInBase && (flags & PAGE_UNCHANGED) === 0
      badPages.push({ block: block + page, lsn: this.#pageLsn(page), isNew })
    }
    return scan
  }

  /** pd_lsn: two 32-bit halves, the high one first (bufpage.h, PageXLogRecPtr). */
  #pageLsn(page: number): bigint {
    const at = page * PAGE_BYTES
    const view = Buffer.from(this.#kernel.readBuffer.buffer, this.#kernel.readBuffer.byteOffset)
    return (BigInt(view.readUInt32LE(at)) << 32n) | BigInt(view.readUInt32LE(at + 4))
  }

  async #store(
    piece: PagesPiece,
    first: number,
    pageInLeaf: number,
    pages: number,
    flags: Uint8Array,
    draft: LeafDraft,
  ): Promise<void> {
    let page = 0
    while (page < pages) {
      const flag = flags[page] as number
      if ((flag & PAGE_UNCHANGED) !== 0) {
        draft.keep(pageInLeaf + page)
        page++
      } else if ((flag & PAGE_ZERO) !== 0) {
        draft.zero(pageInLeaf + page)
        page++
      } else if (this.#frameSlots === 0 && startsFullFrame(flags, page, pages)) {
        await this.#storeWholeFrame(piece, first, page, pageInLeaf, draft)
        page += PAGES_PER_FRAME
      } else {
        this.#gather(piece, first + page, page, pageInLeaf + page, draft)
        page++
        if (this.#frameSlots === PAGES_PER_FRAME) await this.flushFrame()
      }
    }
  }

  /** Sixteen neighbours: compressed where they lie, without a copy. */
  async #storeWholeFrame(
    piece: PagesPiece,
    first: number,
    page: number,
    pageInLeaf: number,
    draft: LeafDraft,
  ): Promise<void> {
    const at = page * PAGE_BYTES
    const raw = this.#kernel.readBuffer.subarray(at, at + PAGES_PER_FRAME * PAGE_BYTES)
    if (this.#packs.needsPack) await this.#packs.begin()
    const extent = { path: piece.path, first: first + page, count: PAGES_PER_FRAME }
    const { pack, frame } = await this.#add(raw, PAGES_PER_FRAME, [extent])
    draft.storedPages += PAGES_PER_FRAME
    for (let slot = 0; slot < PAGES_PER_FRAME; slot++) {
      draft.locate(pageInLeaf + page + slot, pack, frame, slot)
    }
  }

  #gather(
    piece: PagesPiece,
    pageInFile: number,
    pageInBuffer: number,
    pageInLeaf: number,
    draft: LeafDraft,
  ): void {
    const at = pageInBuffer * PAGE_BYTES
    const bytes = this.#kernel.readBuffer.subarray(at, at + PAGE_BYTES)
    this.#frame.set(bytes, this.#frameSlots * PAGE_BYTES)
    this.#frameSlots++
    draft.await(pageInLeaf)
    this.#waiting.push({ leaf: draft, page: pageInLeaf })
    const last = this.#frameExtents.at(-1)
    if (last !== undefined && last.path === piece.path && last.first + last.count === pageInFile) {
      this.#frameExtents[this.#frameExtents.length - 1] = { ...last, count: last.count + 1 }
    } else {
      this.#frameExtents.push({ path: piece.path, first: pageInFile, count: 1 })
    }
  }
}

function startsFullFrame(flags: Uint8Array, page: number, pages: number): boolean {
  if (page + PAGES_PER_FRAME > pages) return false
  for (let at = page; at < page + PAGES_PER_FRAME; at++) {
    if (((flags[at] as number) & (PAGE_UNCHANGED | PAGE_ZERO)) !== 0) return false
  }
  return true
}

/** Whole pages that were read; fewer at the end of the file. */
function readPages(fd: number, into: Uint8Array, first: number, pages: number): number {
  const wanted = pages * PAGE_BYTES
  let read = 0
  while (read < wanted) {
    const got = readSync(fd, into, read, wanted - read, first * PAGE_BYTES + read)
    if (got === 0) break
    read += got
  }
  return Math.floor(read / PAGE_BYTES)
}

function readBadPagesAgain(fd: number, into: Uint8Array, first: number, scan: PageScan): void {
  scan.flags.forEach((flag, page) => {
    if ((flag & PAGE_BAD_CHECKSUM) === 0) return
    readSync(fd, into, page * PAGE_BYTES, PAGE_BYTES, (first + page) * PAGE_BYTES)
  })
}

/** One leaf under way: where its pages lie, as far as it is known. */
class LeafDraft {
  readonly #base: Leaf | undefined
  /** Runs of the base that lie in packs that are too old. */
  readonly #old: readonly PageRun[]
  readonly #fingerprints: BigUint64Array
  /** Per page: index into #packs, FROM_FRAME while it waits, IS_ZERO. */
  readonly #pack: Int32Array
  readonly #frame: Uint32Array
  readonly #slot: Uint8Array
  readonly #packs: string[] = []
  #kept = 0
  storedPages = 0
  #waiting = 0
  #onComplete: ((leaf: DraftedLeaf) => void) | undefined
  #pageCount = 0
  /** The base's run that the last kept page lies in: pages are kept in ascending order. */
  #baseRun = 0

  constructor(base: Leaf | undefined, pages: number, oldPacks: ReadonlySet<string>) {
    this.#base = base
    this.#old = base === undefined ? [] : base.runs.filter((run) => liesIn(base, run, oldPacks))
    this.#fingerprints = new BigUint64Array(pages)
    this.#pack = new Int32Array(pages)
    this.#frame = new Uint32Array(pages)
    this.#slot = new Uint8Array(pages)
  }

  baseFingerprints(from: number): Uint8Array | undefined {
    const base = this.#base
    if (base === undefined || from >= base.pageCount) return undefined
    const { buffer, byteOffset } = base.fingerprints
    return new Uint8Array(buffer, byteOffset + from * 8, (base.pageCount - from) * 8)
  }

  /** Pages from `from` on that are unchanged and lie in old packs count as changed. */
  storeOldAgain(from: number, flags: Uint8Array): void {
    for (const { first, count } of this.#old) {
      const end = Math.min(first + count - from, flags.length)
      for (let page = Math.max(first - from, 0); page < end; page++) {
        flags[page] = (flags[page] as number) & ~PAGE_UNCHANGED
      }
    }
  }

  setFingerprints(from: number, bytes: Uint8Array): void {
    new Uint8Array(this.#fingerprints.buffer).set(bytes, from * 8)
  }

  /** True when every page is that of the base: the base's leaf serves as it is. */
  equalsBase(pages: number): boolean {
    return this.#base !== undefined && this.#base.pageCount === pages && this.#kept === pages
  }

  digest(pages: number): string {
    return hash('sha256', new Uint8Array(this.#fingerprints.buffer, 0, pages * 8), 'hex')
  }

  keep(page: number): void {
    this.#kept++
    const base = this.#base as Leaf
    let run = base.runs[this.#baseRun] as PageRun
    while (run.first + run.count <= page) {
      this.#baseRun++
      run = base.runs[this.#baseRun] as PageRun
    }
    if (run.pack === ZERO_RUN) {
      this.zero(page)
      return
    }
    const position = run.slot + page - run.first
    const frame = run.frame + Math.floor(position / PAGES_PER_FRAME)
    this.#set(page, base.packs[run.pack] as string, frame, position % PAGES_PER_FRAME)
  }

  zero(page: number): void {
    this.#pack[page] = IS_ZERO
  }

  await(page: number): void {
    this.#pack[page] = FROM_FRAME
    this.#waiting++
    this.storedPages++
  }

  locate(page: number, pack: string, frame: number, slot: number): void {
    if (this.#pack[page] === FROM_FRAME) this.#waiting--
    this.#set(page, pack, frame, slot)
    if (this.#waiting === 0 && this.#onComplete !== undefined) this.#onComplete(this.#drafted())
  }

  /** No more pages come; `complete` is called when the last waiting one is located. */
  close(pageCount: number, complete: (leaf: DraftedLeaf) => void): void {
    this.#pageCount = pageCount
    if (this.#waiting === 0) complete(this.#drafted())
    else this.#onComplete = complete
  }

  #set(page: number, pack: string, frame: number, slot: number): void {
    let number = this.#packs.lastIndexOf(pack)
    if (number < 0) number = this.#packs.push(pack) - 1
    this.#pack[page] = number
    this.#frame[page] = frame
    this.#slot[page] = slot
  }

  #drafted(): DraftedLeaf {
    return {
      pageCount: this.#pageCount,
      packs: this.#packs,
      fingerprints: this.#fingerprints.slice(0, this.#pageCount),
      locationOf: (page) => {
        const number = this.#pack[page] as number
        if (number === IS_ZERO) return undefined
        const pack = this.#packs[number] as string
        return { pack, frame: this.#frame[page] as number, slot: this.#slot[page] as number }
      },
    }
  }
}

function liesIn({ packs }: Leaf, { pack }: PageRun, some: ReadonlySet<string>): boolean {
  return pack !== ZERO_RUN && some.has(packs[pack] as string)
}

export interface DraftedLeaf {
  readonly pageCount: number
  readonly packs: readonly string[]
  readonly fingerprints: BigUint64Array
  /** Undefined: a zero page. */
  locationOf(page: number): PageLocation | undefined
}
