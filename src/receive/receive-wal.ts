/**
 * `wal receive`: connects, judges, streams, follows promotions, connects again
 * (docs/design/receive.md).
 *
 * Invariant: it goes on until it is told to end, or until something is found that no other
 * attempt can heal; then that failure is thrown.
 */
import type { WalGap } from '../archive/gap-record.ts'
import { refuseRestoredCopy } from '../archive/restored-marker.ts'
import { sleep } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { randomUpTo } from '../base/random.ts'
import { type TimelineHistory, timelineEnd } from '../postgres/history-file.ts'
import { formatLsn, type Lsn, type Timeline } from '../postgres/lsn.ts'
import { openReplicationSession } from '../postgres/replication-session.ts'
import { ensureSlot } from '../postgres/replication-slot.ts'
import type { ServerSession } from '../postgres/server-session.ts'
import { readSystemIdentity } from '../repository/system-identity.ts'
import { readServerPath } from './archive-histories.ts'
import { chooseServer } from './choose-server.ts'
import { followTimelines, tellArchived } from './follow-timelines.ts'
import { DerivedKeeper } from './keep-derived.ts'
import { keepStandbySlots } from './keep-standby-slots.ts'
import { isFatal } from './judge-failure.ts'
import { mustWaitFor } from './plan-stream.ts'
import type { ReceiveOptions, ReceiveResult } from './receive-options.ts'
import { type Connection, type ReceiverState, startOfSegment, timingOf } from './receiver-state.ts'
import { openWalSink, type ResumePoint, type SinkEvent, type WalSink } from './wal-sink.ts'

export async function receiveWal(options: ReceiveOptions): Promise<ReceiveResult> {
  const until = options.until === 'end' ? undefined : options.until
  const end = new AbortController()
  const { cluster, required, onEvent } = options
  const onWarning = (failure: Failure): void => onEvent({ kind: 'warning', failure })
  const state: ReceiverState = {
    options,
    derived: new DerivedKeeper({ cluster, storages: required, onWarning }),
    timeline: undefined,
    flushed: undefined,
    until,
    hasStreamed: false,
    gap: undefined,
    end,
  }
  const stop = (): void => end.abort()
  options.signal.addEventListener('abort', stop, { once: true })
  if (options.signal.aborted) stop()
  try {
    await connectUntilEnd(state)
  } finally {
    options.signal.removeEventListener('abort', stop)
    await state.derived.close()
  }
  return { timeline: state.timeline, flushed: state.flushed }
}

async function connectUntilEnd(state: ReceiverState): Promise<void> {
  const [shortest, longest] = timingOf(state).retryMs
  let pauseMs = shortest
  while (!state.end.signal.aborted) {
    const before = state.flushed
    try {
      await receiveOnce(state)
    } catch (error) {
      if (state.end.signal.aborted) return
      if (!isFailure(error) || isFatal(error, state.hasStreamed)) throw error
      if (error.code === 'TM1425') continue
      if (state.flushed !== before) pauseMs = shortest
      const withJitter = pauseMs / 2 + randomUpTo(pauseMs / 2)
      state.options.onEvent({ kind: 'disconnected', failure: error, pauseMs: withJitter })
      await sleep(withJitter, state.end.signal).catch(() => {})
      pauseMs = Math.min(2 * pauseMs, longest)
    }
  }
}

/** One connection, from its beginning to its end. */
async function receiveOnce(state: ReceiverState): Promise<void> {
  const { options } = state
  const { connection, session: server } = await chooseServer(options.connections, options.defaults)
  try {
    await refuseCopy(server)
    const session = await openReplicationSession({
      connection,
      applicationName: options.applicationName,
      ...(options.defaults === undefined ? {} : { defaults: options.defaults }),
    })
    try {
      const statusEveryMs = await readStatusLimit(server)
      await receiveFrom(state, { connection, server, session, statusEveryMs })
    } finally {
      await session.close()
    }
  } finally {
    await server.close()
  }
}

/** Only where its directory is here; elsewhere identity and timelines must tell. */
async function refuseCopy(server: ServerSession): Promise<void> {
  const { dataDirectory, serverAddress } = server.facts
  if (dataDirectory === undefined || serverAddress !== undefined) return
  await refuseRestoredCopy(dataDirectory)
}

