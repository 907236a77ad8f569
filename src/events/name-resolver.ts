/**
 * The name of a file node as of a moment (docs/design/event-index.md, section 6).
 *
 * Invariant: a name that is given was that of the relation; what is not known has none.
 */
import type { WalPath } from '../archive/load-segment.ts'
import type { Lsn, Timeline } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import type { FoldedEvent, FoldedTransaction, RelationNode } from './folded-event.ts'
import { findSources } from './naming/find-sources.ts'
import { type LearntName, LearntNames } from './naming/learnt-names.ts'
import type { NameSource, SourceName } from './naming/name-source.ts'
import { replacedStorage } from './replaced-storage.ts'

export interface RelationName {
  /** Undefined where only the relation is known. */
  readonly database: string | undefined
  readonly schema: string | undefined
  readonly name: string
  /** relkind: r table, p partitioned, i index, t TOAST, S sequence, m materialized view. */
  readonly kind: string
  /** Of pg_catalog, pg_toast or information_schema, or a TOAST table. */
  readonly isInternal: boolean
  /** Estimated rows when it was read last before the moment; undefined where unknown. */
  readonly rows: number | undefined
  /** Set where the name was read at another moment and may since have changed. */
  readonly asOf: Microseconds | undefined
}

export interface NameResolver {
  /**
   * Feed every event that was read, in order: creations, drops and names are learnt. Best before
   * names are asked for the same event: a transaction tells the names of what it made.
   */
  learn(event: FoldedEvent): void
  /** Undefined: not known for sure; print the number. */
  nameOf(node: RelationNode, at: { timeline: Timeline; lsn: Lsn }): RelationName | undefined
  databaseName(oid: number, at: { timeline: Timeline; lsn: Lsn }): string | undefined
  /** By number alone where nothing is known: below 16384 it is a catalogue. */
  isCatalogue(node: RelationNode): boolean
}

export interface OpenNamesOptions extends WalPath {
  /** Moments that will be asked for; without them every reading on the path counts. */
  readonly from?: Lsn
  readonly to?: Lsn
}

export async function openNameResolver(options: OpenNamesOptions): Promise<NameResolver> {
  const { from, to } = options
  return makeNameResolver(await findSources(options, { from, to }))
}

/** `sources` in the order of their LSNs, all on the path that is read. */
export function makeNameResolver(sources: readonly NameSource[]): NameResolver {
  return new SourceResolver(sources)
}

const FIRST_NORMAL_OBJECT_ID = 16_384
const INTERNAL_SCHEMAS = new Set(['pg_catalog', 'pg_toast', 'information_schema'])

interface Moment {
  readonly lsn: Lsn
}

class SourceResolver implements NameResolver {
  readonly #sources: readonly NameSource[]
  readonly #learnt = new LearntNames()

  constructor(sources: readonly NameSource[]) {
    this.#sources = sources
  }

  learn(event: FoldedEvent): void {
    if (event.kind !== 'transaction') {
      this.#learnt.learn(event)
      return
    }
    const { lsn } = event
    const replaced = (replacedStorage(event) ?? []).map(({ dropped, created }) => ({
      created,
      name: this.#before(dropped, lsn),
    }))
    const swapped = this.#swappedFiles(event)
    this.#learnt.learn(event)
    for (const { created, name } of replaced) {
      if (name !== undefined) this.#learnt.inherit(created, inheritedName(name, lsn))
    }
    for (const { created, name } of swapped) {
      this.#learnt.setName(created, name === undefined ? undefined : inheritedName(name, lsn))
    }
  }

