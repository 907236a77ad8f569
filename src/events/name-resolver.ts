/**
 * The name of a file node as of a moment (docs/design/event-index.md, section 6).
 *
 * Invariant: a name that is given was that of the relation; what is not known has none.
 */
import type { WalPath } from '../archive/load-segment.ts'
import type { Lsn, Timeline } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import type { FoldedEvent, RelationNode } from './folded-event.ts'

export interface RelationName {
  /** Undefined where only the relation is known. */
  readonly database: string | undefined
  readonly schema: string | undefined
  readonly name: string
  /** relkind: r table, p partitioned, i index, t TOAST, S sequence, m materialized view. */
  readonly kind: string
  /** Of pg_catalog, pg_toast or information_schema, or a TOAST table. */
  readonly isInternal: boolean
  /** Estimated rows when the name was read; undefined where unknown. */
  readonly rows: number | undefined
  /** Set where the name was read at another moment and may since have changed. */
  readonly asOf: Microseconds | undefined
}

export interface NameResolver {
  /** Feed every event that was read, in order: creations, drops and names are learnt. */
  learn(event: FoldedEvent): void
  /** Undefined: not known for sure; print the number. */
  nameOf(node: RelationNode, at: { timeline: Timeline; lsn: Lsn }): RelationName | undefined
  databaseName(oid: number, at: { timeline: Timeline; lsn: Lsn }): string | undefined
  /** By number alone where nothing is known: below 16384 it is a catalogue. */
  isCatalogue(node: RelationNode): boolean
}

export interface OpenNamesOptions extends WalPath {
  /** Names that are needed begin here; older sources but the last are not read. */
  readonly from?: Lsn
}

export async function openNameResolver(_options: OpenNamesOptions): Promise<NameResolver> {
  throw new Error('names cannot be read yet')
}
