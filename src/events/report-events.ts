/**
 * Folded events as reports: names are looked up, transactions classified, and what is not a
 * transaction is put into words. What a transaction did at once (the files of a database go
 * when DROP DATABASE says so, not when it commits) is told when it ends, since only its end has a
 * time; at most what is open is held.
 */
import type { Lsn } from '../postgres/lsn.ts'
import { formatLsn } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'
import { type ClassifiedTransaction, classifyTransaction } from './classify-transaction.ts'
import type { DroppedDatabase } from './find-database-mark.ts'
import type { FoldedEvent, FoldedTransaction, OtherEvent } from './folded-event.ts'
import type { NameResolver } from './name-resolver.ts'
import type { EventKind, NamedDatabase, ReportedEvent } from './reported-event.ts'

type Removal = Extract<OtherEvent, { kind: 'database-dropped' | 'tablespace-dropped' }>

/** Looks for where DROP DATABASE began: find-database-mark.ts. */
export type FindMark = (dropped: DroppedDatabase) => Promise<Lsn | undefined>

/** In the order of LSNs, save that a removal stands where its transaction ends. */
export async function* reportEvents(
  events: AsyncIterable<FoldedEvent>,
  names: NameResolver,
  findMark: FindMark,
): AsyncGenerator<ReportedEvent> {
  const reporter = new EventReporter(names)
  for await (const event of events) {
    // First: a transaction tells the names of the files that it made.
    names.learn(event)
    for (const report of reporter.report(event)) yield await beginAtMark(report, findMark)
  }
  for (const report of reporter.finish()) yield await beginAtMark(report, findMark)
}

async function beginAtMark(report: ReportedEvent, findMark: FindMark): Promise<ReportedEvent> {
  if (report.kinds[0] !== 'drop-database') return report
  const { xid, lsn, beforeLsn } = report
  const mark = await findMark({ xid, lsn, firstLsn: beforeLsn })
  return mark === undefined ? report : { ...report, beforeLsn: mark }
}

export class EventReporter {
  readonly #names: NameResolver
  /** By xid: what has happened and waits for a time. */
  readonly #removals = new Map<number, { removal: Removal; name: string | undefined }[]>()
  /** By xid: the oids that TRUNCATE named at wal_level=logical. */
  readonly #truncated = new Map<number, readonly number[]>()
  #walLevel: string | undefined
  /** The last time that the WAL has told. */
  #now: Microseconds | undefined

  constructor(names: NameResolver) {
    this.#names = names
  }

