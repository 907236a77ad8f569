/**
 * Reads the archived WAL along a path of timelines, record by record, and yields what
 * recovery asks about (docs/design/wal-archive.md, section 5).
 *
 * Invariant: what was yielded is what replay will see, up to the end that is yielded last;
 * a hole or a damaged place is never taken for the end of WAL.
 */
import { Failure } from '../base/failure.ts'
import { pathOf, type TimelineHistory } from '../postgres/history-file.ts'
import { formatLsn, formatSegmentName, type Lsn, type Timeline } from '../postgres/lsn.ts'
import { parseWalEvent, type WalEvent } from '../postgres/wal-event.ts'
import { createWalReader, type WalReader, type WalReadResult } from '../postgres/wal-reader.ts'
import { readSystemIdentity } from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'
import { hole } from './fetch-wal.ts'
import { timelineOfSegment } from './find-gaps.ts'
import {
  findLaterSegment,
  findPathSegment,
  type LoadedSegment,
  type WalPath,
} from './load-segment.ts'

export interface ScanWalOptions {
  readonly storage: Storage
  readonly cluster: string
  /** Decimal. */
  readonly systemIdentifier: string
  /** The timelines to follow (readTimelinePath). */
  readonly path: TimelineHistory
  /** Exactly the start of a record, such as a redo location. */
  readonly fromLsn: Lsn
  /** Ends with the first record that starts here or later; that one is not yielded. */
  readonly untilLsn?: Lsn
  /** `throw` unless given: holes and damage are failures. `end`: they end the scan. */
  readonly faults?: 'throw' | 'end'
  /** Called for each segment that was read. */
  readonly onSegment?: (name: string, bytes: number) => void
}

export type ScannedWal = WalEvent | ScanEnd

export interface ScanEnd {
  readonly kind: 'end'
  readonly reason: 'limit' | 'archive-end' | 'torn-end' | 'hole' | 'damage'
  /** Start and end of the last valid record; undefined: there was none. */
  readonly lastLsn: Lsn | undefined
  readonly lastEndLsn: Lsn | undefined
  readonly lastTimeline: Timeline | undefined
  /** Of `limit`: the record that starts at or after untilLsn. */
  readonly limitRecord: { readonly lsn: Lsn; readonly endLsn: Lsn } | undefined
  /** Where the next record would start. */
  readonly nextLsn: Lsn
  /** Of `hole` and `damage`. */
  readonly failure: Failure | undefined
}

export async function* scanWal(options: ScanWalOptions): AsyncGenerator<ScannedWal> {
  const { storage, cluster, systemIdentifier } = options
  const identity = await readSystemIdentity(storage, cluster, systemIdentifier)
  const { walSegmentSizeBytes } = identity
  const scan = new Scan(options, { ...options, walSegmentSizeBytes })
  for await (const event of scan.events()) yield event
  const end = scan.end()
  if (end.failure !== undefined && options.faults !== 'end') throw end.failure
  yield end
}

interface LastRecord {
  readonly lsn: Lsn
  readonly endLsn: Lsn
  readonly timeline: Timeline
}

type Ending = Pick<ScanEnd, 'reason' | 'limitRecord' | 'failure'>

class Scan {
  readonly #options: ScanWalOptions
  readonly #from: WalPath
  readonly #reader: WalReader
  #segment: LoadedSegment | undefined
  /** Number of the segment that is being read. */
  #current = -1n
  #prefetched: { segment: bigint; loading: Promise<LoadedSegment | undefined> } | undefined
  #last: LastRecord | undefined
  #ending: Ending | undefined

