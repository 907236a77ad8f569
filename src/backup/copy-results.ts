/**
 * What the workers answered, by file: columns, and the objects of a file only while its entry
 * is made. A cluster of a million files has as many answers, and of 10 TB two million leaves.
 */
import { BytesColumn, NumberColumn, TextNumbers } from '../base/columns.ts'
import type { LeafReference } from '../repository/backup-record.ts'
import type { BadPage, ContentResult, CopyResult, PagesResult } from './copy/protocol.ts'

const FORMS = ['pages', 'content', 'vanished'] as const
const NONE = 0xffffffff

export class CopyResults {
  /** By file: its last answer; by answer: the one before of the same file. */
  readonly #last: Uint32Array
  readonly #before = new NumberColumn(Uint32Array)
  readonly #forms = new NumberColumn(Uint8Array)
  /** Bytes of content; pages of a piece. */
  readonly #sizes = new NumberColumn(Float64Array)
  readonly #firstPages = new NumberColumn(Uint32Array)
  readonly #parts = new Parts()
  readonly #digests = new BytesColumn()
  readonly #packs = new NumberColumn(Uint32Array)
  readonly #packsEnd = new NumberColumn(Uint32Array)
  readonly #packIds = new TextNumbers()
  /** Few files have any. */
  readonly #badPages = new Map<number, readonly BadPage[]>()
  readonly vanished: number[] = []
  readonly filesWithBadPages = new Set<number>()
  filesWithLostLeaves = 0
  storedPages = 0

  constructor(files: number) {
    this.#last = new Uint32Array(files).fill(NONE)
  }

  add(result: CopyResult): void {
    const number = this.#forms.length
    this.#before.push(this.#last[result.file] as number)
    this.#last[result.file] = number
    this.#forms.push(FORMS.indexOf(result.form))
    if (result.form === 'pages') this.#addPages(number, result)
    else if (result.form === 'content') this.#addContent(result)
    else {
      this.vanished.push(result.file)
      this.#addFacts(0, 0, Buffer.alloc(0), [])
    }
  }

  /** The answers about one file, in any order. */
  of(file: number): CopyResult[] {
    const results: CopyResult[] = []
    for (let at = this.#last[file] as number; at !== NONE; at = this.#before.get(at)) {
      results.push(this.#result(file, at))
    }
    return results
  }

  #addPages(number: number, result: PagesResult): void {
    if (result.badPages.length > 0) {
      this.#badPages.set(number, result.badPages)
      this.filesWithBadPages.add(result.file)
    }
    if (result.lostBaseLeaves > 0) this.filesWithLostLeaves++
    this.storedPages += result.storedPages
    for (const { pack, frame, slot } of result.leaves) {
      this.#parts.add(this.#packIds.numberOf(pack), frame, slot)
    }
    const digests = Buffer.from(result.leafDigests.join(''), 'hex')
    this.#addFacts(result.pages, result.firstPage, digests, result.packs)
  }

  #addContent({ size, sha256, chunks }: ContentResult): void {
    for (const { pack, frame } of chunks) this.#parts.add(this.#packIds.numberOf(pack), frame, 0)
    this.#addFacts(size, 0, Buffer.from(sha256, 'hex'), [])
  }

  #addFacts(size: number, firstPage: number, digests: Uint8Array, packs: readonly string[]): void {
    this.#sizes.push(size)
    this.#firstPages.push(firstPage)
    this.#parts.end()
    this.#digests.push(digests)
    for (const pack of packs) this.#packs.push(this.#packIds.numberOf(pack))
    this.#packsEnd.push(this.#packs.length)
  }

  #result(file: number, at: number): CopyResult {
    const form = FORMS[this.#forms.get(at)] as (typeof FORMS)[number]
    if (form === 'vanished') return { form, file }
    const size = this.#sizes.get(at)
    const leaves = this.#leavesOf(at)
    const digests = this.#digests.get(at).toString('hex')
    if (form === 'content') {
      const chunks = leaves.map(({ pack, frame }) => ({ pack, frame }))
      return { form, file, size, sha256: digests, chunks }
    }
    return {
      form,
      file,
      firstPage: this.#firstPages.get(at),
      pages: size,
      leaves,
      leafDigests: digests.match(/.{64}/g) ?? [],
      packs: this.#packsOf(at),
      badPages: this.#badPages.get(at) ?? [],
      // Counted when they came.
      storedPages: 0,
      lostBaseLeaves: 0,
    }
  }

  #leavesOf(at: number): LeafReference[] {
    return this.#parts.of(at).map(({ pack, frame, slot }) => {
      return { pack: this.#packIds.textOf(pack), frame, slot }
    })
  }

  #packsOf(at: number): string[] {
    const packs: string[] = []
    const from = at === 0 ? 0 : this.#packsEnd.get(at - 1)
    for (let number = from; number < this.#packsEnd.get(at); number++) {
      packs.push(this.#packIds.textOf(this.#packs.get(number)))
    }
    return packs
  }
}

/** Leaves or chunks of each answer. */
class Parts {
  readonly #packs = new NumberColumn(Uint32Array)
  readonly #frames = new NumberColumn(Uint32Array)
  readonly #slots = new NumberColumn(Uint16Array)
  readonly #ends = new NumberColumn(Uint32Array)

  add(pack: number, frame: number, slot: number): void {
    this.#packs.push(pack)
    this.#frames.push(frame)
    this.#slots.push(slot)
  }

  /** Ends the parts of one answer. */
  end(): void {
    this.#ends.push(this.#packs.length)
  }

  of(answer: number): { pack: number; frame: number; slot: number }[] {
    const parts: { pack: number; frame: number; slot: number }[] = []
    const from = answer === 0 ? 0 : this.#ends.get(answer - 1)
    for (let at = from; at < this.#ends.get(answer); at++) {
      const place = { pack: this.#packs.get(at), frame: this.#frames.get(at) }
      parts.push({ ...place, slot: this.#slots.get(at) })
    }
    return parts
  }
}
