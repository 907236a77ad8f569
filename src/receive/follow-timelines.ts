/**
 * Streams one timeline after the other on one connection, and turns WAL that the server has no
 * longer into a gap record (docs/design/receive.md, sections 6 and 8).
 *
 * Invariant: nothing behind a gap is stored before the gap is recorded in every required
 * repository, and nothing of a timeline before its history.
 */
import { type WalGap, writeGap } from '../archive/gap-record.ts'
import { offerWal } from '../archive/offer-wal.ts'
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import { type TimelineHistory, timelineAt } from '../postgres/history-file.ts'
import { formatLsn, type Lsn } from '../postgres/lsn.ts'
import {
  isRefusal,
  isWalRemoved,
  type NextTimeline,
  type ReplicationSession,
} from '../postgres/replication-session.ts'
import { ensureSlot, slotInUse } from '../postgres/replication-slot.ts'
import { archiveHistories, readServerPath } from './archive-histories.ts'
import { planProof, planStep, type ServerEnd, type StreamStep } from './plan-stream.ts'
import type { ReceiveOptions } from './receive-options.ts'
import { type Connection, type ReceiverState, startOfSegment, timingOf } from './receiver-state.ts'
import { type StreamOutcome, streamWal } from './stream-wal.ts'
import type { ResumePoint, WalSink } from './wal-sink.ts'

export interface Following extends ServerEnd {
  readonly sink: WalSink
  readonly resume: ResumePoint
  /** The archive holds what lies before `resume`. */
  readonly isProvable: boolean
  readonly systemIdentifier: string
}

/** Fulfilled when the receiver is to end. */
export async function followTimelines(
  state: ReceiverState,
  connection: Connection,
  following: Following,
): Promise<void> {
  const size = connection.server.facts.walSegmentSizeBytes
  const { session } = connection
  let { resume: at, path } = following
  // Undefined once it was asked for, or from the beginning.
  let proof = following.isProvable ? planProof(path, at, size) : undefined
  while (!state.end.signal.aborted) {
    const step = planStep({ path, address: session.address }, at, size)
    if (step.kind === 'switch') {
      await switchTimeline(state, following.sink, step)
      at = { timeline: step.to, lsn: step.start, flushed: step.start }
      continue
    }
    const start = proof ?? at.lsn
    proof = undefined
    const streamed = await stream(state, connection, { ...following, path }, { ...at, lsn: start })
    if (streamed === 'not-there') {
      if (start < at.lsn) continue
      throw await recordGap(state, connection, { ...following, path }, at)
    }
    const { next, flushed } = streamed
    if (next === undefined) {
      state.end.abort()
      return
    }
    if (flushed !== next.startLsn) throw endedElsewhere(session.address, at, next, flushed)
    path = await readNewPath(state, session, next, following.systemIdentifier)
    at = { ...at, flushed }
  }
}

/** The server was promoted, or its upstream was: what it said at the beginning is outdated. */
async function readNewPath(
  { options }: ReceiverState,
  session: ReplicationSession,
  next: NextTimeline,
  systemIdentifier: string,
): Promise<TimelineHistory> {
  const { timeline } = await session.identify()
  const path = await readServerPath(session, Math.max(timeline, next.timeline))
  await tellArchived(options, session, path, systemIdentifier)
  return path
}

/** Histories come before the WAL of their timelines. */
export async function tellArchived(
  options: ReceiveOptions,
  session: ReplicationSession,
  path: TimelineHistory,
  systemIdentifier: string,
): Promise<void> {
  for (const timeline of await archiveHistories(session, path, { ...options, systemIdentifier })) {
    options.onEvent({ kind: 'history', timeline })
  }
}

function endedElsewhere(
  address: string,
  { timeline }: ResumePoint,
  next: NextTimeline,
  flushed: Lsn,
): Failure {
  return new Failure('TM1421', {
    message: `the server at ${address} ended timeline ${timeline} at another place than it says`,
    because:
      `it sent WAL up to ${formatLsn(flushed)}, and timeline ${next.timeline} ` +
      `begins at ${formatLsn(next.startLsn)}`,
    fix: 'connect to the server itself, not to a pooler or proxy',
  })
}