  /** Files that were filled under a passing name, with the names of the tables that got them. */
  #swappedFiles(transaction: FoldedTransaction) {
    const { created, dropped, lsn } = transaction
    return created.flatMap(({ node }) => {
      const oid = this.#learnt.takePassing(node)
      if (oid === undefined) return []
      const tables = dropped.flatMap((one) => {
        const name = one.database === node.database ? this.#before(one, lsn) : undefined
        const isTable = name !== undefined && ['r', 'm'].includes(name.found.kind)
        return isTable ? [{ number: one.number, name }] : []
      })
      // A table that was never rewritten has its oid for its file number.
      const own = tables.find(({ number }) => number === oid) ?? tables[0]
      const isSure = tables.length === 1 || own?.number === oid
      return [{ created: node, name: isSure ? own?.name : undefined }]
    })
  }

  nameOf(node: RelationNode, at: Moment): RelationName | undefined {
    const life = this.#learnt.lifeOf(node, at.lsn)
    const before = this.#before(node, at.lsn)
    // What was dropped is another relation in every later reading.
    const behind = life?.diedAt === undefined ? this.#behind(node, at.lsn) : undefined
    const nearest = before ?? behind
    if (nearest === undefined) return undefined
    const { found } = nearest
    const isSure = before !== undefined && behind !== undefined && isSame(before, behind)
    return {
      database: this.databaseName(node.database, at),
      schema: found.schema,
      name: found.name,
      kind: found.kind,
      isInternal: found.kind === 't' || INTERNAL_SCHEMAS.has(found.schema ?? ''),
      // Read behind, it would be what the moment left.
      rows: before?.found.rows,
      asOf: isSure ? undefined : nearest.at,
    }
  }

  databaseName(oid: number, { lsn }: Moment): string | undefined {
    if (oid === 0) return undefined
    const before = this.#sources.findLast((source) => source.firstLsn <= lsn && knows(source, oid))
    const behind = this.#sources.find((source) => source.firstLsn > lsn && knows(source, oid))
    return (before ?? behind)?.database(oid)
  }

  isCatalogue({ number }: RelationNode): boolean {
    return number < FIRST_NORMAL_OBJECT_ID
  }

  /** The newest name before `lsn`, of this life of the file node. */
  #before(node: RelationNode, lsn: Lsn): Known | undefined {
    const bornAt = this.#learnt.lifeOf(node, lsn)?.bornAt
    const told = this.#learnt.find(node, lsn)
    const source = this.#sources.findLast(
      (one) =>
        one.firstLsn <= lsn &&
        (bornAt === undefined || one.lastLsn >= bornAt) &&
        one.find(node) !== undefined,
    )
    if (told !== undefined && (source === undefined || told.lsn > source.firstLsn)) {
      const schema = told.schema ?? this.#schemaOf(node.database, told.schemaOid, lsn)
      return { found: { ...told.found, schema }, at: told.at }
    }
    return source === undefined ? undefined : knownIn(source, node)
  }

  #behind(node: RelationNode, lsn: Lsn): Known | undefined {
    const source = this.#sources.find((one) => one.firstLsn > lsn && one.find(node) !== undefined)
    return source === undefined ? undefined : knownIn(source, node)
  }

  #schemaOf(database: number, oid: number, lsn: Lsn): string | undefined {
    const before = this.#sources.findLast(
      (one) => one.firstLsn <= lsn && one.schema(database, oid) !== undefined,
    )
    const behind = this.#sources.find((one) => one.schema(database, oid) !== undefined)
    return this.#learnt.schema(database, oid) ?? (before ?? behind)?.schema(database, oid)
  }
}

/** What a relation's new file is called. Its rows may be others now. */
function inheritedName({ found, at }: Known, lsn: Lsn): LearntName {
  const { schema } = found
  return { lsn, at, found: { ...found, rows: undefined }, schema, schemaOid: 0 }
}

interface Known {
  readonly found: SourceName
  readonly at: Microseconds | undefined
}

function knownIn(source: NameSource, node: RelationNode): Known {
  return { found: source.find(node) as SourceName, at: source.at }
}

function knows(source: NameSource, oid: number): boolean {
  return source.database(oid) !== undefined
}

function isSame({ found: one }: Known, { found: other }: Known): boolean {
  return one.name === other.name && one.schema === other.schema && one.kind === other.kind
}
