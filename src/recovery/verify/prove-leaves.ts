/**
 * Proves leaves of page maps: that a leaf can be read, covers the pages of its part of the
 * file, names frames and slots that exist, and that the page in each slot has the very
 * fingerprint of the map; and the checksums of those pages.
 */
import { createHash } from 'node:crypto'
import type { FailureMessage } from '../../base/failure.ts'
import { toFailureMessage } from '../../base/failure.ts'
import type { LeafReference } from '../../repository/backup-record.ts'
import { PAGE_BYTES, PAGES_PER_FRAME } from '../../repository/pack-format.ts'
import {
  decodeLeaf,
  type Leaf,
  leafInFrame,
  pageLocations,
  ZERO_RUN,
} from '../../repository/page-map.ts'
import type { BadPage, LeafAnswer, LeafToProve, LostPages } from './messages.ts'
import { isPageFrame, type PrintSource } from './print-source.ts'
import { isDamage } from './prove-pack.ts'

/** Told of one leaf; more of the same says no more. */
const TOLD_PAGES = 32
/** Decoded frames of leaves; neighbours share them. */
const KEPT_FRAMES = 16

interface PageClaim {
  /** Within the leaf. */
  readonly page: number
  readonly slot: number
}

/** What a leaf says of the pages of one pack: frame -> pages. */
type Claims = Map<string, Map<number, PageClaim[]>>

export class LeafProver {
  readonly #source: PrintSource
  readonly #zeroFingerprint: bigint
  readonly #frames = new Map<string, Uint8Array>()

  constructor(source: PrintSource, zeroFingerprint: bigint) {
    this.#source = source
    this.#zeroFingerprint = zeroFingerprint
  }

  forget(): void {
    this.#frames.clear()
  }

  async prove(task: LeafToProve, checksums: boolean): Promise<LeafAnswer> {
    const before = this.#source.bytesRead
    const answer = await this.#prove(task, checksums)
    return { ...answer, read: this.#source.bytesRead - before }
  }

  async #prove(task: LeafToProve, checksums: boolean): Promise<LeafAnswer> {
    const { reference, pages } = task
    let leaf: Leaf
    try {
      leaf = await this.#read(reference)
    } catch (error) {
      if (!isDamage(error)) throw error
      const { pack, frame } = reference
      const failure = toFailureMessage(error)
      return { ...NOTHING, lost: [{ pack, frame, failure, pages }] }
    }
    const proof = new LeafProof(leaf, task)
    if (leaf.pageCount !== pages) {
      proof.isWrong(0, `its map has ${leaf.pageCount} pages where the file has ${pages}`)
      return proof.answer()
    }
    const before = await this.#readProved(task.proved)
    const claims = this.#collectClaims(proof, before)
    for (const [pack, frames] of claims) await this.#provePack(proof, pack, frames, checksums)
    return proof.answer()
  }

  async #read({ pack, frame, slot }: LeafReference): Promise<Leaf> {
    const known = await this.#source.open(pack)
    const name = `${pack}/${frame}`
    let bytes = this.#frames.get(name)
    if (bytes === undefined) {
      bytes = new Uint8Array(await this.#source.readFrame(known, frame))
      this.#frames.set(name, bytes)
      if (this.#frames.size > KEPT_FRAMES) {
        this.#frames.delete(this.#frames.keys().next().value as string)
      }
    }
    return decodeLeaf(known.reader.key, leafInFrame(known.reader.key, bytes, slot))
  }

