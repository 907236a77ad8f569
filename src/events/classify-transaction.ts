/**
 * What a transaction did, in the words of a person who looks for an accident: dropped, truncated,
 * rewritten, deleted, updated. Pure.
 *
 * Invariant: nothing is said of a relation that the WAL and the names do not prove. WAL has no
 * TRUNCATE (docs/design/event-index.md, section 5): a file that went is `dropped` only where no
 * new file can be its successor, `truncated` or `rewritten` only where its successor is known (by
 * its name, or by what happened in pg_class: replaced-storage.ts), and `gone` otherwise.
 */
import type { FoldedTransaction, RelationNode, RelationRows } from './folded-event.ts'
import type { RelationName } from './name-resolver.ts'
import { replacedStorage } from './replaced-storage.ts'

export type StorageEffect = 'dropped' | 'truncated' | 'rewritten' | 'gone'

export interface RelationEffect {
  readonly node: RelationNode
  readonly name: RelationName | undefined
  /** What happened to its file; undefined: rows only. */
  readonly storage: StorageEffect | undefined
  readonly inserted: number
  /** Rows that moved to another partition included. */
  readonly updated: number
  readonly deleted: number
  /** Deleted and updated rows as a part of the rows that the table had; undefined: not known. */
  readonly share: number | undefined
}

export interface ClassifiedTransaction {
  /** Tables and their like that users made, those whose storage went first. */
  readonly relations: readonly RelationEffect[]
  /** Sums over user tables; a row that moved counts as updated, as in SQL. */
  readonly inserted: number
  readonly updated: number
  readonly deleted: number
  /** Rows of catalogues and TOAST tables. */
  readonly internalRows: number
}

export interface ClassifyNames {
  nameOf(node: RelationNode): RelationName | undefined
  isCatalogue(node: RelationNode): boolean
  /** Oids that a logical TRUNCATE of this transaction named. */
  readonly truncatedOids: readonly number[]
}

export function classifyTransaction(
  transaction: FoldedTransaction,
  names: ClassifyNames,
): ClassifiedTransaction {
  const entries = collectEntries(transaction, names)
  const successors = entries.filter(({ isCreated, isDropped }) => isCreated && !isDropped)
  const pairs = new Map(
    replacedStorage(transaction)?.map(({ dropped, created }) => [keyOf(dropped), keyOf(created)]),
  )
  const relations: RelationEffect[] = []
  let internalRows = 0
  for (const entry of entries) {
    const { rows } = entry
    if (entry.isInternal) {
      internalRows += rows === undefined ? 0 : rows.inserted + rows.updated + rows.deleted
      continue
    }
    const successor = pairs.get(keyOf(entry.node))
    const storage = storageOf(entry, successors, successor, names.truncatedOids)
    const effect = effectOf(entry, storage)
    if (storage !== undefined || effect.inserted + effect.updated + effect.deleted > 0) {
      relations.push(effect)
    }
  }
  return { relations: relations.sort(bySeverity), internalRows, ...sumRows(entries) }
}

/** A file node of the transaction with all that is known of it. */
interface Entry {
  readonly node: RelationNode
  readonly name: RelationName | undefined
  readonly rows: RelationRows | undefined
  readonly isDropped: boolean
  readonly isCreated: boolean
  /** Of a new file: WAL does not tell what is in it. */
  readonly isUnlogged: boolean
  /** Of a catalogue, or a TOAST table or its index. */
  readonly isInternal: boolean
}

function collectEntries(transaction: FoldedTransaction, names: ClassifyNames): Entry[] {
  const rows = new Map(transaction.rows.map((one) => [keyOf(one.node), one]))
  const dropped = new Set(transaction.dropped.map(keyOf))
  const created = new Set(transaction.created.map(({ node }) => keyOf(node)))
  const unlogged = transaction.created.filter(({ isUnlogged }) => isUnlogged)
  const unloggedKeys = new Set(unlogged.map(({ node }) => keyOf(node)))
  const nodes = new Map<string, RelationNode>()
  for (const node of transaction.dropped) nodes.set(keyOf(node), node)
  for (const { node } of transaction.rows) nodes.set(keyOf(node), node)
  for (const { node } of transaction.created) nodes.set(keyOf(node), node)
  return [...nodes].map(([key, node]) => {
    const name = names.nameOf(node)
    const own = rows.get(key)
    const isInternal = name?.isInternal ?? (names.isCatalogue(node) || own?.isToast === true)
    const isUnlogged = unloggedKeys.has(key)
    const isDropped = dropped.has(key)
    const states = { isDropped, isCreated: created.has(key), isUnlogged, isInternal }
    return { node, name, rows: own, ...states }
  })
}

