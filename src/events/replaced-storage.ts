/**
 * Which new file of a transaction took the place of which old one. Pure; needs no names.
 *
 * TRUNCATE, REINDEX and ALTER TABLE … SET TABLESPACE give a relation a new file with one update
 * of pg_class, and nothing else changes there (RelationSetNewRelfilenumber). Files are made in the
 * order in which old ones are put down for removal, and the commit lists those in the reverse
 * order (PendingRelDelete is a stack), so they pair. VACUUM FULL, CLUSTER and rewrites make and
 * drop a passing relation, which inserts into pg_class and deletes from it: no pairs are told then.
 */
import type { FoldedTransaction, RelationNode, RelationRows } from './folded-event.ts'

export interface ReplacedStorage {
  readonly dropped: RelationNode
  readonly created: RelationNode
  /** Nothing was put into the new file: of a table, TRUNCATE. False where WAL does not tell. */
  readonly isEmpty: boolean
}

const PG_CLASS = 1259

/** Undefined: it cannot be told, or nothing was replaced. */
export function replacedStorage(
  transaction: FoldedTransaction,
): readonly ReplacedStorage[] | undefined {
  const { created, dropped, rows, outcome, isIncomplete } = transaction
  const count = created.length
  if (outcome !== 'committed' || isIncomplete || count === 0) return undefined
  if (count !== dropped.length) return undefined
  const catalogue = rows.find(({ node }) => node.number === PG_CLASS && node.database !== 0)
  const isReplacement =
    catalogue !== undefined &&
    catalogue.inserted === 0 &&
    catalogue.deleted === 0 &&
    catalogue.updated >= count
  if (!isReplacement) return undefined
  const inOrder = created.toSorted((a, b) => (a.lsn < b.lsn ? -1 : 1))
  const pairs = inOrder.map(({ node, isUnlogged }, n) => {
    const own = rows.find((one) => one.node === node)
    const isEmpty = !isUnlogged && (own === undefined || isUntouched(own))
    return { dropped: dropped[count - 1 - n] as RelationNode, created: node, isEmpty }
  })
  const isPlausible = pairs.every((pair) => pair.dropped.database === pair.created.database)
  return isPlausible ? pairs : undefined
}

function isUntouched({ inserted, updated, pagesLogged }: RelationRows): boolean {
  return inserted + updated + pagesLogged === 0
}
