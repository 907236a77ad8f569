/**
 * Judges a target against the records of the WAL: at which record does replay stop, and
 * does it get there? Pure: it is shown the records one by one, in the order of replay.
 *
 * PostgreSQL compares recovery_target_lsn with the start of a record (recoveryStopsBefore,
 * recoveryStopsAfter in xlogrecovery.c). So a judgement names the start of a record that
 * exists, and PostgreSQL fails rather than promotes when it does not come to it.
 */
import type { Lsn } from '../postgres/lsn.ts'
import type { Microseconds, ParameterChange, WalEvent } from '../postgres/wal-event.ts'
import type { Target } from './parse-target.ts'

export type RecoveryTarget =
  | { readonly kind: 'immediate' }
  | { readonly kind: 'lsn'; readonly lsn: Lsn; readonly inclusive: boolean }

export interface RecordPlace {
  readonly lsn: Lsn
  readonly endLsn: Lsn
}

/** Why no further record can be read. */
export type WalEnd =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'archive-end' }
  | { readonly kind: 'hole'; readonly first: string; readonly last: string }
  | { readonly kind: 'damage'; readonly segment: string; readonly because: string }
  | { readonly kind: 'minimal'; readonly lsn: Lsn }

export type Verdict =
  | {
      readonly kind: 'reached'
      readonly stop: RecoveryTarget
      /** End of the last record that is replayed. */
      readonly replayEnd: Lsn
      /** Replay goes to the end of the archived WAL, for lack of anything past the target. */
      readonly atArchiveEnd: boolean
    }
  /** Found, but before the backup is consistent: an older backup is needed. */
  | { readonly kind: 'before-consistency' }
  | { readonly kind: 'aborted'; readonly xid: number; readonly at: RecordPlace }
  /** The WAL that can be read ends before the target. */
  | { readonly kind: 'short' }

export interface PreparedInDoubt {
  readonly xid: number
  readonly database: number
}

/** What replay up to the target does besides changing pages. */
export interface ReplayFacts {
  /** Locations that CREATE TABLESPACE named, with their OID. */
  readonly tablespaces: readonly { readonly oid: number; readonly path: string }[]
  readonly parameters: readonly ParameterChange[]
  /** Prepared in the range and not ended in it. */
  readonly inDoubt: readonly PreparedInDoubt[]
  /** Time of the last transaction that is replayed. */
  readonly lastTransaction: Microseconds | undefined
  readonly newestMoment: Microseconds | undefined
  readonly transactions: number
}

interface Found {
  readonly at: RecordPlace
  readonly inclusive: boolean
  readonly before: RecordPlace | undefined
  /** Up to the target: a search for the newest restore point of a name reads on. */
  readonly facts: ReplayFacts
}

/**
 * `consistency`: LSN that replay must have passed for the backup to be usable.
 * `limit`: records that start there or later do not belong to the search.
 */
export class TargetSearch {
  readonly #target: Target
  readonly #consistency: Lsn
  readonly #limit: Lsn | undefined
  readonly #facts = new FactCollector()
  #last: RecordPlace | undefined
  #found: Found | undefined
  #aborted: RecordPlace | undefined
  #minimal: Lsn | undefined

  constructor(target: Target, consistency: Lsn, limit?: Lsn) {
    this.#target = target
    this.#consistency = consistency
    this.#limit = limit
  }

