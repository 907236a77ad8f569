/** The only place that asks for the time or waits. */
import { setTimeout as delay } from 'node:timers/promises'

export function now(): Date {
  return new Date()
}

/** Milliseconds on a clock that never steps; only differences mean anything. */
export function monotonicMs(): number {
  return performance.now()
}

export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, signal === undefined ? {} : { signal })
}
