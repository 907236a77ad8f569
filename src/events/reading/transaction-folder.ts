/**
 * Folds the indexes of segments, in their order, into whole transactions and other events.
 *
 * Pure. Invariant: each end gives one transaction, with everything that was seen of it and of
 * the subtransactions that its record names; what may be missing is marked.
 */
import type { TimelineHistory } from '../../postgres/history-file.ts'
import { timelineAt } from '../../postgres/history-file.ts'
import { type Lsn, lsn } from '../../postgres/lsn.ts'
import type {
  FoldedEvent,
  FoldedTransaction,
  OtherEvent,
  RelationNode,
  RelationRows,
} from '../folded-event.ts'
import {
  END_COMMIT,
  END_KIND_MASK,
  END_PREPARED,
  type EndColumns,
  NO_SHAPE,
  type OpenPart,
  type PlacedOther,
  POSTGRES_EPOCH_MICROS,
  type SegmentEvents,
} from '../segment-index.ts'
import { precedes } from '../xid.ts'
import { NodeTable, nodeKey, OpenTransaction, rowsOfShape } from './open-transactions.ts'

/** Storage whose record names no transaction: more than that is forgotten, oldest first. */
const MAX_UNOWNED = 10_000

/**
 * Since when all of a transaction is seen: `all`, or all whose xid is not before this one;
 * undefined: not known yet.
 */
export type KnownFrom = 'all' | number | undefined

/** The index at hand, with what is looked up for each of its ends. */
interface Segment {
  readonly base: bigint
  readonly events: SegmentEvents
  readonly nodes: readonly RelationNode[]
  /** By shape; made when first asked for. */
  readonly rows: (readonly RelationRows[] | undefined)[]
}

export class TransactionFolder {
  readonly #path: TimelineHistory
  readonly #nodes = new NodeTable()
  readonly #open = new Map<number, OpenTransaction>()
  readonly #prepared = new Set<number>()
  readonly #unowned = new Map<string, Lsn>()
  #knownFrom: KnownFrom

  constructor(path: TimelineHistory, knownFrom: KnownFrom) {
    this.#path = path
    this.#knownFrom = knownFrom
  }

  /** Transactions that are held. */
  get openCount(): number {
    return this.#open.size
  }

  /** WAL is missing here: what is open, or begins before the next snapshot, is incomplete. */
  forgetWhatIsKnown(): void {
    this.#knownFrom = undefined
  }

  /** `base`: LSN that the offsets count from. */
  *take(base: Lsn, events: SegmentEvents): Generator<FoldedEvent> {
    const nodes = events.relations.map((node) => this.#nodes.intern(node))
    const segment: Segment = { base, events, nodes, rows: [] }
    const { ends, others } = events
    let at = 0
    for (const [n, offset] of ends.offsets.entries()) {
      for (; at < others.length && (others[at] as PlacedOther).offset < offset; at++) {
        yield* this.#takeOther(segment, others[at] as PlacedOther)
      }
      yield this.#takeEnd(segment, ends, n)
    }
    for (; at < others.length; at++) yield* this.#takeOther(segment, others[at] as PlacedOther)
    for (const part of events.open) this.#takeOpen(segment, part)
  }

  #takeOpen({ base, events, nodes }: Segment, part: OpenPart): void {
    const open = this.#openAt(part.xid, base + BigInt(part.first))
    if (part.topXid !== 0) open.topXid = part.topXid
    open.addShape(events.shapes[part.shape] ?? [], events.relations, nodes)
  }