  /** True: no further record is needed. */
  visit(record: RecordPlace, event: WalEvent | undefined): boolean {
    if (this.#limit !== undefined && record.lsn >= this.#limit) return true
    if (event?.kind === 'parameter-change' && event.walLevel === 'minimal') {
      this.#minimal = record.lsn
      return true
    }
    const matches = this.#matches(record, event)
    if (matches !== 'exclusive') this.#facts.add(event)
    if (matches !== undefined) {
      const at = { lsn: record.lsn, endLsn: record.endLsn }
      const [before, facts] = [this.#last, this.#facts.facts()]
      this.#found = { at, inclusive: matches === 'inclusive', before, facts }
    }
    this.#last = { lsn: record.lsn, endLsn: record.endLsn }
    return this.#found !== undefined && this.#target.kind !== 'name'
  }

  /** The last record that was shown; where replay to the end of WAL would stop. */
  get last(): RecordPlace | undefined {
    return this.#last
  }

  /** Is what was read enough for the backup to be consistent? */
  get canStopAtLast(): boolean {
    return this.#last !== undefined && this.#last.endLsn >= this.#consistency
  }

  get minimal(): Lsn | undefined {
    return this.#minimal
  }

  /** Of what is replayed up to the target, or of all that was shown while it is not found. */
  facts(): ReplayFacts {
    return this.#found?.facts ?? this.#facts.facts()
  }

  /**
   * `end`: why reading stopped. `coversTime`: whether the archive is known to have been
   * written past a time, by something that is not in these records.
   */
  conclude(end: WalEnd, coversTime: (time: Microseconds) => boolean): Verdict {
    if (this.#aborted !== undefined && this.#found === undefined) {
      const xid = this.#target.kind === 'xid' ? this.#target.xid : 0
      return { kind: 'aborted', xid, at: this.#aborted }
    }
    if (this.#found !== undefined) return this.#reached()
    const { kind } = this.#target
    if (kind === 'xid' || kind === 'name') return { kind: 'short' }
    if (kind === 'end-of-gap') return this.#atLast(true)
    if (end.kind !== 'archive-end') return { kind: 'short' }
    if (kind === 'latest') return this.#atLast(true)
    if (kind === 'time') {
      const newest = this.#facts.facts().newestMoment
      const { time } = this.#target
      const covered = (newest !== undefined && newest >= time) || coversTime(time)
      return covered ? this.#atLast(true) : { kind: 'short' }
    }
    return this.#concludeLsn()
  }

  /** An LSN, or a backup's end, that lies within or right behind the last record. */
  #concludeLsn(): Verdict {
    const last = this.#last
    const wanted = this.#target.kind === 'lsn' ? this.#target.lsn : this.#consistency
    if (last === undefined || last.endLsn < wanted) return { kind: 'short' }
    return this.#target.kind === 'lsn' ? this.#atLast(true) : this.#immediate(last)
  }

  #atLast(atArchiveEnd: boolean): Verdict {
    const last = this.#last
    if (last === undefined || last.endLsn < this.#consistency) return { kind: 'short' }
    const stop: RecoveryTarget = { kind: 'lsn', lsn: last.lsn, inclusive: true }
    return { kind: 'reached', stop, replayEnd: last.endLsn, atArchiveEnd }
  }

  #immediate(last: RecordPlace): Verdict {
    const end = last.endLsn < this.#consistency ? this.#consistency : last.endLsn
    return { kind: 'reached', stop: { kind: 'immediate' }, replayEnd: end, atArchiveEnd: false }
  }

  #reached(): Verdict {
    const { at, inclusive, before } = this.#found as Found
    if (this.#target.kind === 'immediate' || this.#target.kind === 'backup') {
      return this.#immediate(before ?? at)
    }
    const consistent = inclusive ? at.endLsn >= this.#consistency : at.lsn >= this.#consistency
    if (!consistent) return { kind: 'before-consistency' }
    const replayEnd = inclusive ? at.endLsn : (before?.endLsn ?? at.lsn)
    const stop: RecoveryTarget = { kind: 'lsn', lsn: at.lsn, inclusive }
    return { kind: 'reached', stop, replayEnd, atArchiveEnd: false }
  }

  #matches(
    record: RecordPlace,
    event: WalEvent | undefined,
  ): 'inclusive' | 'exclusive' | undefined {
    const target = this.#target
    switch (target.kind) {
      case 'latest':
      case 'end-of-gap':
        return undefined
      case 'immediate':
      case 'backup':
        return record.lsn >= this.#consistency ? 'exclusive' : undefined
      case 'lsn':
        if (record.lsn < target.lsn) return undefined
        return target.inclusive ? 'inclusive' : 'exclusive'
      case 'time':
        return isEnd(event) && event.time > target.time ? 'exclusive' : undefined
      case 'name':
        if (event?.kind !== 'restore-point' || event.name !== target.name) return undefined
        return 'inclusive'
      case 'xid':
        return this.#matchesXid(record, event, target.xid, target.inclusive)
    }
  }

  /** The id of a subtransaction means the transaction that it was part of. */
  #matchesXid(
    record: RecordPlace,
    event: WalEvent | undefined,
    xid: number,
    inclusive: boolean,
  ): 'inclusive' | 'exclusive' | undefined {
    if (!isEnd(event)) return undefined
    if (event.xid !== xid && !event.subxids.includes(xid)) return undefined
    if (event.kind === 'abort') {
      this.#aborted = { lsn: record.lsn, endLsn: record.endLsn }
      return undefined
    }
    return inclusive ? 'inclusive' : 'exclusive'
  }
}

function isEnd(
  event: WalEvent | undefined,
): event is Extract<WalEvent, { kind: 'commit' | 'abort' }> {
  return event?.kind === 'commit' || event?.kind === 'abort'
}

class FactCollector {
  readonly #tablespaces: { oid: number; path: string }[] = []
  readonly #parameters: ParameterChange[] = []
  readonly #prepared = new Map<number, number>()
  #lastTransaction: Microseconds | undefined
  #newest: Microseconds | undefined
  #transactions = 0

  add(event: WalEvent | undefined): void {
    if (event === undefined) return
    if ('time' in event && (this.#newest === undefined || event.time > this.#newest)) {
      this.#newest = event.time
    }
    switch (event.kind) {
      case 'commit':
      case 'abort':
        this.#transactions++
        this.#lastTransaction = event.time
        if (event.isPrepared) this.#prepared.delete(event.xid)
        break
      case 'prepare':
        this.#prepared.set(event.xid, event.database)
        break
      case 'tablespace-create':
        if (event.path !== '') this.#tablespaces.push({ oid: event.oid, path: event.path })
        break
      case 'parameter-change':
        this.#parameters.push(event)
        break
      default:
    }
  }

  facts(): ReplayFacts {
    return {
      tablespaces: [...this.#tablespaces],
      parameters: [...this.#parameters],
      inDoubt: [...this.#prepared].map(([xid, database]) => ({ xid, database })),
      lastTransaction: this.#lastTransaction,
      newestMoment: this.#newest,
      transactions: this.#transactions,
    }
  }
}
