/**
 * Names, births and deaths of file nodes as the WAL tells them, in the order in which it is read.
 *
 * Invariant: what a transaction says counts for others only once it has committed.
 */
import type { Lsn } from '../../postgres/lsn.ts'
import type { Microseconds } from '../../postgres/wal-event.ts'
import type { FoldedEvent, FoldedTransaction, OtherEvent, RelationNode } from '../folded-event.ts'
import type { SourceName } from './name-source.ts'

export interface LearntName {
  readonly lsn: Lsn
  readonly at: Microseconds | undefined
  readonly found: SourceName
  readonly schema: string | undefined
  readonly schemaOid: number
}

export interface NodeLife {
  /** Undefined: before what was read. */
  bornAt: Lsn | undefined
  /** Undefined: it lives, as far as was read. */
  diedAt: Lsn | undefined
}

type Named = Extract<OtherEvent, { kind: 'relation-named' }>
type SchemaNamed = Extract<OtherEvent, { kind: 'schema-named' }>

/** So many of each are remembered; the oldest are forgotten. */
const MAX_NODES = 100_000

export class LearntNames {
  readonly #names = new Map<string, LearntName>()
  readonly #lives = new Map<string, NodeLife>()
  readonly #schemas = new Map<string, string>()
  /** By xid, until it ends. */
  readonly #pending = new Map<number, (Named | SchemaNamed)[]>()
  /** By file: the oid of the relation that it is filled for, to be swapped with. */
  readonly #passing = new Map<string, number>()
  /** Names of files whose transaction has not ended: only it sees them. */
  readonly #unborn = new Map<string, Named>()

  learn(event: FoldedEvent): void {
    switch (event.kind) {
      case 'relation-named':
        this.#wait(event.xid, event)
        if (this.#isNew(event.node)) this.#unborn.set(keyOf(event.node), event)
        this.#notePassing(event)
        break
      case 'schema-named':
        this.#wait(event.xid, event)
        break
      case 'storage-created':
        this.#remember(this.#lives, keyOf(event.node), { bornAt: event.lsn, diedAt: undefined })
        this.#names.delete(keyOf(event.node))
        break
      case 'transaction':
        this.#end(event)
        break
      default:
    }
  }

  /** VACUUM FULL, CLUSTER and rewrites fill pg_temp_<oid> and swap its file (make_new_heap). */
  #notePassing({ node, name }: Named): void {
    const oid = /^pg_temp_(\d+)$/.exec(name)?.[1]
    if (oid !== undefined) this.#remember(this.#passing, keyOf(node), Number(oid))
  }

  /** The oid of the relation that a new file was filled for; asked when its transaction ends. */
  takePassing(node: RelationNode): number | undefined {
    const oid = this.#passing.get(keyOf(node))
    if (oid !== undefined) this.#passing.delete(keyOf(node))
    return oid
  }

  /** The newest name that was told at or before `lsn`. */
  find(node: RelationNode, lsn: Lsn): LearntName | undefined {
    const key = keyOf(node)
    const known = this.#names.get(key)
    if (known !== undefined) return known.lsn <= lsn ? known : undefined
    const unborn = this.#unborn.get(key)
    return unborn === undefined ? undefined : learntOf(unborn, unborn.lsn, undefined)
  }

  /** Undefined: neither birth nor death was read. */
  lifeOf(node: RelationNode, lsn: Lsn): Readonly<NodeLife> | undefined {
    const life = this.#lives.get(keyOf(node))
    if (life?.bornAt === undefined || life.bornAt <= lsn) return life
    return undefined
  }

  schema(database: number, oid: number): string | undefined {
    return this.#schemas.get(`${database}/${oid}`)
  }

  #isNew(node: RelationNode): boolean {
    return this.#lives.get(keyOf(node))?.bornAt !== undefined
  }

  #wait(xid: number, event: Named | SchemaNamed): void {
    const waiting = this.#pending.get(xid)
    if (waiting !== undefined) waiting.push(event)
    else this.#remember(this.#pending, xid, [event])
  }

  #end(transaction: FoldedTransaction): void {
    const { xid, subxids, outcome, lsn, time } = transaction
    const isCommitted = outcome === 'committed'
    const told = [xid, ...subxids].flatMap((one) => this.#pending.get(one) ?? [])
    for (const one of told) if (isCommitted) this.#tell(one, lsn, time)
    for (const one of [xid, ...subxids]) this.#pending.delete(one)
    for (const one of told) {
      if (one.kind === 'relation-named') this.#unborn.delete(keyOf(one.node))
    }
    for (const node of transaction.dropped) {
      const bornAt = this.#lives.get(keyOf(node))?.bornAt
      this.#remember(this.#lives, keyOf(node), { bornAt, diedAt: lsn })
    }
  }

  #tell(event: Named | SchemaNamed, lsn: Lsn, at: Microseconds | undefined): void {
    if (event.kind === 'schema-named') {
      this.#schemas.set(`${event.database}/${event.oid}`, event.name)
      return
    }
    this.#remember(this.#names, keyOf(event.node), learntOf(event, lsn, at))
  }

  /** A relation that gets a new file keeps its name. */
  inherit(created: RelationNode, name: LearntName): void {
    const key = keyOf(created)
    if (!this.#names.has(key)) this.#remember(this.#names, key, name)
  }

  /** What was told of it was not the relation's. */
  setName(node: RelationNode, name: LearntName | undefined): void {
    if (name === undefined) this.#names.delete(keyOf(node))
    else this.#remember(this.#names, keyOf(node), name)
  }

  #remember<K, V>(into: Map<K, V>, key: K, value: V): void {
    into.delete(key)
    into.set(key, value)
    if (into.size <= MAX_NODES) return
    for (const oldest of into.keys()) {
      into.delete(oldest)
      return
    }
  }
}

/** Estimates do not count where a relation has just been made. */
function learntOf(event: Named, lsn: Lsn, at: Microseconds | undefined): LearntName {
  const { name, relationKind: kind, schemaOid } = event
  const schema = schemaOid === PG_CATALOG ? 'pg_catalog' : undefined
  const known = schemaOid === PG_TOAST ? 'pg_toast' : schema
  const found = { schema: known, name, kind, rows: undefined }
  return { lsn, at, found, schema: known, schemaOid }
}

const PG_CATALOG = 11
const PG_TOAST = 99

function keyOf({ tablespace, database, number }: RelationNode): string {
  return `${tablespace}/${database}/${number}`
}
