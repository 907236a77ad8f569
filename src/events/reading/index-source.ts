/**
 * Indexes of segments along a path: read from the first repository that has them whole, else
 * computed from the segment.
 */
import { timelineOfSegment } from '../../archive/find-gaps.ts'
import { findRecordEnd } from '../../archive/find-record-end.ts'
import { findPathSegment, type LoadedSegment, type WalPath } from '../../archive/load-segment.ts'
import { hashContent } from '../../archive/wal-object.ts'
import { Failure } from '../../base/failure.ts'
import { formatSegmentName, lsn, parseSegmentName, segmentStart } from '../../postgres/lsn.ts'
import type { Storage } from '../../storage/storage.ts'
import { buildIndex } from '../build-index.ts'
import type { IndexHeader, SegmentEvents } from '../segment-index.ts'
import { findIndexEvents, findIndexHeader } from '../store-index.ts'

export interface IndexOfSegment {
  readonly header: IndexHeader
  readonly events: SegmentEvents
}

export interface IndexSourceOptions extends WalPath {
  readonly onSegment?: ((name: string, how: 'read' | 'computed') => void) | undefined
  readonly onWarning?: ((failure: Failure) => void) | undefined
}

/** Computed ones that are kept: the search for the start looks at some that are read next. */
const KEPT = 8

export class IndexSource {
  readonly #options: IndexSourceOptions
  readonly #computed = new Map<bigint, IndexOfSegment>()

  constructor(options: IndexSourceOptions) {
    this.#options = options
  }

  nameOf(segment: bigint): string {
    const { path, walSegmentSizeBytes } = this.#options
    const timeline = timelineOfSegment(path, segment, walSegmentSizeBytes)
    return formatSegmentName(timeline, segment, walSegmentSizeBytes)
  }

  /** Undefined: neither index nor segment is there. TM1601 when the segment is damaged. */
  async header(segment: bigint): Promise<IndexHeader | undefined> {
    const known = this.#computed.get(segment)
    if (known !== undefined) return known.header
    const stored = await this.#find(segment, findIndexHeader)
    return stored ?? (await this.#compute(segment))?.header
  }

  /** Undefined: neither index nor segment is there. TM1601 when the segment is damaged. */
  async events(segment: bigint): Promise<IndexOfSegment | undefined> {
    const known = this.#computed.get(segment)
    if (known !== undefined) return known
    const stored = await this.#find(segment, findIndexEvents)
    if (stored !== undefined) this.#options.onSegment?.(this.nameOf(segment), 'read')
    return stored ?? (await this.#compute(segment))
  }

  async #find<T>(
    segment: bigint,
    find: (storage: Storage, archive: WalPath, name: string) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const name = this.nameOf(segment)
    for (const storage of this.#options.storages) {
      try {
        const found = await find(storage, this.#options, name)
        if (found !== undefined) return found
      } catch (error) {
        // What an index would say the segment says, too.
        if (!(error instanceof Failure)) throw error
        this.#options.onWarning?.(error)
      }
    }
    return undefined
  }

  async #compute(segment: bigint): Promise<IndexOfSegment | undefined> {
    const loaded = await findPathSegment(this.#options, segment)
    if (loaded === undefined) return undefined
    const whole = withoutCutRecord(loaded, this.#options)
    if (whole === undefined) return undefined
    const index = indexOf(whole, segment, this.#options)
    this.#options.onSegment?.(loaded.name, 'computed')
    this.#computed.set(segment, index)
    for (const oldest of this.#computed.keys()) {
      if (this.#computed.size <= KEPT) break
      this.#computed.delete(oldest)
    }
    return index
  }
}

/** Of a tail the padding is no WAL, nor is the record that it cuts. Undefined: nothing else is. */
function withoutCutRecord(loaded: LoadedSegment, archive: WalPath): LoadedSegment | undefined {
  const { tail, name, bytes, usableEnd } = loaded
  if (tail === undefined) return loaded
  const start = segmentStart(segmentOf(name, archive), bytes.length)
  const held = bytes.subarray(0, Number(tail.endLsn - start))
  const recordEnd = findRecordEnd(archive, name, held)
  if (recordEnd === 0) return undefined
  const end = lsn(start + BigInt(recordEnd))
  return { ...loaded, usableEnd: usableEnd !== undefined && usableEnd < end ? usableEnd : end }
}

function segmentOf(name: string, { walSegmentSizeBytes }: WalPath): bigint {
  return parseSegmentName(name, walSegmentSizeBytes)?.segment ?? 0n
}

function indexOf(
  { bytes, timeline, usableEnd }: LoadedSegment,
  segment: bigint,
  { systemIdentifier }: WalPath,
): IndexOfSegment {
  const { header, events } = buildIndex({
    systemIdentifier: BigInt(systemIdentifier),
    timeline,
    segment,
    bytes,
    contentHash: hashContent(bytes),
    usableEnd,
  })
  return { header, events }
}
