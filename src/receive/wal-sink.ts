/**
 * Where streamed WAL goes: the contract between a receiver and what stores for it.
 *
 * Invariant: flush() is fulfilled only with an LSN up to which every required repository holds
 * all that was appended, durable: completed segments verified in the archive, the rest as the
 * tail of its segment (docs/design/tails.md).
 */
import { Failure } from '../base/failure.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { type Lsn, segmentStart, type Timeline } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { type OpenedRepository, openRepositorySink } from './sink/open-repository.ts'
import type { RepositorySink } from './sink/repository-sink.ts'
import { StreamSink } from './sink/stream-sink.ts'

export interface WalSink {
  /**
   * Takes bytes in LSN order, contiguous, beginning at the start of a segment; copies them
   * before it returns. Throws the failure that has ended the sink, if one has.
   */
  append(timeline: Timeline, start: Lsn, bytes: Uint8Array): void
  /** Much is held in memory: read no more from the server before a flush is fulfilled. */
  readonly wantsFlush: boolean
  /**
   * All that was appended becomes durable in every required repository; fulfilled with the LSN
   * up to which it is. Calls while one runs are coalesced into the next. A failure acknowledges
   * nothing; where nothing contradicts (disk full, a repository that does not answer) flush()
   * may be called again, and what was appended is still there.
   */
  flush(): Promise<Lsn>
  /**
   * What flush() does, before it returns: where every required repository can append and nothing
   * is under way. Undefined: flush() must be called. What it throws acknowledges nothing, and
   * flush() tells of it.
   */
  flushNow?(): Lsn | undefined
  /**
   * The timeline ends at `end`: what is held of it stays as its tail (never padded, never
   * archived as whole). The next append is of the new timeline, from the start of the segment
   * that holds the fork, after its history is in the archive.
   */
  endTimeline(timeline: Timeline, end: Lsn): Promise<void>
  /** Flushes, and lets go. The tail stays. */
  close(): Promise<void>
}

export interface WalSinkOptions {
  /** Must have what is acknowledged. */
  readonly required: readonly Storage[]
  /** Shall have it, too; one that is away or slow is left behind, and told. */
  readonly others?: readonly Storage[]
  /** How long a flush waits for the others. */
  readonly patienceMs?: number
  readonly cluster: string
  /** Decimal; known to every required repository (TM1407 else). */
  readonly systemIdentifier: string
  /**
   * The path of the server: the history of the timeline that it is on. Without it, that of the
   * newest timeline of the archive.
   */
  readonly path?: TimelineHistory
  /**
   * What the server still has (the start of the segment of its slot's restart position): holes
   * of the archive from here on are streamed again. Without it only what lies behind the last
   * archived segment is wanted.
   */
  readonly availableFrom?: Lsn
  /**
   * The shortest time between the tail's pieces in a repository that cannot append (object
   * stores); 0: at once. Default: DEFAULT_FLUSH_EVERY_MS.
   */
  readonly flushEveryMs?: number
  readonly onEvent?: (event: SinkEvent) => void
  /**
   * The archive of every required repository has it. The content stays as it is until what is
   * returned is fulfilled.
   */
  readonly onArchived?: (name: string, content: Uint8Array) => Promise<void>
}

export type SinkEvent =
  | { readonly kind: 'segment'; readonly name: string; readonly storedBytes: number }
  /** A repository that is not required lacks this segment, or its tail; `sync` brings it. */
  | {
      readonly kind: 'behind'
      readonly url: string
      readonly segment: string
      readonly failure: Failure | undefined
    }
  /** A tail could not be read, or another server's differs: it is kept, and nothing lost. */
  | {
      readonly kind: 'tail-kept'
      readonly url: string
      readonly key: string
      readonly because: string
    }

export interface ResumePoint {
  readonly timeline: Timeline
  /** Start of the segment from which bytes are wanted again. */
  readonly lsn: Lsn
  /** Durable already up to here, in every required repository. */
  readonly flushed: Lsn
}

/** What a repository of an object store is written to at most, to hold the tail: its RPO. */
export const DEFAULT_FLUSH_EVERY_MS = 10_000

const PATIENCE_MS = 5000

/** Opens the sink where the required repositories end; `resume` undefined: they are empty. */
export async function openWalSink(
  options: WalSinkOptions,
): Promise<{ readonly sink: WalSink; readonly resume: ResumePoint | undefined }> {
  if (options.required.length === 0) throw new Error('no repository is required')
  const onEvent = options.onEvent ?? (() => {})
  const found: OpenedRepository[] = []
  for (const storage of options.required) {
    found.push(await openRepositorySink(storage, options, onEvent))
  }
  const others: RepositorySink[] = []
  for (const storage of options.others ?? []) {
    const opened = await openOther(storage, options, onEvent)
    if (opened !== undefined) others.push(opened)
  }
  const { walSegmentSizeBytes } = (found[0] as OpenedRepository).identity
  const { cluster, systemIdentifier } = options
  const sink = new StreamSink({
    required: found.map(({ repository }) => repository),
    others,
    cluster,
    systemIdentifier,
    walSegmentSizeBytes,
    flushEveryMs: options.flushEveryMs ?? DEFAULT_FLUSH_EVERY_MS,
    patienceMs: options.patienceMs ?? PATIENCE_MS,
    onEvent,
    onArchived: options.onArchived ?? (async () => {}),
  })
  return { sink, resume: combine(found, walSegmentSizeBytes) }
}

/** One that is away now is left out, and told; it is behind until the next opening. */
async function openOther(
  storage: Storage,
  options: WalSinkOptions,
  onEvent: (event: SinkEvent) => void,
): Promise<RepositorySink | undefined> {
  try {
    return (await openRepositorySink(storage, options, onEvent)).repository
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    onEvent({ kind: 'behind', url: storage.url, segment: '', failure: error })
    return undefined
  }
}

/**
 * The least place of those that have WAL; one that has none yet gets what comes from there on, and
 * `sync` brings it the rest.
 */
function combine(found: readonly OpenedRepository[], size: number): ResumePoint | undefined {
  const ends = found.flatMap(({ end }) => end ?? [])
  const [first] = ends
  if (first === undefined) return undefined
  const least = ends.reduce((a, b) => (b.segment < a.segment ? b : a), first)
  const start = segmentStart(least.segment, size)
  const isAnyEmpty = ends.length < found.length
  const flushed = ends.reduce<Lsn>((a, b) => (b.flushed < a ? b.flushed : a), first.flushed)
  return { timeline: least.timeline, lsn: start, flushed: isAnyEmpty ? start : flushed }
}