  *report(event: FoldedEvent): Generator<ReportedEvent> {
    for (const report of this.#report(event)) {
      // The time of a checkpoint is that of its begin.
      if (report.time !== undefined && event.kind !== 'checkpoint') this.#now = report.time
      yield { ...report, after: report.time === undefined ? this.#now : undefined }
    }
  }

  *#report(event: FoldedEvent): Generator<UndatedReport> {
    if (event.kind === 'transaction') {
      yield* this.#reportTransaction(event)
      return
    }
    if (event.kind === 'gap') {
      yield reportGap(event)
      return
    }
    if (this.#hold(event)) return
    const told = this.#describe(event)
    if (told !== undefined) yield { ...placeOf(event), ...told }
  }

  /** What was removed by transactions whose end is not in the range. */
  *finish(): Generator<ReportedEvent> {
    for (const [, held] of this.#removals) {
      for (const { removal, name } of held) {
        yield { ...describeRemoval(removal, name, undefined), after: this.#now }
      }
    }
    this.#removals.clear()
  }

  /** True: it is told with the end of its transaction. */
  #hold(event: OtherEvent): boolean {
    if (event.kind === 'relation-truncated') {
      const known = this.#truncated.get(event.xid) ?? []
      this.#truncated.set(event.xid, [...known, ...event.relationOids])
      return true
    }
    if (event.kind !== 'database-dropped' && event.kind !== 'tablespace-dropped') return false
    const { xid, lsn, timeline } = event
    const name =
      event.kind === 'database-dropped'
        ? this.#names.databaseName(event.database, { timeline, lsn })
        : undefined
    const held = this.#removals.get(xid) ?? []
    this.#removals.set(xid, [...held, { removal: event, name }])
    return true
  }

  *#reportTransaction(transaction: FoldedTransaction): Generator<UndatedReport> {
    const { xid, subxids } = transaction
    const all = [xid, ...subxids]
    for (const { removal, name } of this.#removals.get(xid) ?? []) {
      yield describeRemoval(removal, name, transaction)
    }
    const truncatedOids = all.flatMap((one) => this.#truncated.get(one) ?? [])
    for (const one of all) {
      this.#removals.delete(one)
      this.#truncated.delete(one)
    }
    yield this.#describeTransaction(transaction, truncatedOids)
  }

  #describeTransaction(
    transaction: FoldedTransaction,
    truncatedOids: readonly number[],
  ): UndatedReport {
    const { lsn, timeline, xid, subxids, time, outcome, isPrepared, isIncomplete } = transaction
    const classified = classifyTransaction(transaction, {
      nameOf: (node) => this.#names.nameOf(node, { timeline, lsn }),
      isCatalogue: (node) => this.#names.isCatalogue(node),
      truncatedOids,
    })
    return {
      kinds: kindsOf(outcome, classified),
      time,
      timeline,
      lsn,
      beforeLsn: lsn,
      xid,
      subxids,
      database: this.#databaseOf(transaction, classified),
      transaction: { ...classified, outcome, isPrepared },
      text: '',
      isIncomplete,
    }
  }

  #databaseOf(
    { database, lsn, timeline }: FoldedTransaction,
    { relations }: ClassifiedTransaction,
  ): NamedDatabase | undefined {
    const oid = database ?? relations.find(({ node }) => node.database !== 0)?.node.database
    if (oid === undefined || oid === 0) return undefined
    return { oid, name: this.#names.databaseName(oid, { timeline, lsn }) }
  }

  #describe(event: OtherEvent): Told | undefined {
    const { lsn, timeline } = event
    switch (event.kind) {
      case 'restore-point':
        return told('restore-point', `restore point ${quote(event.name)}`, event.time)
      case 'end-of-recovery':
        return describeSwitch(event)
      case 'checkpoint':
        return describeCheckpoint(event)
      case 'parameters': {
        const before = this.#walLevel
        this.#walLevel = event.walLevel
        if (before === event.walLevel) return undefined
        return told('settings', `wal_level is ${event.walLevel}`, undefined)
      }
      case 'full-page-writes':
        return told('settings', `full_page_writes is ${event.on ? 'on' : 'off'}`, undefined)
      case 'backup-end':
        return told('backup', `end of the backup from ${formatLsn(event.startLsn)}`, undefined)
      case 'prepared': {
        const name = this.#names.databaseName(event.database, { timeline, lsn })
        const text = 'prepared; COMMIT PREPARED or ROLLBACK PREPARED ends it'
        const database = { oid: event.database, name }
        return { ...told('prepare', text, event.time), database }
      }
      case 'database-created': {
        const name = this.#names.databaseName(event.database, { timeline, lsn })
        const text = `CREATE DATABASE ${name ?? event.database}`
        return told('create-database', text, undefined)
      }
      case 'tablespace-created':
        return told('create-tablespace', `CREATE TABLESPACE at ${quote(event.path)}`, undefined)
      default:
        return undefined
    }
  }
}

type UndatedReport = Omit<ReportedEvent, 'after'>
type Told = Pick<ReportedEvent, 'kinds' | 'text' | 'time' | 'database'>

function told(kind: EventKind, text: string, time: bigint | undefined): Told {
  return { kinds: [kind], text, time, database: undefined }
}

function placeOf({ lsn, timeline, xid }: OtherEvent) {
  const none = { subxids: [], transaction: undefined, isIncomplete: false }
  return { lsn, beforeLsn: lsn, timeline, xid, ...none }
}

