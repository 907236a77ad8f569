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
  /** Ends the tool if it still runs. */
  close(): Promise<void>
}

/** So much may be ahead of the taker. */
const AHEAD_BYTES = 1024 * 1024

export function openToolOutput(
  run: (take: Take, signal: AbortSignal) => Promise<void>,
): ToolOutput {
  const stop = new AbortController()
  const pipe = new PassThrough({ highWaterMark: AHEAD_BYTES })
  let failure: { readonly error: unknown } | undefined
  const take: Take = async (bytes) => {
    stop.signal.throwIfAborted()
    if (!pipe.write(bytes)) await once(pipe, 'drain', { signal: stop.signal })
  }
  const running = run(take, stop.signal).then(
    () => pipe.end(),
    (error: unknown) => {
      failure = { error }
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
  return { bytes, close }
}

const NOBODY_TAKES = {
  message: 'the tool was ended since nobody takes what it writes',
  fix: 'see why the other side has ended',
}