async function receiveFrom(state: ReceiverState, connection: Connection): Promise<void> {
  const { options } = state
  const { server, session } = connection
  const answer = await session.identify()
  const { systemIdentifier, timeline, flushLsn } = answer
  const { walSegmentSizeBytes, isInRecovery } = server.facts
  const path = await readServerPath(session, timeline)
  const { address } = session
  options.onEvent({ kind: 'connected', address, timeline, serverEnd: flushLsn, isInRecovery })
  await requireKnown(options, systemIdentifier, server)
  if (options.until === 'end') state.until ??= flushLsn
  const restartLsn = await takeSlot(state, server)
  const availableFrom = startOfSegment(restartLsn, walSegmentSizeBytes)
  await tellArchived(options, session, path, systemIdentifier)
  const opened = await openSink(state, systemIdentifier, path, availableFrom)
  const resume = placeBehindGap(
    state.gap,
    opened.resume ?? { timeline, lsn: availableFrom, flushed: availableFrom },
  )
  const end = { path, flushLsn, isInRecovery, address }
  try {
    await waitForServer(state, connection, end, resume)
    tellLeft(state, path, resume.timeline)
    noteResume(state, resume)
    const standbys = keepStandbys(state, connection, systemIdentifier)
    const { defaults } = options
    const names = state.derived.keepNames({
      connection: connection.connection,
      defaults,
      systemIdentifier,
    })
    try {
      const { sink } = opened
      const isProvable = resume === opened.resume
      const place = { ...end, sink, resume, isProvable, systemIdentifier }
      await followTimelines(state, connection, place)
    } finally {
      standbys.abort()
      names.abort()
    }
  } finally {
    await opened.sink.close()
  }
}

/** The server sends nothing of a recorded gap, however often it is asked. */
function placeBehindGap(gap: WalGap | undefined, resume: ResumePoint): ResumePoint {
  if (gap === undefined || resume.flushed > gap.from) return resume
  return { timeline: gap.timeline, lsn: gap.to, flushed: gap.to }
}

/** A third of wal_sender_timeout; without that the server wants none. */
async function readStatusLimit(server: ServerSession): Promise<number> {
  const timeoutMs = Number((await server.readSettings()).get('wal_sender_timeout')?.setting ?? 0)
  return timeoutMs > 0 ? timeoutMs / 3 : Number.POSITIVE_INFINITY
}

/** The server is another one, which left the timeline of the last connection: said. */
function tellLeft(state: ReceiverState, path: TimelineHistory, to: Timeline): void {
  const { timeline: from, flushed: end } = state
  const fork = from === undefined ? undefined : timelineEnd(path, from)
  if (from === undefined || end === undefined || fork === undefined || from === to) return
  state.options.onEvent({ kind: 'switched', from, end, to, isBeyondFork: end > fork })
}

function noteResume(state: ReceiverState, { timeline, flushed }: ResumePoint): void {
  state.timeline = timeline
  state.flushed = flushed
}

/** Before the slot: a server that is none of ours must not begin to keep WAL for us. */
async function requireKnown(
  { required, cluster }: ReceiveOptions,
  systemIdentifier: string,
  { facts, address }: ServerSession,
): Promise<void> {
  for (const storage of required) {
    const known = await readSystemIdentity(storage, cluster, systemIdentifier)
    const isSame = known.walSegmentSizeBytes === facts.walSegmentSizeBytes
    if (isSame && known.major === facts.version.major) continue
    throw new Failure('TM1407', {
      message: `the server at ${address} is not the one that ${storage.url} knows`,
      because:
        `it is PostgreSQL ${facts.version.major} with WAL segments of ` +
        `${facts.walSegmentSizeBytes} bytes, the repository knows PostgreSQL ${known.major} ` +
        `with ${known.walSegmentSizeBytes}`,
      fix: 'give it a cluster name of its own: tidemark init --name NAME',
    })
  }
}

