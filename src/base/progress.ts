/**
 * Progress of a long operation, as values. Modules report, the command line draws.
 */
export interface ProgressState {
  /** What is being done now, in the user's words: `reading data files`. */
  readonly phase: string
  /** Units done and in all (bytes unless `unit` says otherwise); total undefined while unknown. */
  readonly done: number
  readonly total: number | undefined
  readonly unit: 'bytes' | 'segments' | 'files'
}

export interface Progress {
  /** Begins a phase; the one before it has ended. */
  phase(name: string, total?: number, unit?: ProgressState['unit']): void
  advance(units: number): void
  /** A sentence worth keeping in the scrollback. */
  note(text: string): void
}

export const SILENT: Progress = { phase() {}, advance() {}, note() {} }
