/**
 * Reads the archived WAL along a path of timelines and shows it to a visitor, record by
 * record; the one reader of recovery and of every check that looks at records
 * (docs/design/wal-archive.md, section 5).
 *
 * Invariant: what was shown is what replay will see, up to the end that is returned; a
 * hole or a damaged place is never taken for the end of WAL.
 */
import { Failure } from '../base/failure.ts'
import { pathOf } from '../postgres/history-file.ts'
import {
  formatLsn,
  formatSegmentName,
  type Lsn,
  parseSegmentName,
  segmentStart,
  type Timeline,
} from '../postgres/lsn.ts'
import { mayBeEvent, parseWalEvent, type WalEvent } from '../postgres/wal-event.ts'
import {
  createWalReader,
  type WalReader,
  type WalReadResult,
  type WalRecord,
} from '../postgres/wal-reader.ts'
import type { RecordBatch } from '../postgres/wal-walk.ts'
import type { Storage } from '../storage/storage.ts'
import { hole } from './fetch-wal.ts'
import { timelineOfSegment } from './find-gaps.ts'
import { isCutByTail } from './find-record-end.ts'
import {
  findLaterWal,
  findPathSegment,
  type LoadedSegment,
  type LoadedTail,
  type WalPath,
} from './load-segment.ts'

export interface ScannedRecord {
  readonly lsn: Lsn
  readonly endLsn: Lsn
  readonly timeline: Timeline
}

/** `event`: undefined for what recovery does not ask about. True: read no further. */
export type VisitRecord = (record: ScannedRecord, event: WalEvent | undefined) => boolean

export interface ScanWalOptions extends WalPath {
  /**
   * `at`: exactly the start of a record, such as a redo location. `from`: anywhere; what
   * is shown begins with the first record that starts there or later.
   */
  readonly start: { readonly at: Lsn } | { readonly from: Lsn }
  readonly visit: VisitRecord
  /** Called for each segment that was read; `tail`: only what was flushed of it was there. */
  readonly onSegment?: (name: string, bytes: number, tail: LoadedTail | undefined) => void
}

export interface ScanEnd {
  /**
   * `torn-end`: the last segment was written in part only, or only its tail is there; also an
   * end of the archive.
   */
  readonly reason: 'stopped' | 'archive-end' | 'torn-end' | 'hole' | 'damage'
  /** The last valid record; undefined: there was none. */
  readonly last: ScannedRecord | undefined
  /** Where the next record would start. */
  readonly nextLsn: Lsn
  /** Of `hole` and `damage`. */
  readonly fault: ScanFault | undefined
}

export interface ScanFault {
  /** Names of the missing or damaged segments. */
  readonly firstSegment: string
  readonly lastSegment: string
  readonly failure: Failure
}

/** Holes and damage do not fail: they end the scan. Everything else that fails does. */
export async function scanWal(options: ScanWalOptions): Promise<ScanEnd> {
  return await new Scan(options).run()
}

type Ending = Pick<ScanEnd, 'reason' | 'fault'>

class Scan {
  readonly #options: ScanWalOptions
  readonly #reader: WalReader
  #segment: LoadedSegment | undefined
  /** Number of the segment that is being read. */
  #current = -1n
  #prefetched: { segment: bigint; loading: Promise<LoadedSegment | undefined> } | undefined
  #last: ScannedRecord | undefined
  /** Behind the record at which a batch was left before its end. */
  #leftAt: Lsn | undefined
  #ending: Ending | undefined

