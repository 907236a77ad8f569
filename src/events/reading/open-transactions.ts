/**
 * What transactions that have not ended yet did in the segments that were read: all that a
 * reader holds in memory.
 */
import type { CreatedStorage, RelationNode, RelationRows } from '../folded-event.ts'
import {
  COUNT_KINDS,
  DELETED,
  INSERTED,
  type IndexedRelation,
  MOVED_AWAY,
  PAGES_LOGGED,
  SHAPE_STRIDE,
  type Shape,
  TAKEN_BACK,
  UPDATED,
} from '../segment-index.ts'

/** One object per file node, so that they can be keys. */
export class NodeTable {
  readonly #nodes = new Map<string, RelationNode>()

  intern({ tablespace, database, number }: RelationNode): RelationNode {
    const key = nodeKey({ tablespace, database, number })
    const known = this.#nodes.get(key)
    if (known !== undefined) return known
    const node = { tablespace, database, number }
    this.#nodes.set(key, node)
    return node
  }
}

export function nodeKey({ tablespace, database, number }: RelationNode): string {
  return `${tablespace}/${database}/${number}`
}

interface OpenRows {
  readonly counts: number[]
  isToast: boolean
}

export class OpenTransaction {
  firstLsn: bigint
  topXid: number
  readonly rows = new Map<RelationNode, OpenRows>()
  created: CreatedStorage[] = []

  constructor(firstLsn: bigint, topXid: number) {
    this.firstLsn = firstLsn
    this.topXid = topXid
  }

  addShape(shape: Shape, relations: readonly IndexedRelation[], nodes: readonly RelationNode[]) {
    for (let at = 0; at < shape.length; at += SHAPE_STRIDE) {
      const relation = shape[at] as number
      const rows = this.#rowsOf(nodes[relation] as RelationNode)
      if (relations[relation]?.isToast === true) rows.isToast = true
      for (let kind = 0; kind < COUNT_KINDS; kind++) {
        rows.counts[kind] = (rows.counts[kind] as number) + (shape[at + 1 + kind] as number)
      }
    }
  }

  /** Of a subtransaction that shared this one's fate. */
  take(other: OpenTransaction): void {
    if (other.firstLsn < this.firstLsn) this.firstLsn = other.firstLsn
    this.created.push(...other.created)
    for (const [node, { counts, isToast }] of other.rows) {
      const rows = this.#rowsOf(node)
      rows.isToast ||= isToast
      for (const [kind, count] of counts.entries()) {
        rows.counts[kind] = (rows.counts[kind] as number) + count
      }
    }
  }

  relationRows(): RelationRows[] {
    return [...this.rows].map(([node, { counts, isToast }]) => rowsOf(node, counts, 0, isToast))
  }

  #rowsOf(node: RelationNode): OpenRows {
    const known = this.rows.get(node)
    if (known !== undefined) return known
    const rows = { counts: new Array<number>(COUNT_KINDS).fill(0), isToast: false }
    this.rows.set(node, rows)
    return rows
  }
}

function rowsOf(
  node: RelationNode,
  counts: readonly number[],
  at: number,
  isToast: boolean,
): RelationRows {
  const count = (kind: number): number => counts[at + kind] as number
  return {
    node,
    inserted: count(INSERTED) - count(TAKEN_BACK),
    updated: count(UPDATED),
    deleted: count(DELETED),
    movedAway: count(MOVED_AWAY),
    pagesLogged: count(PAGES_LOGGED),
    isToast,
  }
}

/** The rows of a transaction that lies in one segment. */
export function rowsOfShape(
  shape: Shape,
  relations: readonly IndexedRelation[],
  nodes: readonly RelationNode[],
): readonly RelationRows[] {
  const rows: RelationRows[] = []
  for (let at = 0; at < shape.length; at += SHAPE_STRIDE) {
    const relation = shape[at] as number
    const isToast = relations[relation]?.isToast === true
    rows.push(rowsOf(nodes[relation] as RelationNode, shape, at + 1, isToast))
  }
  return rows
}
