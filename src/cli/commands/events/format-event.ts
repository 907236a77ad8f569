/** One event as lines of text, and as an object for scripts. Pure. */
import type { RelationEffect } from '../../../events/classify-transaction.ts'
import type { ReportedEvent } from '../../../events/reported-event.ts'
import { formatLsn } from '../../../postgres/lsn.ts'
import { formatTarget, formatTime, type Target } from '../../../recovery/parse-target.ts'
import { quoteWord } from '../../archive-command.ts'
import { formatCount } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

/** What a restore of this cluster has to be told besides the target. */
export interface RestoreWords {
  readonly cluster: string
  /** --config as it was given to this command. */
  readonly config: string | undefined
  readonly repository: string | undefined
  /** Where it is not the one that a restore follows by itself. */
  readonly timeline: number | undefined
}

/**
 * What recovers to just before it: a transaction by its xid, which is the commit; what took
 * effect before its commit by its LSN; a restore point is the moment itself.
 */
export function targetOf(event: ReportedEvent): Target | undefined {
  const [kind] = event.kinds
  if (kind === 'gap' || kind === 'reset') return undefined
  if (kind === 'restore-point') return { kind: 'lsn', lsn: event.lsn, inclusive: true }
  if (event.transaction?.outcome === 'committed') {
    return { kind: 'xid', xid: event.xid, inclusive: false }
  }
  return { kind: 'lsn', lsn: event.beforeLsn, inclusive: false }
}

export function formatRestore(target: Target, words: RestoreWords): string {
  const to = formatTarget(target)
  const { config, cluster, repository, timeline } = words
  const line = [
    'tidemark',
    ...(config === undefined ? [] : ['--config', config]),
    ...['restore', cluster, '--to', to],
    ...(timeline === undefined ? [] : ['--timeline', String(timeline)]),
    ...(repository === undefined ? [] : ['--repository', repository]),
    ...['--into', `restored-${to.replace(/[^0-9A-Za-z]+/g, '-')}`],
  ]
  return line.map(quoteWord).join(' ')
}

/** After a restore point and before what loses something one wants to recover. */
export function isWorthARestore({ kinds, transaction }: ReportedEvent): boolean {
  if (transaction !== undefined) return transaction.outcome === 'committed'
  return kinds.some((kind) => ['drop-database', 'drop-tablespace', 'restore-point'].includes(kind))
}

export interface FormatOptions {
  readonly restore: RestoreWords
  /** Undefined: no backup reaches there, or the WAL has a hole. */
  readonly isRecoverable: boolean
  /** Everyday transactions get one line. */
  readonly isNotable: boolean
}

const MARGIN = '    '

export function formatEvent(
  event: ReportedEvent,
  options: FormatOptions,
  colours: Colours,
): string[] {
  const { database, isIncomplete, xid, lsn } = event
  const time = describeTime(event)
  const where =
    database === undefined ? '' : printable(`${database.name ?? `database ${database.oid}`}: `)
  const what = printable(describe(event))
  const place = [...(xid === 0 ? [] : [`xid ${xid}`]), `at ${formatLsn(lsn)}`].join(' ')
  if (!options.isNotable) return [`${time}  ${where}${what}  ${colours.dim(place)}`]
  const lines = [`${colours.dim(time)}  ${where}${colours.bold(what)}  ${colours.dim(place)}`]
  if (isIncomplete && event.transaction !== undefined) {
    lines.push(colours.yellow(`${MARGIN}it may have done more: WAL before it is not there`))
  }
  if (!isWorthARestore(event)) return lines
  const target = targetOf(event)
  if (target === undefined) return lines
  if (event.transaction?.isPrepared === true) {
    lines.push(`${MARGIN}just before it, the transaction is prepared: ROLLBACK PREPARED ends it`)
  }
  const line = formatRestore(target, options.restore)
  lines.push(
    options.isRecoverable ? MARGIN + line : colours.yellow(`${MARGIN}no backup leads to before it`),
  )
  return lines
}

function describeTime({ time, after }: ReportedEvent): string {
  if (time !== undefined) return formatTime(time)
  return after === undefined ? 'at an unknown time' : `after ${formatTime(after)}`
}

export function describe(event: ReportedEvent): string {
  const { transaction, text } = event
  if (transaction === undefined) return text
  const parts = [...describeStorage(transaction.relations), ...describeRows(transaction.relations)]
  if (parts.length === 0) {
    const { internalRows } = transaction
    const rows = internalRows === 0 ? 'no rows' : formatCount(internalRows, 'catalogue row')
    parts.push(`committed, ${rows}`)
  }
  if (transaction.outcome === 'committed') return parts.join('; ')
  const outcome = transaction.outcome === 'aborted' ? 'rolled back' : 'lost in a crash'
  return `${outcome}: ${parts.join('; ').replace(/^committed, /, '')}`
}

