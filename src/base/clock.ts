/** The only place that asks for the time or waits. */
import { setTimeout as delay } from 'node:timers/promises'

export function now(): Date {
  return new Date()
}

/** Milliseconds on a clock that never steps; only differences mean anything. */
export function monotonicMs(): number {
  return performance.now()
}

/** As monotonicMs(), and the same for all threads of the process. */
export function monotonicNs(): bigint {
  return process.hrtime.bigint()
}

export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal === undefined ? {} : { signal })
}

/** Blocks this thread, for worker threads whose work is synchronous. */
export function pauseThread(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/** Nanoseconds since 1970, to compare with the times of files. */
export function readEpochNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n
}

/** Runs `action` once the event loop has handed out what the kernel had to read. */
export function afterReads(action: () => void): void {
  setImmediate(action)
}
