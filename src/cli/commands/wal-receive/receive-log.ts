/**
 * What a receiver does, as lines on standard error for people, or as one JSON object a line on
 * standard output.
 */
import { monotonicMs, now } from '../../../base/clock.ts'
import { type Failure, toFailureMessage } from '../../../base/failure.ts'
import { formatLsn, type Lsn, type Timeline } from '../../../postgres/lsn.ts'
import type { ReceiveEvent } from '../../../receive/receive-options.ts'
import type { StreamPosition } from '../../../receive/stream-wal.ts'
import type { CommandContext } from '../../command-context.ts'
import { formatBytes, formatDuration } from '../../format-units.ts'
import { formatFailure } from '../../report-failure.ts'

export interface ReceiveLog {
  readonly hear: (event: ReceiveEvent) => void
  end(timeline: Timeline | undefined, flushed: Lsn | undefined): void
  /** With --json only. */
  fail(failure: Failure): void
}

/** Positions are told so often at most. */
const POSITIONS_EVERY_MS = 10_000
const JSON_POSITIONS_EVERY_MS = 1000

export function openReceiveLog({ json, terminal }: CommandContext): ReceiveLog {
  const say = (text: string): void => terminal.remark(`${now().toISOString()} ${text}`)
  const printJson = (value: Record<string, unknown>): void => {
    terminal.print(JSON.stringify({ at: now().toISOString(), ...value }))
  }
  const positions = new Positions(json ? JSON_POSITIONS_EVERY_MS : POSITIONS_EVERY_MS)
  return {
    hear(event) {
      if (event.kind === 'position') {
        const rate = positions.pick(event.position)
        if (rate === undefined) return
        if (json) printJson(eventJson(event))
        else say(describePosition(event.position, rate))
        return
      }
      if (json) printJson(eventJson(event))
      else if ('failure' in event) process.stderr.write(`${describeFailure(event)}\n`)
      else if (event.kind !== 'segment') say(describe(event))
    },
    end(timeline, flushed) {
      const end = flushed === undefined ? null : formatLsn(flushed)
      if (json) printJson({ event: 'ended', timeline: timeline ?? null, flushed: end })
      else say(end === null ? 'ended' : `ended: durable up to ${end} of timeline ${timeline}`)
    },
    fail(failure) {
      printJson({ event: 'failed', error: toFailureMessage(failure) })
    },
  }
}

/** Passes on a few of the positions, with the bytes a second since the last one. */
class Positions {
  readonly #everyMs: number
  #toldAtMs = Number.NEGATIVE_INFINITY
  #told: StreamPosition | undefined

  constructor(everyMs: number) {
    this.#everyMs = everyMs
  }

  pick(position: StreamPosition): number | undefined {
    const elapsedMs = monotonicMs() - this.#toldAtMs
    if (elapsedMs < this.#everyMs) return undefined
    const before = this.#told
    this.#toldAtMs = monotonicMs()
    this.#told = position
    if (before === undefined || before.timeline !== position.timeline) return 0
    return (Number(position.flushed - before.flushed) / elapsedMs) * 1000
  }
}

function describePosition({ timeline, flushed, serverEnd }: StreamPosition, rate: number): string {
  const behind = serverEnd > flushed ? `, ${formatBytes(Number(serverEnd - flushed))} behind` : ''
  const speed = rate > 0 ? `, ${formatBytes(Math.round(rate))}/s` : ''
  return `durable up to ${formatLsn(flushed)} of timeline ${timeline}${behind}${speed}`
}

type Told = Exclude<ReceiveEvent, { kind: 'position' | 'segment' } | { failure: Failure }>

function describe(event: Told): string {
  switch (event.kind) {
    case 'connected': {
      const role = event.isInRecovery ? 'standby' : 'primary'
      const end = `timeline ${event.timeline}, WAL up to ${formatLsn(event.serverEnd)}`
      return `connected to ${event.address} (${role}, ${end})`
    }
    case 'slot': {
      const verb = event.outcome === 'created' ? 'created' : 'created anew'
      const from = formatLsn(event.restartLsn)
      return `replication slot ${event.slot} ${verb}: WAL is kept from ${from}`
    }
    case 'streaming':
      return `streaming timeline ${event.timeline} from ${formatLsn(event.from)}`
    case 'history':
      return `the history of timeline ${event.timeline} is archived`
    case 'switched': {
      const rest = event.isBeyondFork ? ', with WAL that the new one does not have' : ''
      const end = formatLsn(event.end)
      return `timeline ${event.from} ended at ${end}${rest}; going on with timeline ${event.to}`
    }
    case 'waiting':
      return `waiting ${formatDuration(event.pauseMs)}: ${event.because}`
  }
}

function describeFailure(event: Extract<ReceiveEvent, { failure: Failure }>): string {
  const word = event.kind === 'gap' ? 'ALARM' : 'warning'
  const text = formatFailure(event.failure).replace('error', word)
  if (event.kind !== 'disconnected') return text
  return `${text}\n  connecting again in ${formatDuration(event.pauseMs)}`
}

/** LSNs as PostgreSQL writes them, failures as every command prints them. */
function eventJson({ kind, ...event }: ReceiveEvent): Record<string, unknown> {
  return { event: kind, ...(plain(event) as Record<string, unknown>) }
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return formatLsn(value as Lsn)
  if (value instanceof Error) return toFailureMessage(value as Failure)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]))
}
