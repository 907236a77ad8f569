import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sleep } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import type {
  NextTimeline,
  ReplicationSession,
  WalListener,
  WalStream,
} from '../postgres/replication-session.ts'
import { type StreamOptions, streamWal } from './stream-wal.ts'
import type { WalSink } from './wal-sink.ts'

const MB = 1024 * 1024

/** A server of which the test says what it sends and when it is lost. */
function fakeServer() {
  const reports: Lsn[] = []
  const ended = Promise.withResolvers<NextTimeline | undefined>()
  const begun = Promise.withResolvers<WalListener>()
  const stream: WalStream = {
    ended: ended.promise,
    report: (_written, flushed) => reports.push(flushed),
    pause: () => {},
    resume: () => {},
    stop: () => ended.resolve(undefined),
  }
  const session = {
    address: 'fake',
    heardAtMs: 0,
    startStreaming: async (_start: unknown, listener: WalListener) => {
      begun.resolve(listener)
      return stream
    },
    abandon: (error: unknown) => ended.reject(error),
  } as unknown as ReplicationSession
  return { session, reports, lose: ended.reject, listener: begun.promise }
}

/** Takes all; each flush is what `act` makes of it. */
type FakeSink = WalSink & { flushes: number; flushNow?: () => Lsn | undefined }

function fakeSink(act: (end: Lsn) => Promise<Lsn>): FakeSink {
  let end = lsn(0n)
  const sink: FakeSink = {
    flushes: 0,
    wantsFlush: false,
    append: (_timeline: number, start: Lsn, bytes: Uint8Array) => {
      end = lsn(start + BigInt(bytes.length))
    },
    flush: async () => {
      sink.flushes++
      return await act(end)
    },
    endTimeline: async () => {},
    close: async () => {},
  }
  return sink
}

function optionsOf(more: Partial<StreamOptions>): StreamOptions {
  return {
    slot: 's',
    timeline: 1,
    start: lsn(BigInt(MB)),
    synchronous: true,
    statusEveryMs: 10,
    silenceMs: 60_000,
    walSegmentSizeBytes: MB,
    until: undefined,
    signal: new AbortController().signal,
    onFlush: () => {},
    onFlushFailure: () => {},
    ...more,
  }
}

test('what an earlier opening has left is reported only when this one has it durable', async () => {
  const server = fakeServer()
  const permission = Promise.withResolvers<void>()
  const sink = fakeSink(async (end) => {
    await permission.promise
    return end
  })
  const running = streamWal(server.session, sink, optionsOf({}))
  const listener = await server.listener
  const end = lsn(BigInt(MB + 4000))
  listener.wal(lsn(BigInt(MB)), Buffer.alloc(4000), end)
  listener.drained()
  listener.keepalive(end, true)
  assert.deepEqual(server.reports, [BigInt(MB)])
  permission.resolve()
  await sleep(20)
  assert.equal(server.reports.at(-1), end)
  server.lose(new Error('over'))
  await assert.rejects(running, /over/)
})

test('a flush that fails is not tried again when the connection is lost', async () => {
  const server = fakeServer()
  const failed = Promise.withResolvers<void>()
  const sink = fakeSink(async () => {
    throw new Failure('TM1506', { message: 'full', fix: 'make room' })
  })
  const running = streamWal(
    server.session,
    sink,
    optionsOf({ onFlushFailure: () => failed.resolve() }),
  )
  const listener = await server.listener
  listener.wal(lsn(BigInt(MB)), Buffer.alloc(4000), lsn(BigInt(MB + 4000)))
  listener.drained()
  await failed.promise
  server.lose(new Error('lost'))
  await assert.rejects(running, /lost/)
  const { flushes } = sink
  await sleep(600)
  assert.equal(sink.flushes, flushes)
})

test('a synchronous commit is flushed and reported in the turn in which it came', async () => {
  for (const synchronous of [true, false]) {
    const server = fakeServer()
    const sink = fakeSink(async (end) => end)
    let nowFails = false
    const end = lsn(BigInt(MB + 4000))
    sink.flushNow = () => {
      if (nowFails) throw new Failure('TM1506', { message: 'full', fix: 'make room' })
      return end
    }
    const running = streamWal(server.session, sink, optionsOf({ synchronous }))
    const listener = await server.listener
    listener.wal(lsn(BigInt(MB)), Buffer.alloc(4000), end)
    listener.drained()
    assert.equal(server.reports.includes(end), synchronous)
    if (synchronous) assert.equal(sink.flushes, 0)
    nowFails = true
    listener.wal(end, Buffer.alloc(10), lsn(end + 10n))
    listener.drained()
    assert.ok(!server.reports.includes(lsn(end + 10n)), 'what failed is not reported')
    // flush() makes it good, or tells.
    for (let waited = 0; sink.flushes === 0 && waited < 200; waited++) await sleep(10)
    await sleep(20)
    assert.equal(server.reports.at(-1), end + 10n)
    server.lose(new Error('over'))
    await assert.rejects(running, /over/)
  }
})