  /** What is damaged now proves nothing: everything is read. */
  async #readProved(reference: LeafReference | undefined): Promise<Leaf | undefined> {
    if (reference === undefined) return undefined
    try {
      return await this.#read(reference)
    } catch (error) {
      if (!isDamage(error)) throw error
      return undefined
    }
  }

  /** Pages that the earlier leaf has at the same place with the same fingerprint are left out. */
  #collectClaims(proof: LeafProof, before: Leaf | undefined): Claims {
    const { leaf } = proof
    const claims: Claims = new Map()
    const earlier = before === undefined ? undefined : pageLocations(before)
    let page = 0
    for (const location of pageLocations(leaf)) {
      const then = earlier?.next()
      const fingerprint = leaf.fingerprints[page] as bigint
      if (location === undefined) {
        if (fingerprint !== this.#zeroFingerprint) {
          proof.isWrong(page, 'its map says that it is zero, and has another fingerprint')
        }
        proof.compared++
      } else {
        const { pack, frame, slot } = location
        const old = then?.done === false ? then.value : undefined
        const isSame =
          old?.pack === pack &&
          old.frame === frame &&
          old.slot === slot &&
          before?.fingerprints[page] === fingerprint
        const isDamaged = isSame && this.#source.findDamage(pack, frame) !== undefined
        if (!isSame || isDamaged) addClaim(claims, pack, frame, { page, slot })
      }
      page++
    }
    return claims
  }

  async #provePack(
    proof: LeafProof,
    pack: string,
    frames: Map<number, PageClaim[]>,
    checksums: boolean,
  ): Promise<void> {
    const source = this.#source
    for (const [frame, pages] of frames) {
      const failure = source.findDamage(pack, frame)
      if (failure === undefined) continue
      proof.isLost(pack, frame, failure, pages.length)
      frames.delete(frame)
    }
    if (frames.size === 0) return
    try {
      const known = await source.open(pack)
      for (const [frame, pages] of frames) {
        if (isPageFrame(known.reader.frames[frame])) continue
        proof.isWrong(pages[0]?.page ?? 0, `its map names frame ${frame} of ${known.reader.key}`)
        frames.delete(frame)
      }
      const ordinals = [...frames.keys()].sort((a, b) => a - b)
      await source.fill(known, ordinals, (frame, failure) => {
        proof.isLost(pack, frame, failure, frames.get(frame)?.length ?? 0)
        frames.delete(frame)
      })
      for (const [frame, pages] of frames) {
        const entry = known.reader.frames[frame]
        const bad: PageClaim[] = []
        for (const claim of pages) {
          proof.compare(claim, known.prints.fingerprints, frame, entry?.slots ?? 0)
          if (((known.prints.bad[frame] as number) & (1 << claim.slot)) !== 0) bad.push(claim)
        }
        if (!checksums || bad.length === 0) continue
        const raw = await source.readFrame(known, frame)
        for (const { page, slot } of bad) {
          proof.hasBadChecksum({ page, lsn: pageLsn(raw, slot), pack, frame })
        }
      }
    } catch (error) {
      if (!isDamage(error)) throw error
      const count = [...frames.values()].reduce((sum, pages) => sum + pages.length, 0)
      proof.isLost(pack, undefined, toFailureMessage(error), count)
    }
  }
}

const NOTHING = {
  digest: undefined,
  packs: [],
  lost: [],
  wrong: [],
  badChecksums: [],
  compared: 0,
  read: 0,
} as const

/** Collects the answer for one leaf. */
class LeafProof {
  readonly leaf: Leaf
  compared = 0
  readonly #task: LeafToProve
  readonly #lost: LostPages[] = []
  readonly #wrong: { page: number; because: string }[] = []
  readonly #bad: BadPage[] = []

  constructor(leaf: Leaf, task: LeafToProve) {
    this.leaf = leaf
    this.#task = task
  }

  /** `page`: within the leaf. */
  isWrong(page: number, because: string): void {
    if (this.#wrong.length >= TOLD_PAGES) return
    this.#wrong.push({ page: this.#task.firstPage + page, because })
  }

  isLost(pack: string, frame: number | undefined, failure: FailureMessage, pages: number): void {
    this.#lost.push({ pack, frame, failure, pages })
  }

  hasBadChecksum(bad: BadPage): void {
    this.#bad.push({ ...bad, page: this.#task.firstPage + bad.page })
  }

  compare({ page, slot }: PageClaim, prints: BigUint64Array, frame: number, slots: number): void {
    this.compared++
    if (slot >= slots) {
      this.isWrong(page, `its map names slot ${slot} of a frame of ${slots} pages`)
      return
    }
    if (prints[frame * PAGES_PER_FRAME + slot] === this.leaf.fingerprints[page]) return
    this.isWrong(page, 'the page that its map names has another fingerprint')
  }

  answer(): LeafAnswer {
    const { fingerprints, runs, packs } = this.leaf
    const bytes = new Uint8Array(
      fingerprints.buffer,
      fingerprints.byteOffset,
      fingerprints.length * 8,
    )
    const used = new Set(runs.filter(({ pack }) => pack !== ZERO_RUN).map(({ pack }) => pack))
    return {
      digest: createHash('sha256').update(bytes).digest('hex'),
      packs: [...used].map((number) => packs[number] as string),
      lost: this.#lost,
      wrong: this.#wrong,
      badChecksums: this.#bad,
      compared: this.compared,
      read: 0,
    }
  }
}

function addClaim(claims: Claims, pack: string, frame: number, claim: PageClaim): void {
  let frames = claims.get(pack)
  if (frames === undefined) {
    frames = new Map()
    claims.set(pack, frames)
  }
  const pages = frames.get(frame)
  if (pages === undefined) frames.set(frame, [claim])
  else pages.push(claim)
}

/** pd_lsn: two 32-bit halves, the high one first (PageXLogRecPtr). */
function pageLsn(frame: Uint8Array, slot: number): bigint {
  const view = new DataView(frame.buffer, frame.byteOffset + slot * PAGE_BYTES, 8)
  return (BigInt(view.getUint32(0, true)) << 32n) | BigInt(view.getUint32(4, true))
}