  #openAt(xid: number, firstLsn: bigint): OpenTransaction {
    const known = this.#open.get(xid)
    if (known !== undefined) {
      if (firstLsn < known.firstLsn) known.firstLsn = firstLsn
      return known
    }
    const open = new OpenTransaction(firstLsn, 0)
    this.#open.set(xid, open)
    return open
  }

  #takeEnd(segment: Segment, ends: EndColumns, n: number): FoldedTransaction {
    const { base, nodes } = segment
    const kind = ends.kinds[n] as number
    const xid = ends.xids[n] as number
    const at = lsn(base + BigInt(ends.offsets[n] as number))
    const extra = ends.extras.get(n)
    const dropped = extra?.dropped.map((one) => nodes[one] as RelationNode) ?? NONE
    const seen = this.#seenOf(segment, ends, n, extra?.subxids ?? NONE)
    const created = [...seen.created, ...this.#claim(seen.rows, dropped)]
    this.#prepared.delete(xid)
    return {
      kind: 'transaction',
      outcome: (kind & END_KIND_MASK) === END_COMMIT ? 'committed' : 'aborted',
      isPrepared: (kind & END_PREPARED) !== 0,
      xid,
      topXid: seen.topXid === 0 ? undefined : seen.topXid,
      timeline: timelineAt(this.#path, at),
      lsn: at,
      endLsn: lsn(base + BigInt(ends.endOffsets[n] as number)),
      firstLsn: lsn(seen.firstLsn),
      time: BigInt(ends.times[n] as number) + POSTGRES_EPOCH_MICROS,
      database: databaseOf(extra?.database ?? 0, seen.rows, dropped),
      subxids: extra?.subxids ?? NONE,
      rows: seen.rows,
      created: created.length === 0 ? NONE : created,
      dropped,
      isIncomplete: this.#isIncomplete(xid),
    }
  }

  /** All that was seen of a transaction that ends. */
  #seenOf(segment: Segment, ends: EndColumns, n: number, subxids: readonly number[]): Seen {
    const shape = ends.shapes[n] as number
    const begin = segment.base + BigInt(ends.begins[n] as number)
    const before = this.#closeAll(ends.xids[n] as number, subxids)
    if (before === undefined) {
      const rows = shape === NO_SHAPE ? NONE : shapeRows(segment, shape)
      return { firstLsn: begin, topXid: 0, rows, created: NONE }
    }
    if (shape !== NO_SHAPE) {
      const { shapes, relations } = segment.events
      before.addShape(shapes[shape] ?? [], relations, segment.nodes)
    }
    const { firstLsn, topXid, created } = before
    return { firstLsn, topXid, rows: before.relationRows(), created }
  }

  #closeAll(xid: number, subxids: readonly number[]): OpenTransaction | undefined {
    if (this.#open.size === 0) return undefined
    let whole = this.#close(xid)
    for (const subxid of subxids) {
      const sub = this.#close(subxid)
      if (sub === undefined) continue
      if (whole === undefined) {
        whole = sub
        whole.topXid = 0
      } else whole.take(sub)
    }
    return whole
  }

  #close(xid: number): OpenTransaction | undefined {
    const open = this.#open.get(xid)
    if (open !== undefined) this.#open.delete(xid)
    return open
  }

  /** Storage that was created without an xid, by the transaction that fills or drops it. */
  #claim(rows: readonly RelationRows[], dropped: readonly RelationNode[]) {
    if (this.#unowned.size === 0) return NONE
    return [...rows.map(({ node }) => node), ...dropped].flatMap((node) => {
      const at = this.#unowned.get(nodeKey(node))
      if (at === undefined) return []
      this.#unowned.delete(nodeKey(node))
      return [{ node, lsn: at, isUnlogged: false }]
    })
  }

  #isIncomplete(xid: number): boolean {
    if (this.#knownFrom === 'all') return false
    return this.#knownFrom === undefined || precedes(xid, this.#knownFrom)
  }

  *#takeOther({ base }: Segment, { offset, xid, content }: PlacedOther): Generator<FoldedEvent> {
    const at = lsn(base + BigInt(offset))
    const event: OtherEvent = { lsn: at, timeline: timelineAt(this.#path, at), xid, ...content }
    this.#learn(event)
    yield* this.#endLost(event)
    yield event
  }

  #learn(event: OtherEvent): void {
    switch (event.kind) {
      case 'storage-created':
        this.#takeCreated(event.node, event.xid, event.lsn, event.isUnlogged)
        break
      case 'relation-named': {
        const at = this.#unowned.get(nodeKey(event.node))
        if (at !== undefined) this.#takeCreated(event.node, event.xid, at, false)
        break
      }
      case 'prepared':
        this.#prepared.add(event.xid)
        break
      case 'assigned':
        for (const subxid of event.subxids) {
          const open = this.#open.get(subxid)
          if (open !== undefined) open.topXid = event.xid
        }
        break
      case 'running':
        this.#knownFrom ??= event.nextXid
        break
      case 'checkpoint':
        if (event.isFirst) this.#knownFrom = 'all'
        else if (event.isShutdown) this.#knownFrom ??= Number(event.nextXid & 0xffff_ffffn)
        break
      default:
    }
  }

  #takeCreated(node: RelationNode, xid: number, at: Lsn, isUnlogged: boolean): void {
    const own = this.#nodes.intern(node)
    if (xid !== 0) {
      this.#unowned.delete(nodeKey(node))
      this.#openAt(xid, at).created.push({ node: own, lsn: at, isUnlogged })
      return
    }
    if (isUnlogged) return
    this.#unowned.set(nodeKey(node), at)
    if (this.#unowned.size <= MAX_UNOWNED) return
    for (const oldest of this.#unowned.keys()) {
      this.#unowned.delete(oldest)
      return
    }
  }

  /** A crash writes no aborts: who ran is told by what the server writes next. */
  *#endLost(event: OtherEvent): Generator<FoldedTransaction> {
    if (this.#open.size === 0) return
    const isRestart =
      event.kind === 'end-of-recovery' || (event.kind === 'checkpoint' && event.isShutdown)
    const oldest = event.kind === 'running' ? event.oldestXid : undefined
    if (!isRestart && oldest === undefined) return
    for (const [xid, open] of [...this.#open]) {
      if (this.#prepared.has(xid) || this.#prepared.has(open.topXid)) continue
      const isGone = isRestart ? this.#prepared.size === 0 : precedes(xid, oldest as number)
      if (!isGone) continue
      this.#open.delete(xid)
      yield this.#lost(xid, open, event)
    }
  }

  #lost(xid: number, open: OpenTransaction, { lsn: at, timeline }: OtherEvent): FoldedTransaction {
    const rows = open.relationRows()
    return {
      kind: 'transaction',
      outcome: 'lost',
      isPrepared: false,
      xid,
      topXid: open.topXid === 0 ? undefined : open.topXid,
      timeline,
      lsn: at,
      endLsn: at,
      firstLsn: lsn(open.firstLsn),
      time: undefined,
      database: databaseOf(0, rows, NONE),
      subxids: NONE,
      rows,
      created: open.created,
      dropped: NONE,
      isIncomplete: this.#isIncomplete(xid),
    }
  }
}

interface Seen {
  readonly firstLsn: bigint
  readonly topXid: number
  readonly rows: readonly RelationRows[]
  readonly created: FoldedTransaction['created']
}

const NONE: readonly never[] = []

function shapeRows(segment: Segment, shape: number): readonly RelationRows[] {
  const known = segment.rows[shape]
  if (known !== undefined) return known
  const { shapes, relations } = segment.events
  const rows = rowsOfShape(shapes[shape] ?? [], relations, segment.nodes)
  segment.rows[shape] = rows
  return rows
}

function databaseOf(
  told: number,
  rows: readonly RelationRows[],
  dropped: readonly RelationNode[],
): number | undefined {
  if (told !== 0) return told
  const row = rows.find(({ node }) => node.database !== 0)
  const node = row?.node ?? dropped.find(({ database }) => database !== 0)
  return node?.database
}