function describeSwitch(event: Extract<OtherEvent, { kind: 'end-of-recovery' }>): Told {
  const { timelineBefore: before, timelineAfter: after, time } = event
  if (before === after) return told('restart', 'end of a recovery', time)
  return told('timeline', `timeline ${after} begins, it left timeline ${before}`, time)
}

/** A server that stops writes one, and so does one that has recovered from a crash (to 14). */
function describeCheckpoint(event: Extract<OtherEvent, { kind: 'checkpoint' }>): Told | undefined {
  const { isShutdown, isFirst, timelineAfter, timelineBefore, time } = event
  if (isFirst) return told('reset', 'WAL begins anew: initdb or pg_resetwal', time)
  if (timelineAfter !== timelineBefore) {
    const text = `timeline ${timelineAfter} begins, it left timeline ${timelineBefore}`
    return told('timeline', text, time)
  }
  return isShutdown
    ? told('restart', 'the server stopped, or came back from a crash', time)
    : undefined
}

function reportGap(gap: Extract<FoldedEvent, { kind: 'gap' }>): UndatedReport {
  const { firstSegment: first, lastSegment: last, reason, lsn, timeline } = gap
  const names = first === last ? first : `${first} to ${last}`
  const what = reason === 'missing' ? 'WAL is missing' : 'WAL is damaged'
  const place = { lsn, beforeLsn: lsn, timeline, xid: 0, subxids: [], time: undefined }
  const none = { database: undefined, transaction: undefined, isIncomplete: true }
  return { kinds: ['gap'], ...place, ...none, text: `${what}: ${names}` }
}

/**
 * The files went when the record was written, whatever became of the transaction; so recovery has
 * to stop before that record, or before all of the transaction where it is known.
 */
function describeRemoval(
  removal: Removal,
  name: string | undefined,
  transaction: FoldedTransaction | undefined,
): UndatedReport {
  const { lsn, timeline, xid } = removal
  const first = transaction?.firstLsn
  const beforeLsn: Lsn = first !== undefined && first < lsn ? first : lsn
  const common = { time: transaction?.time, timeline, lsn, beforeLsn, xid, subxids: [] }
  const none = { transaction: undefined, isIncomplete: false }
  if (removal.kind === 'tablespace-dropped') {
    const text = `DROP TABLESPACE with oid ${removal.oid}`
    return { kinds: ['drop-tablespace'], ...common, ...none, database: undefined, text }
  }
  const database = { oid: removal.database, name }
  const text = `DROP DATABASE ${name ?? `with oid ${removal.database}`}`
  return { kinds: ['drop-database'], ...common, ...none, database, text }
}

const TABLE_KINDS = ['r', 'p', 'm']

/** The gravest first. */
function kindsOf(
  outcome: FoldedTransaction['outcome'],
  { relations, inserted, updated, deleted }: ClassifiedTransaction,
): EventKind[] {
  if (outcome !== 'committed') return ['abort']
  const kinds = new Set<EventKind>()
  for (const { storage, name } of relations) {
    if (storage === undefined) continue
    const isTable = name === undefined || TABLE_KINDS.includes(name.kind)
    if (isTable || (name.kind === 'S' && storage === 'dropped')) kinds.add(KIND_OF[storage])
    else kinds.add('index')
  }
  if (deleted > 0) kinds.add('delete')
  if (updated > 0) kinds.add('update')
  if (inserted > 0) kinds.add('insert')
  const ordered = ORDER.filter((kind) => kinds.has(kind))
  return ordered.length === 0 ? ['commit'] : ordered
}

/** What went, by truncation or by dropping, is looked for as dropped. */
const KIND_OF = {
  dropped: 'drop',
  gone: 'drop',
  truncated: 'truncate',
  rewritten: 'rewrite',
} as const
const ORDER: readonly EventKind[] = [
  'drop',
  'truncate',
  'delete',
  'update',
  'rewrite',
  'index',
  'insert',
]

function quote(text: string): string {
  return JSON.stringify(text)
}