async function switchTimeline(
  { options }: ReceiverState,
  sink: WalSink,
  step: Extract<StreamStep, { kind: 'switch' }>,
): Promise<void> {
  const { from, end, to, isBeyondFork } = step
  await sink.endTimeline(from, end)
  options.onEvent({ kind: 'switched', from, end, to, isBeyondFork })
}

/** What came of the timeline; `not-there`: the server has no WAL of that place any more. */
async function stream(
  state: ReceiverState,
  connection: Connection,
  following: Following,
  at: ResumePoint,
): Promise<StreamOutcome | 'not-there'> {
  const { options } = state
  const { slot, synchronous, onEvent } = options
  const { silenceMs, statusEveryMs } = timingOf(state)
  onEvent({ kind: 'streaming', timeline: at.timeline, from: at.lsn })
  try {
    return await streamWal(connection.session, following.sink, {
      slot,
      synchronous,
      timeline: at.timeline,
      walSegmentSizeBytes: connection.server.facts.walSegmentSizeBytes,
      start: at.lsn,
      statusEveryMs: Math.min(statusEveryMs, connection.statusEveryMs),
      silenceMs,
      until: state.until,
      signal: state.end.signal,
      onFlush: (position) => {
        state.hasStreamed = true
        state.timeline = position.timeline
        state.flushed = position.flushed
        onEvent({ kind: 'position', position })
      },
      onFlushFailure: (failure) => onEvent({ kind: 'warning', failure }),
    })
  } catch (error) {
    if (isWalRemoved(error)) return 'not-there'
    if (isRefusal(error, OBJECT_IN_USE)) throw slotInUse(slot, error)
    throw error
  }
}

const OBJECT_IN_USE = '55006'

/** The failure with which this connection ends; the next one begins behind the gap. */
async function recordGap(
  state: ReceiverState,
  { server }: Connection,
  { path, systemIdentifier }: Following,
  at: ResumePoint,
): Promise<Failure> {
  const { cluster, required, others, slot, onEvent } = state.options
  const { restartLsn, outcome, lostBecause } = await ensureSlot(server, slot)
  const to = startOfSegment(restartLsn, server.facts.walSegmentSizeBytes)
  if (to <= at.lsn) throw slotMisleads(server.address, slot, to)
  const why =
    lostBecause ?? (outcome === 'found' ? 'the slot begins behind it' : 'there was no slot')
  const gap: WalGap = {
    systemIdentifier,
    timeline: timelineAt(path, to),
    from: at.flushed,
    to,
    foundAt: now().toISOString(),
    because: `the server has removed it, since ${why}`,
  }
  const offers = offerWal(others, async (storage) => {
    await writeGap(storage, cluster, gap)
    return 'stored'
  })
  await Promise.all(required.map(async (storage) => await writeGap(storage, cluster, gap)))
  await offers()
  const failure = missing(gap, cluster)
  state.gap = gap
  onEvent({ kind: 'gap', gap, failure })
  return failure
}

/** It says that WAL is kept which the server says is gone: a person has to look. */
function slotMisleads(address: string, slot: string, from: Lsn): Failure {
  return new Failure('TM1424', {
    message: `the replication slot ${slot} of ${address} does not keep what it says`,
    because: `it keeps WAL from ${formatLsn(from)}, and the server says that this was removed`,
    fix: 'look into the pg_wal of the server; drop the slot if its WAL was removed by hand',
  })
}

function missing(gap: WalGap, cluster: string): Failure {
  return new Failure('TM1425', {
    message: `WAL of ${cluster} is missing from ${formatLsn(gap.from)} to ${formatLsn(gap.to)}`,
    because: gap.because,
    fix: `take a backup now: tidemark backup ${cluster}`,
    details: { from: formatLsn(gap.from), to: formatLsn(gap.to), timeline: gap.timeline },
  })
}