async function takeSlot(state: ReceiverState, server: ServerSession): Promise<Lsn> {
  const { slot, onEvent } = state.options
  const { outcome, restartLsn, lostBecause } = await ensureSlot(server, slot)
  if (lostBecause !== undefined) {
    onEvent({ kind: 'warning', failure: slotLost(server.address, slot, lostBecause) })
  }
  if (outcome !== 'found') onEvent({ kind: 'slot', slot, outcome, restartLsn })
  return restartLsn
}

async function openSink(
  { options, derived }: ReceiverState,
  systemIdentifier: string,
  path: TimelineHistory,
  availableFrom: Lsn,
): Promise<{ sink: WalSink; resume: ResumePoint | undefined }> {
  const { cluster, required, others, flushEveryMs } = options
  return await openWalSink({
    cluster,
    required,
    others,
    systemIdentifier,
    path,
    availableFrom,
    ...(flushEveryMs === undefined ? {} : { flushEveryMs }),
    onEvent: (event) => passOn(options, event),
    onArchived: async (name, content) => {
      await derived.archived(systemIdentifier, name, content)
    },
  })
}

function passOn({ onEvent }: ReceiveOptions, event: SinkEvent): void {
  if (event.kind === 'segment') onEvent(event)
  else onEvent({ kind: 'warning', failure: tellSinkEvent(event) })
}

function tellSinkEvent(event: Exclude<SinkEvent, { kind: 'segment' }>): Failure {
  if (event.kind === 'behind') {
    const { url, segment, failure } = event
    if (failure !== undefined) return failure
    return new Failure('TM1321', {
      message: `${segment} was not stored in ${url}`,
      because: 'it did not answer in time',
      fix: 'tidemark status says what is missing there; tidemark sync brings it',
    })
  }
  return new Failure('TM1441', {
    message: `the tail ${event.key} in ${event.url} is kept beside the new one`,
    because: event.because,
    fix: 'nothing is lost; tidemark verify looks at it',
  })
}

/** A standby that lags is waited for, because its WAL does not reach what is wanted yet. */
async function waitForServer(
  state: ReceiverState,
  { session }: Connection,
  end: { path: TimelineHistory; flushLsn: Lsn; isInRecovery: boolean; address: string },
  resume: ResumePoint,
): Promise<void> {
  let { flushLsn } = end
  for (const pauseMs = 1000; mustWaitFor({ ...end, flushLsn }, resume); ) {
    const [here, there] = [formatLsn(resume.flushed), formatLsn(flushLsn)]
    const because = `the standby has WAL up to ${there}, the archive up to ${here}`
    state.options.onEvent({ kind: 'waiting', because, pauseMs })
    await sleep(pauseMs, state.end.signal)
    flushLsn = (await session.identify()).flushLsn
  }
}

/** In the background, as long as the connection lasts. */
function keepStandbys(
  state: ReceiverState,
  { connection, server }: Connection,
  systemIdentifier: string,
): AbortController {
  const stop = new AbortController()
  const { options } = state
  const connections = options.connections.filter((one) => one !== connection)
  if (connections.length === 0) return stop
  const { slot, defaults } = options
  const { walSegmentSizeBytes } = server.facts
  const told = new Set<string>()
  const loop = async (): Promise<void> => {
    for (;;) {
      const flushed = state.flushed
      const known = { connections, defaults, slot, systemIdentifier, walSegmentSizeBytes }
      for (const failure of await keepStandbySlots({ ...known, flushed })) {
        const text = `${failure.message} ${failure.because}`
        if (!told.has(text)) options.onEvent({ kind: 'warning', failure })
        told.add(text)
      }
      await sleep(timingOf(state).standbysEveryMs, stop.signal)
    }
  }
  loop().catch((error: unknown) => {
    if (!stop.signal.aborted) server.close().catch(() => {})
    if (isFailure(error)) options.onEvent({ kind: 'warning', failure: error })
  })
  return stop
}

function slotLost(address: string, slot: string, because: string): Failure {
  return new Failure('TM1424', {
    message: `the replication slot ${slot} of ${address} was lost`,
    because,
    fix: 'it was created anew; whether WAL is missing is found out now',
    details: { slot },
  })
}