  constructor(options: ScanWalOptions) {
    this.#options = options
    const timelines = new Set(pathOf(options.path))
    this.#reader = createWalReader({
      walSegmentSizeBytes: options.walSegmentSizeBytes,
      systemIdentifier: BigInt(options.systemIdentifier),
      start: options.start,
      isOnPath: (timeline) => timelines.has(timeline),
    })
  }

  async run(): Promise<ScanEnd> {
    while (this.#ending === undefined) {
      const result = this.#reader.nextBatch()
      if (result.kind === 'segment-needed') await this.#nextSegment(result.segment)
      else if (result.kind === 'batch') await this.#takeBatch(result.batch)
      else if (this.#isPastFork(result)) await this.#missing(this.#current)
      else if (result.kind === 'invalid') await this.#invalid(result)
      else this.#take(result)
    }
    const ending: Ending = this.#ending
    return { ...ending, last: this.#last, nextLsn: this.#leftAt ?? this.#reader.position() }
  }

  async #takeBatch(batch: RecordBatch): Promise<void> {
    const usableEnd = this.#segment?.usableEnd
    for (let n = 0; n < batch.count && this.#ending === undefined; n++) {
      const lsn = batch.lsn(n)
      this.#leftAt = batch.endLsn(n)
      if (usableEnd !== undefined && lsn >= usableEnd) {
        await this.#missing(this.#current)
        return
      }
      const place = { lsn, endLsn: this.#leftAt, timeline: batch.timeline }
      if (mayBeEvent(batch.resourceManager(n))) this.#take({ record: batch.record(n) }, place)
      else this.#show(place, undefined)
    }
    if (this.#ending === undefined) this.#leftAt = undefined
  }

  /** Only an ancestor's file of the fork's segment was there, and the fork is reached. */
  #isPastFork(result: Exclude<WalReadResult, { kind: 'segment-needed' }>): boolean {
    const usableEnd = this.#segment?.usableEnd
    if (usableEnd === undefined) return false
    const { lsn } = result.kind === 'record' ? result.record : result
    return lsn >= usableEnd
  }

  #take({ record }: { readonly record: WalRecord }, place: ScannedRecord = placeOf(record)): void {
    const parsed = parseWalEvent(record)
    if (parsed.kind === 'damaged') {
      this.#damaged(this.#unknownRecord(record.lsn))
      return
    }
    this.#show(place, parsed.kind === 'event' ? parsed.event : undefined)
  }

  #show(place: ScannedRecord, event: WalEvent | undefined): void {
    this.#last = place
    if (this.#options.visit(place, event)) this.#stop('stopped')
  }

  #stop(reason: ScanEnd['reason'], fault?: ScanFault): undefined {
    this.#ending = { reason, fault }
  }

  #damaged(failure: Failure, name = this.#segment?.name ?? ''): undefined {
    this.#stop('damage', { firstSegment: name, lastSegment: name, failure })
  }

  async #nextSegment(segment: bigint): Promise<void> {
    const loaded = await this.#load(segment)
    if (this.#ending !== undefined) return
    const isHere = loaded !== undefined && !(await this.#isFollowedByOwn(loaded, segment))
    if (!isHere) return await this.#missing(segment)
    this.#use(segment, loaded)
  }

  /**
   * Only an ancestor's file of the fork's segment is there, but later ones of the path are:
   * replay asks for the path's own file first, and its absence is a hole (fetch-wal.ts).
   */
  async #isFollowedByOwn(loaded: LoadedSegment, segment: bigint): Promise<boolean> {
    if (loaded.usableEnd === undefined) return false
    return (await findLaterWal(this.#options, segment)) !== undefined
  }

  #use(segment: bigint, loaded: LoadedSegment): void {
    this.#segment = loaded
    this.#current = segment
    this.#reader.give(segment, loaded.bytes)
    this.#options.onSegment?.(loaded.name, loaded.bytes.length, loaded.tail)
    this.#prefetch(segment + 1n)
  }

  async #load(segment: bigint): Promise<LoadedSegment | undefined> {
    try {
      const early = this.#prefetched
      const prefetched = early?.segment === segment ? await early.loading : undefined
      return prefetched ?? (await findPathSegment(this.#options, segment))
    } catch (error) {
      if (!(error instanceof Failure) || !DAMAGE.includes(error.code)) throw error
      return this.#damaged(error, this.#nameOf(segment))
    }
  }

  #prefetch(segment: bigint): void {
    const loading = findPathSegment(this.#options, segment)
    // A failure is met when the segment is asked for, or never when it is not.
    loading.catch(() => {})
    this.#prefetched = { segment, loading }
  }

  /** Segments are archived while this runs: seen after a later one, it was no hole. */
  async #missing(segment: bigint): Promise<void> {
    const later = await findLaterWal(this.#options, segment)
    if (later === undefined) return this.#stop('archive-end')
    const again = await this.#load(segment)
    if (this.#ending !== undefined) return
    if (again !== undefined && again.usableEnd === undefined) {
      // What is read of the ancestor's file cannot be taken back: the archive as it was.
      if (segment === this.#current) return this.#stop('archive-end')
      return this.#use(segment, again)
    }
    this.#stop('hole', this.#hole(segment, later))
  }

  #hole(segment: bigint, later: string): ScanFault {
    const { walSegmentSizeBytes, storages } = this.#options
    const firstSegment = this.#nameOf(segment)
    const next = parseSegmentName(later, walSegmentSizeBytes)?.segment ?? segment + 1n
    const lastSegment = this.#nameOf(next - 1n)
    const failure = hole(storages[0] as Storage, firstSegment, later)
    return { firstSegment, lastSegment, failure }
  }

  #nameOf(segment: bigint): string {
    const { path, walSegmentSizeBytes } = this.#options
    const timeline = timelineOfSegment(path, segment, walSegmentSizeBytes)
    return formatSegmentName(timeline, segment, walSegmentSizeBytes)
  }

  async #invalid(fault: Extract<WalReadResult, { kind: 'invalid' }>): Promise<void> {
    if (this.#isCut(fault)) return await this.#tailEnds()
    const segment = fault.faultLsn / BigInt(this.#options.walSegmentSizeBytes)
    const isUnwritten = fault.reason === 'no-record' || fault.reason === 'bad-page'
    if (isUnwritten && !fault.isFollowedByWal) {
      const later = await findLaterWal(this.#options, segment)
      if (later === undefined) return this.#stop('torn-end')
    }
    this.#damaged(this.#unreadable(fault))
  }

  /** Does the tail that is read end before the record does? */
  #isCut(fault: Extract<WalReadResult, { kind: 'invalid' }>): boolean {
    const loaded = this.#segment
    if (loaded?.tail === undefined) return false
    const start = segmentStart(this.#current, this.#options.walSegmentSizeBytes)
    return isCutByTail(fault, loaded.bytes, start, loaded.tail.endLsn)
  }

  /**
   * A later segment makes the rest of this one a hole; unless a receiver has completed it since
   * its tail was read: then the scan is of the archive as it was.
   */
  async #tailEnds(): Promise<void> {
    const loss = this.#segment?.tail?.loss
    if (loss !== undefined) return this.#damaged(loss)
    const later = await findLaterWal(this.#options, this.#current)
    if (later === undefined) return this.#stop('torn-end')
    const again = await this.#load(this.#current)
    if (this.#ending !== undefined) return
    const isWhole = again !== undefined && again.tail === undefined
    if (isWhole && again.usableEnd === undefined) return this.#stop('torn-end')
    this.#stop('hole', this.#hole(this.#current, later))
  }

  #unreadable(fault: Extract<WalReadResult, { kind: 'invalid' }>): Failure {
    return this.#damage(fault.lsn, `${FAULTS[fault.reason]} (at ${formatLsn(fault.faultLsn)})`)
  }

  #unknownRecord(lsn: Lsn): Failure {
    return this.#damage(lsn, 'the record has not the form that its kind has in this version')
  }

  #damage(lsn: Lsn, because: string): Failure {
    const name = this.#segment?.name ?? ''
    return new Failure('TM1409', {
      message: `the archived WAL segment ${name} has no valid record at ${formatLsn(lsn)}`,
      because,
      fix:
        'compare the segment with the one in the pg_wal of the server or of a standby; ' +
        'or recover to a moment before it (--to end-of:gap)',
      details: { name, lsn: formatLsn(lsn) },
    })
  }
}

/** Of a segment's object; of a tail of which nothing is left; of tails that contradict. */
const DAMAGE: readonly string[] = ['TM1601', 'TM1441', 'TM1443']

function placeOf({ lsn, endLsn, timeline }: WalRecord): ScannedRecord {
  return { lsn, endLsn, timeline }
}

const FAULTS = {
  'no-record': 'there is no record',
  'bad-length': 'its length cannot be one',
  'bad-resource-manager': 'its resource manager does not exist',
  'bad-previous': 'it does not follow the record before it',
  'bad-checksum': 'its checksum does not hold',
  'bad-page': 'the header of its page does not hold',
  'bad-continuation': 'its continuation on the next page does not hold',
  'bad-overwrite': 'the record that should replace a lost continuation does not name it',
} as const
