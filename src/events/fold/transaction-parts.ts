/**
 * What each transaction has done so far in a segment: per relation its counts. Equal lists of
 * counts are one shape.
 */
import { COUNT_KINDS, type OpenPart, SHAPE_STRIDE, type Shape } from '../segment-index.ts'

export class Part {
  /** SHAPE_STRIDE numbers per relation, in the order of first appearance. */
  readonly counts: number[] = []
  topXid = 0
  first: number
  last: number
  /** Of transactions that touch many relations: relation -> place in `counts`. */
  #places: Map<number, number> | undefined
  #lastPlace = 0

  constructor(offset: number) {
    this.first = offset
    this.last = offset
  }

  add(relation: number, kind: number, count: number): void {
    const at = this.#placeOf(relation) + 1 + kind
    this.counts[at] = (this.counts[at] as number) + count
  }

  /** Of a subtransaction that shared this one's fate. */
  take(other: Part): void {
    this.first = Math.min(this.first, other.first)
    this.last = Math.max(this.last, other.last)
    for (let at = 0; at < other.counts.length; at += SHAPE_STRIDE) {
      const relation = other.counts[at] as number
      for (let kind = 0; kind < COUNT_KINDS; kind++) {
        this.add(relation, kind, other.counts[at + 1 + kind] as number)
      }
    }
  }

  #placeOf(relation: number): number {
    const { counts } = this
    if (counts[this.#lastPlace] === relation) return this.#lastPlace
    const found = this.#places === undefined ? this.#search(relation) : this.#places.get(relation)
    const place = found ?? this.#append(relation)
    this.#lastPlace = place
    return place
  }

  #search(relation: number): number | undefined {
    const { counts } = this
    for (let at = 0; at < counts.length; at += SHAPE_STRIDE) {
      if (counts[at] === relation) return at
    }
    return undefined
  }

  #append(relation: number): number {
    const place = this.counts.length
    this.counts.push(relation, 0, 0, 0, 0, 0, 0)
    if (this.#places !== undefined) this.#places.set(relation, place)
    else if (place > 16 * SHAPE_STRIDE) this.#places = placesOf(this.counts)
    return place
  }
}

function placesOf(counts: readonly number[]): Map<number, number> {
  const places = new Map<number, number>()
  for (let at = 0; at < counts.length; at += SHAPE_STRIDE) places.set(counts[at] as number, at)
  return places
}

export class TransactionParts {
  readonly shapes: Shape[] = []
  readonly #parts = new Map<number, Part>()
  readonly #shapeNumbers = new Map<string, number>()
  /** The last transaction that was asked for. */
  #xid = 0
  #part: Part | undefined

  at(xid: number, offset: number): Part {
    if (xid === this.#xid && this.#part !== undefined) {
      this.#part.last = offset
      return this.#part
    }
    let part = this.#parts.get(xid)
    if (part === undefined) {
      part = new Part(offset)
      this.#parts.set(xid, part)
    }
    part.last = offset
    this.#xid = xid
    this.#part = part
    return part
  }

  find(xid: number): Part | undefined {
    return this.#parts.get(xid)
  }

  /** The part of a transaction that ends, and those of its subtransactions, as one. */
  end(xid: number, subxids: readonly number[]): Part | undefined {
    this.#part = undefined
    let part = this.#remove(xid)
    for (const subxid of subxids) {
      const sub = this.#remove(subxid)
      if (sub === undefined) continue
      if (part === undefined) part = sub
      else part.take(sub)
    }
    return part
  }

  #remove(xid: number): Part | undefined {
    const part = this.#parts.get(xid)
    if (part !== undefined) this.#parts.delete(xid)
    return part
  }

  shapeOf(part: Part): number {
    const shape = inOrder(part.counts)
    const key = shape.join()
    const known = this.#shapeNumbers.get(key)
    if (known !== undefined) return known
    const number = this.shapes.length
    this.shapes.push(shape)
    this.#shapeNumbers.set(key, number)
    return number
  }

  /** What has not ended, by xid. */
  open(): OpenPart[] {
    const open = [...this.#parts].map(([xid, part]) => ({
      xid,
      topXid: part.topXid,
      shape: this.shapeOf(part),
      first: part.first,
      last: part.last,
    }))
    return open.sort((a, b) => a.xid - b.xid)
  }
}

/** By the number of the relation. */
function inOrder(counts: readonly number[]): number[] {
  if (counts.length <= SHAPE_STRIDE) return [...counts]
  const places = Array.from({ length: counts.length / SHAPE_STRIDE }, (_, n) => n * SHAPE_STRIDE)
  places.sort((a, b) => (counts[a] as number) - (counts[b] as number))
  return places.flatMap((place) => counts.slice(place, place + SHAPE_STRIDE))
}