export function keyOf({ tablespace, database, number }: RelationNode): string {
  return `${tablespace}/${database}/${number}`
}

/**
 * A file that was made and dropped in the same transaction was nobody's. `successor`: the key of
 * the file that took its place, where the records prove it.
 */
function storageOf(
  entry: Entry,
  successors: readonly Entry[],
  successor: string | undefined,
  truncatedOids: readonly number[],
): StorageEffect | undefined {
  if (!entry.isDropped || entry.isCreated) return undefined
  // A table that was never rewritten has its oid for its file number.
  if (truncatedOids.includes(entry.node.number)) return 'truncated'
  const proved = successors.find(({ node }) => keyOf(node) === successor)
  const found = proved ?? successors.find((one) => isSame(entry.name, one.name))
  if (found !== undefined) return replacedBy(entry, found)
  const passing = successors.find(({ name }) => isPassing(name))
  if (passing !== undefined && entry.node.database === passing.node.database) return 'rewritten'
  return successors.some((one) => couldSucceed(entry, one)) ? 'gone' : 'dropped'
}

/**
 * Indexes are never empty, and sequences and materialized views are not truncated. Of an unlogged
 * table it is not known, and nothing is lost: recovery empties it.
 */
function replacedBy({ name, node }: Entry, successor: Entry): StorageEffect {
  const { rows, isUnlogged } = successor
  if (isUnlogged || node.tablespace !== successor.node.tablespace) return 'rewritten'
  if (rows !== undefined && rows.inserted + rows.pagesLogged + rows.updated > 0) return 'rewritten'
  if (name === undefined) return 'gone'
  return name.kind === 'r' ? 'truncated' : 'rewritten'
}

/** What VACUUM FULL, CLUSTER and rewrites fill, to swap it then (make_new_heap). */
function isPassing(name: RelationName | undefined): boolean {
  return name !== undefined && /^pg_temp_\d+$/.test(name.name)
}

function isSame(one: RelationName | undefined, other: RelationName | undefined): boolean {
  if (one === undefined || other === undefined || one.schema === undefined) return false
  const { database, schema, name, kind } = one
  return (
    other.name === name &&
    other.schema === schema &&
    other.database === database &&
    other.kind === kind
  )
}

/** A new file whose name is known and another's cannot be the successor. */
function couldSucceed(entry: Entry, successor: Entry): boolean {
  if (successor.node.database !== entry.node.database || successor.isInternal) return false
  if (entry.name === undefined || successor.name === undefined) return true
  // A name that was read at another moment may be that of before or after a renaming.
  const isSure = entry.name.asOf === undefined && successor.name.asOf === undefined
  return entry.name.kind === successor.name.kind && !isSure
}

function effectOf(entry: Entry, storage: StorageEffect | undefined): RelationEffect {
  const { node, name, rows } = entry
  const updated = (rows?.updated ?? 0) + (rows?.movedAway ?? 0)
  const deleted = rows?.deleted ?? 0
  const known = name?.rows
  const isKnown = known !== undefined && known > 0
  const share = isKnown ? Math.min(1, (updated + deleted) / known) : undefined
  return { node, name, storage, inserted: rows?.inserted ?? 0, updated, deleted, share }
}

const SEVERITY: Readonly<Record<StorageEffect, number>> = {
  dropped: 0,
  gone: 1,
  truncated: 2,
  rewritten: 3,
}
/** Tables before what belongs to them. */
const KINDS = 'rpmSiIt'

function bySeverity(one: RelationEffect, other: RelationEffect): number {
  const severity = ({ storage }: RelationEffect): number =>
    storage === undefined ? Object.keys(SEVERITY).length : SEVERITY[storage]
  const kind = ({ name }: RelationEffect): number =>
    name === undefined ? KINDS.length : KINDS.indexOf(name.kind)
  const changed = ({ deleted, updated, inserted }: RelationEffect): number =>
    (deleted + updated) * 1e6 + inserted
  return severity(one) - severity(other) || kind(one) - kind(other) || changed(other) - changed(one)
}

/** A row that moved is one update, and inserted where it went. */
function sumRows(
  entries: readonly Entry[],
): Pick<ClassifiedTransaction, 'inserted' | 'updated' | 'deleted'> {
  const sum = { inserted: 0, updated: 0, deleted: 0 }
  for (const { rows, isInternal } of entries) {
    if (rows === undefined || isInternal) continue
    sum.inserted += rows.inserted - rows.movedAway
    sum.updated += rows.updated + rows.movedAway
    sum.deleted += rows.deleted
  }
  return sum
}