const VERBS = {
  dropped: 'DROP',
  gone: 'dropped or replaced:',
  truncated: 'TRUNCATE',
  rewritten: 'rewritten:',
} as const

const KINDS: Readonly<Record<string, string>> = {
  r: 'TABLE',
  p: 'TABLE',
  m: 'MATERIALIZED VIEW',
  i: 'INDEX',
  I: 'INDEX',
  S: 'SEQUENCE',
}

/**
 * What belongs to a table (indexes, sequences) goes without saying, and so does what has no name
 * where something has one.
 */
function describeStorage(relations: readonly RelationEffect[]): string[] {
  const changed = relations.filter(({ storage }) => storage !== undefined)
  const hasTable = changed.some(isTable)
  const hasName = changed.some(({ name }) => name !== undefined)
  const told = changed.filter((one) => {
    return (!hasTable || isTable(one)) && (!hasName || one.name !== undefined)
  })
  return (Object.keys(VERBS) as (keyof typeof VERBS)[]).flatMap((effect) => {
    const own = told.filter(({ storage }) => storage === effect)
    const [first] = own
    if (first === undefined) return []
    const isSql = effect === 'dropped' && first.name !== undefined
    const kind = isSql ? ` ${KINDS[first.name?.kind ?? ''] ?? 'RELATION'}` : ''
    return [`${VERBS[effect]}${kind} ${listNames(own)}`]
  })
}

function isTable({ name }: RelationEffect): boolean {
  return name !== undefined && 'rpm'.includes(name.kind)
}

const NAMED = 3

function listNames(relations: readonly RelationEffect[]): string {
  const names = relations.slice(0, NAMED).map(nameRelation)
  const more = relations.length - names.length
  return names.join(', ') + (more > 0 ? ` and ${more} more` : '')
}

/** Each verb with the relations that have most of it. */
function describeRows(relations: readonly RelationEffect[]): string[] {
  const verbs = [
    ['deleted', 'from'],
    ['updated', 'in'],
    ['inserted', 'into'],
  ] as const
  return verbs.flatMap(([verb, word]) => {
    const own = relations.filter((one) => one[verb] > 0)
    const rows = own.reduce((sum, one) => sum + one[verb], 0)
    if (rows === 0) return []
    const most = own.toSorted((a, b) => b[verb] - a[verb])
    const share = own.length === 1 && verb !== 'inserted' ? describeShare(most[0]) : ''
    return [`${verb} ${formatCount(rows, 'row')}${share} ${word} ${listNames(most)}`]
  })
}

function describeShare(relation: RelationEffect | undefined): string {
  if (relation?.share === undefined || relation.deleted * relation.updated > 0) return ''
  const percent = relation.share * 100
  return ` (${percent < 1 ? '< 1' : percent.toFixed(0)} %)`
}

function nameRelation({ name, node }: RelationEffect): string {
  if (name === undefined) {
    return `file ${node.tablespace}/${node.database}/${node.number}`
  }
  return name.schema === undefined ? name.name : `${name.schema}.${name.name}`
}

/** A name may hold anything; a terminal must not obey it. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?')
}

export function eventJson(event: ReportedEvent, options: FormatOptions): Record<string, unknown> {
  const { kinds, time, timeline, lsn, xid, subxids, database, transaction } = event
  const target = targetOf(event)
  return {
    kind: kinds[0],
    kinds,
    time: time === undefined ? null : formatTime(time),
    after: event.after === undefined ? null : formatTime(event.after),
    timeline,
    lsn: formatLsn(lsn),
    xid: xid === 0 ? null : xid,
    subxids,
    database: database === undefined ? null : { oid: database.oid, name: database.name ?? null },
    text: describe(event),
    ...(transaction === undefined
      ? {}
      : {
          outcome: transaction.outcome,
          isPrepared: transaction.isPrepared,
          inserted: transaction.inserted,
          updated: transaction.updated,
          deleted: transaction.deleted,
          internalRows: transaction.internalRows,
          relations: transaction.relations.map(relationJson),
        }),
    isIncomplete: event.isIncomplete,
    target: target === undefined ? null : formatTarget(target),
    isRecoverable: options.isRecoverable,
    restore: target === undefined ? null : formatRestore(target, options.restore),
  }
}

function relationJson(relation: RelationEffect): Record<string, unknown> {
  const { node, name, storage, inserted, updated, deleted, share } = relation
  return {
    file: `${node.tablespace}/${node.database}/${node.number}`,
    schema: name?.schema ?? null,
    name: name?.name ?? null,
    relationKind: name?.kind ?? null,
    asOf: name?.asOf === undefined ? null : formatTime(name.asOf),
    storage: storage ?? null,
    inserted,
    updated,
    deleted,
    share: share ?? null,
  }
}
