/**
 * The standard output of a tool as bytes that somebody else takes at his own pace.
 *
 * Invariant: it ends only when the tool has come to a good end (`run` was fulfilled); it throws
 * what `run` was rejected with. When the taker stops, the tool is ended before close() returns.
 */
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { Failure } from '../base/failure.ts'

type Take = (bytes: Uint8Array) => Promise<void>

export interface ToolOutput {
  readonly bytes: AsyncIterable<Uint8Array>
  /** Aborted with what `run` was rejected with, for a taker who waits for somebody else. */
  readonly failed: AbortSignal
  /** Ends the tool if it still runs. */
  close(): Promise<void>
}

/** So much may be ahead of the taker. */
const AHEAD_BYTES = 1024 * 1024

/** `signal` ends the waiting for the taker, too. */
export function openToolOutput(
  signal: AbortSignal,
  run: (take: Take, signal: AbortSignal) => Promise<void>,
): ToolOutput {
  const stop = new AbortController()
  const ending = AbortSignal.any([signal, stop.signal])
  const pipe = new PassThrough({ highWaterMark: AHEAD_BYTES })
  const failed = new AbortController()
  let failure: { readonly error: unknown } | undefined
  const take: Take = async (bytes) => {
    ending.throwIfAborted()
    if (!pipe.write(bytes)) await once(pipe, 'drain', { signal: ending })
  }
  const running = run(take, stop.signal).then(
    () => pipe.end(),
    (error: unknown) => {
      failure = { error }
      // Ended by close(), it has not failed.
      if (!stop.signal.aborted) failed.abort(error)
      pipe.end()
    },
  )
  const close = async (): Promise<void> => {
    stop.abort(new Failure('TM2101', NOBODY_TAKES))
    await running
    pipe.destroy()
  }
  const bytes = (async function* (): AsyncGenerator<Uint8Array> {
    try {
      yield* pipe
      if (failure !== undefined) throw failure.error
    } finally {
      await close()
    }
  })()
  return { bytes, failed: failed.signal, close }
}

const NOBODY_TAKES = {
  message: 'the tool was ended since nobody takes what it writes',
  fix: 'see why the other side has ended',
}
