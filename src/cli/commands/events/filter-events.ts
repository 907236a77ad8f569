/** Which events are shown. Pure. */
import type { RelationEffect } from '../../../events/classify-transaction.ts'
import type { EventKind, ReportedEvent } from '../../../events/reported-event.ts'

export interface EventFilter {
  /** Undefined: what a person looks for after an accident. */
  readonly kinds: readonly EventKind[] | undefined
  readonly relation: string | undefined
  readonly database: string | undefined
  readonly xid: number | undefined
  /** Undefined: MIN_ROWS, or half of a table. */
  readonly minRows: number | undefined
  readonly all: boolean
}

/** Fewer deleted or updated rows are everyday work. */
export const MIN_ROWS = 1000
/** This much of a table is worth a line, however few rows it is, from so many rows on. */
const MIN_SHARE = 0.5
const SHARE_FROM_ROWS = 10

export function isShown(event: ReportedEvent, filter: EventFilter): boolean {
  if (!matchesDatabase(event, filter.database)) return false
  if (filter.xid !== undefined) {
    if (event.xid !== filter.xid && !event.subxids.includes(filter.xid)) return false
  }
  const relations = event.transaction?.relations ?? []
  const chosen =
    filter.relation === undefined
      ? relations
      : relations.filter((one) => matchesRelation(one, filter.relation ?? ''))
  if (filter.relation !== undefined && chosen.length === 0) return false
  const isNamed = filter.all || filter.xid !== undefined
  if (filter.kinds !== undefined) {
    return event.kinds.some((kind) => {
      return filter.kinds?.includes(kind) === true && isEnough(kind, chosen, filter.minRows ?? 1)
    })
  }
  if (isNamed) return filter.minRows === undefined || countRows(chosen) >= filter.minRows
  return event.kinds.some((kind) => isNotable(kind, event, chosen, filter.minRows))
}

const ROW_KINDS: readonly EventKind[] = ['delete', 'update', 'insert']

function isEnough(kind: EventKind, relations: readonly RelationEffect[], minRows: number): boolean {
  if (!ROW_KINDS.includes(kind)) return true
  const counted = relations.reduce((sum, one) => sum + countOf(kind, one), 0)
  return counted >= minRows
}

function countOf(kind: EventKind, { inserted, updated, deleted }: RelationEffect): number {
  if (kind === 'delete') return deleted
  return kind === 'update' ? updated : inserted
}

function countRows(relations: readonly RelationEffect[]): number {
  return relations.reduce((sum, one) => sum + one.inserted + one.updated + one.deleted, 0)
}

const ALWAYS: readonly EventKind[] = [
  'drop-database',
  'drop-tablespace',
  'drop',
  'truncate',
  'restore-point',
  'timeline',
  'restart',
  'settings',
  'reset',
  'gap',
]

/** Asked without a word of what to look for. */
function isNotable(
  kind: EventKind,
  event: ReportedEvent,
  relations: readonly RelationEffect[],
  minRows: number | undefined,
): boolean {
  if (ALWAYS.includes(kind)) return kind !== 'settings' || !isHarmless(event.text)
  if (kind === 'rewrite') return relations.some(hasShrunk)
  if (kind !== 'delete' && kind !== 'update') return false
  if (isEnough(kind, relations, minRows ?? MIN_ROWS)) return true
  return minRows === undefined && relations.some((one) => isMuchOf(kind, one))
}

/** What a server says at each start. */
function isHarmless(text: string): boolean {
  return text === 'full_page_writes is on' || /^wal_level is (replica|logical)$/.test(text)
}

/** A rewrite keeps the rows; TRUNCATE and INSERT in one transaction looks as one does. */
function hasShrunk({ storage, name, inserted, deleted }: RelationEffect): boolean {
  const before = name?.rows
  if (storage !== 'rewritten' || before === undefined || inserted === 0) return false
  return before >= SHARE_FROM_ROWS && inserted - deleted < before * MIN_SHARE
}

function isMuchOf(kind: EventKind, relation: RelationEffect): boolean {
  const { share, updated, deleted } = relation
  const counted = kind === 'delete' ? deleted : updated
  return share !== undefined && share >= MIN_SHARE && counted >= SHARE_FROM_ROWS
}

/** A name or an oid. What is of no database is shown only where none is asked for. */
function matchesDatabase({ database }: ReportedEvent, wanted: string | undefined): boolean {
  if (wanted === undefined) return true
  return database?.name === wanted || String(database?.oid) === wanted
}

/** `orders`, `public.orders`, `public.order*`, or the number of a file. */
export function matchesRelation({ name, node }: RelationEffect, wanted: string): boolean {
  if (wanted === String(node.number)) return true
  if (wanted === `${node.tablespace}/${node.database}/${node.number}`) return true
  if (name === undefined) return false
  const pattern = new RegExp(
    `^${wanted.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`,
  )
  return pattern.test(name.name) || pattern.test(`${name.schema ?? ''}.${name.name}`)
}
