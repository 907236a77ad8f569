/**
 * Draws Progress on standard error: a bar with rate and time left on a terminal, an
 * occasional line elsewhere when it was asked for (--progress), else nothing.
 */
import type { WriteStream } from 'node:tty'
import cliProgress from 'cli-progress'
import { monotonicMs } from '../base/clock.ts'
import { type Progress, type ProgressState, SILENT } from '../base/progress.ts'
import { formatBytes, formatCount, formatDuration } from './format-units.ts'

export interface ProgressOptions {
  readonly stream: WriteStream
  /** --progress, --no-progress, or neither. */
  readonly asked: boolean | undefined
  readonly quiet: boolean
}

export interface ShownProgress extends Progress {
  end(): void
}

export function openProgress(options: ProgressOptions): ShownProgress {
  const shown = options.asked ?? (options.stream.isTTY === true && !options.quiet)
  if (!shown) return { ...SILENT, note: writeNote(options), end() {} }
  return options.stream.isTTY === true ? new BarProgress(options.stream) : lines(options.stream)
}

function writeNote(options: ProgressOptions): (text: string) => void {
  return (text) => {
    if (!options.quiet) options.stream.write(`${text}\n`)
  }
}

/** Between two lines on what is no terminal. */
const LINE_INTERVAL_MS = 5000

function lines(stream: WriteStream): ShownProgress {
  let state: Phase = newPhase('')
  let lastLineAt = monotonicMs()
  return {
    phase(name, total, unit) {
      state = newPhase(name, total, unit)
      stream.write(`${name}\n`)
      lastLineAt = monotonicMs()
    },
    advance(units) {
      state = { ...state, done: state.done + units }
      if (monotonicMs() - lastLineAt < LINE_INTERVAL_MS) return
      lastLineAt = monotonicMs()
      stream.write(`${describePhase(state, monotonicMs())}\n`)
    },
    note(text) {
      stream.write(`${text}\n`)
    },
    end() {},
  }
}

export interface Phase extends ProgressState {
  readonly startedAtMs: number
}

function newPhase(name: string, total?: number, unit: ProgressState['unit'] = 'bytes'): Phase {
  return { phase: name, done: 0, total, unit, startedAtMs: monotonicMs() }
}

/** `reading data files: 1.2 GiB of 4.0 GiB, 512 MiB/s, 6.0 s left`. */
export function describePhase(phase: Phase, atMs: number): string {
  const { done, total, unit } = phase
  if (total === undefined && done === 0) return `${phase.phase} …`
  const amount = (units: number): string =>
    unit === 'bytes' ? formatBytes(units) : formatCount(units, unit.slice(0, -1))
  const parts = [
    total === undefined
      ? amount(done)
      : unit === 'bytes'
        ? `${amount(done)} of ${amount(total)}`
        : `${done} of ${amount(total)}`,
  ]
  const elapsedMs = atMs - phase.startedAtMs
  if (elapsedMs > 0 && done > 0) {
    const perSecond = (done * 1000) / elapsedMs
    if (unit === 'bytes') parts.push(`${formatBytes(perSecond)}/s`)
    const left = total === undefined ? 0 : total - done
    if (left > 0) parts.push(`${formatDuration((left / perSecond) * 1000)} left`)
  }
  return `${phase.phase}: ${parts.join(', ')}`
}

const BAR_WIDTH = 24
/** Columns that the text beside the bar mostly fits in; the bar gives way to it. */
const TEXT_WIDTH = 64

/** The text says more than the bar: on a narrow terminal the bar becomes shorter. */
export function barWidth(columns: number, text: string): number {
  return Math.max(0, Math.min(BAR_WIDTH, columns - 2 - Math.max(TEXT_WIDTH, text.length)))
}
const REDRAWS_PER_SECOND = 8

class BarProgress implements ShownProgress {
  readonly #stream: WriteStream
  #bar: cliProgress.SingleBar | undefined
  #phase: Phase = newPhase('')

  constructor(stream: WriteStream) {
    this.#stream = stream
  }

  phase(name: string, total?: number, unit?: ProgressState['unit']): void {
    this.end()
    this.#phase = newPhase(name, total, unit)
    this.#bar = new cliProgress.SingleBar({
      stream: this.#stream,
      barsize: BAR_WIDTH,
      fps: REDRAWS_PER_SECOND,
      hideCursor: null,
      clearOnComplete: true,
      format: (options, params) => this.#draw(options, params.progress),
    })
    this.#bar.start(Math.max(total ?? 1, 1), 0)
  }

  advance(units: number): void {
    this.#phase = { ...this.#phase, done: this.#phase.done + units }
    if (this.#phase.total !== undefined) this.#bar?.update(this.#phase.done)
  }

  note(text: string): void {
    this.end()
    this.#stream.write(`${text}\n`)
  }

  end(): void {
    this.#bar?.stop()
    this.#bar = undefined
  }

  #draw(options: cliProgress.Options, progress: number): string {
    const text = describePhase(this.#phase, monotonicMs())
    if (this.#phase.total === undefined) return text
    const width = barWidth(this.#stream.columns ?? 80, text)
    if (width === 0) return text
    const filled = Math.round(Math.min(progress, 1) * width)
    const full = (options.barCompleteString ?? '').slice(0, filled)
    const rest = (options.barIncompleteString ?? '').slice(0, width - filled)
    return `${full}${rest} ${text}`
  }
}