  constructor(options: ScanWalOptions, from: WalPath) {
    this.#options = options
    this.#from = from
    const timelines = new Set(pathOf(options.path))
    this.#reader = createWalReader({
      walSegmentSizeBytes: from.walSegmentSizeBytes,
      systemIdentifier: BigInt(options.systemIdentifier),
      start: { at: options.fromLsn },
      isOnPath: (timeline) => timelines.has(timeline),
    })
  }

  end(): ScanEnd {
    return {
      kind: 'end',
      ...(this.#ending as Ending),
      lastLsn: this.#last?.lsn,
      lastEndLsn: this.#last?.endLsn,
      lastTimeline: this.#last?.timeline,
      nextLsn: this.#reader.position(),
    }
  }

  async *events(): AsyncGenerator<WalEvent> {
    while (this.#ending === undefined) {
      const result = this.#reader.next()
      if (result.kind === 'segment-needed') await this.#nextSegment(result.segment)
      else if (this.#isPastFork(result)) await this.#missing(this.#current)
      else if (result.kind === 'invalid') await this.#fault(result)
      else {
        const event = this.#take(result)
        if (event !== undefined) yield event
      }
    }
  }

  /** Only an ancestor's file of the fork's segment was there, and the fork is reached. */
  #isPastFork(result: Exclude<WalReadResult, { kind: 'segment-needed' }>): boolean {
    const usableEnd = this.#segment?.usableEnd
    if (usableEnd === undefined) return false
    const { lsn } = result.kind === 'record' ? result.record : result
    return lsn >= usableEnd
  }

  #take({ record }: Extract<WalReadResult, { kind: 'record' }>): WalEvent | undefined {
    const { untilLsn } = this.#options
    const { lsn, endLsn, timeline } = record
    if (untilLsn !== undefined && lsn >= untilLsn) {
      return this.#stop('limit', undefined, { lsn, endLsn })
    }
    const parsed = parseWalEvent(record)
    if (parsed.kind === 'damaged') return this.#stop('damage', this.#unknownRecord(lsn))
    this.#last = { lsn, endLsn, timeline }
    return parsed.kind === 'event' ? parsed.event : undefined
  }

  #stop(
    reason: ScanEnd['reason'],
    failure: Failure | undefined,
    limitRecord?: ScanEnd['limitRecord'],
  ): undefined {
    this.#ending = { reason, failure, limitRecord }
  }

  async #nextSegment(segment: bigint): Promise<void> {
    const loaded = await this.#load(segment)
    if (this.#ending !== undefined) return
    if (loaded === undefined) return await this.#missing(segment)
    this.#use(segment, loaded)
  }

  #use(segment: bigint, loaded: LoadedSegment): void {
    this.#segment = loaded
    this.#current = segment
    this.#reader.give(segment, loaded.bytes)
    this.#options.onSegment?.(loaded.name, loaded.bytes.length)
    this.#prefetch(segment + 1n)
  }

  async #load(segment: bigint): Promise<LoadedSegment | undefined> {
    try {
      const early = this.#prefetched
      const prefetched = early?.segment === segment ? await early.loading : undefined
      return prefetched ?? (await findPathSegment(this.#from, segment))
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'TM1601') throw error
      return this.#stop('damage', error)
    }
  }

  #prefetch(segment: bigint): void {
    const loading = findPathSegment(this.#from, segment)
    // A failure is met when the segment is asked for, or never when it is not.
    loading.catch(() => {})
    this.#prefetched = { segment, loading }
  }

  /** Segments are archived while this runs: seen after a later one, it was no hole. */
  async #missing(segment: bigint): Promise<void> {
    const later = await findLaterSegment(this.#from, segment)
    if (later === undefined) return this.#stop('archive-end', undefined)
    const again = await this.#load(segment)
    if (this.#ending !== undefined) return
    if (again !== undefined && again.usableEnd === undefined) {
      // What is read of the ancestor's file cannot be taken back: the archive as it was.
      if (segment === this.#current) return this.#stop('archive-end', undefined)
      return this.#use(segment, again)
    }
    const size = this.#from.walSegmentSizeBytes
    const timeline = timelineOfSegment(this.#options.path, segment, size)
    const name = formatSegmentName(timeline, segment, size)
    this.#stop('hole', hole(this.#from.storage, name, later))
  }

  async #fault(fault: Extract<WalReadResult, { kind: 'invalid' }>): Promise<void> {
    const segment = fault.faultLsn / BigInt(this.#from.walSegmentSizeBytes)
    const isUnwritten = fault.reason === 'no-record' || fault.reason === 'bad-page'
    if (isUnwritten && !fault.isFollowedByWal) {
      const later = await findLaterSegment(this.#from, segment)
      if (later === undefined) return this.#stop('torn-end', undefined)
    }
    this.#stop('damage', this.#unreadable(fault))
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
