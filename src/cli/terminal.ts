/**
 * Where text goes: results to standard output, everything else to standard error.
 * Colours only on a terminal and without NO_COLOR (no-color.org).
 */
import type { WriteStream } from 'node:tty'
import pico from 'picocolors'
import type { Environment } from '../config/environment.ts'

export type Colours = ReturnType<typeof pico.createColors>

/** What can be drawn on standard output. */
export interface Drawing {
  readonly columns: number
  /** Else only ASCII. */
  readonly isUtf8: boolean
}

export interface Terminal {
  /** A line of the result. */
  print(line?: string): void
  /** The one JSON document of --json. */
  printJson(value: unknown): void
  /** One of many JSON documents, each on a line of its own. */
  printJsonLine(value: unknown): void
  /** Waits while the reader of the result is slower than we are; false: it has gone. */
  flush(): Promise<boolean>
  /** A remark; silent with --quiet. */
  remark(line: string): void
  /** For the result. */
  readonly colours: Colours
  /** Undefined: nobody looks at the result. */
  readonly drawing: Drawing | undefined
  /** Is somebody there who can be asked? */
  readonly isInteractive: boolean
  readonly progressStream: WriteStream
}

export interface TerminalOptions {
  readonly quiet: boolean
  readonly env: Environment
}

export function openTerminal(options: TerminalOptions): Terminal {
  const { stdout, stderr, stdin } = process
  const plain = (options.env['NO_COLOR'] ?? '') !== '' || options.env['TERM'] === 'dumb'
  return {
    print(line = '') {
      stdout.write(`${line}\n`)
    },
    printJson(value) {
      stdout.write(`${formatJson(value)}\n`)
    },
    printJsonLine(value) {
      stdout.write(`${formatJson(value, 0)}\n`)
    },
    flush: makeFlush(stdout),
    remark(line) {
      if (!options.quiet) stderr.write(`${line}\n`)
    },
    colours: pico.createColors(stdout.isTTY === true && !plain),
    drawing: stdout.isTTY === true ? drawingOn(stdout, options.env) : undefined,
    isInteractive: stdin.isTTY === true && stderr.isTTY === true && stdout.isTTY === true,
    progressStream: stderr,
  }
}

/**
 * Node.js keeps what a slow pipe has not taken. A reader that has seen enough (`| head`) closes
 * the pipe: that is no failure of whoever asks here.
 */
function makeFlush(stdout: WriteStream): () => Promise<boolean> {
  let isGone = false
  let isWatched = false
  const watch = (): void => {
    isWatched = true
    stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
      isGone = true
    })
  }
  return async () => {
    if (!isWatched) watch()
    if (!isGone && stdout.writableNeedDrain) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          stdout.off('drain', done).off('error', done).off('close', done)
          resolve()
        }
        stdout.on('drain', done).on('error', done).on('close', done)
      })
    }
    return !isGone
  }
}

const USUAL_COLUMNS = 80

/** The first of these that is set says which characters the terminal shows (locale(7)). */
function drawingOn(stdout: WriteStream, env: Environment): Drawing {
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || ''
  const isUtf8 = /utf-?8/i.test(locale) && env['TERM'] !== 'dumb'
  return { columns: stdout.columns || USUAL_COLUMNS, isUtf8 }
}

/** Big integers as decimal texts; dates as ISO 8601 UTC by their own toJSON. */
function formatJson(value: unknown, indent = 2): string {
  const replace = (_key: string, item: unknown): unknown =>
    typeof item === 'bigint' ? item.toString() : item
  return JSON.stringify(value, replace, indent)
}
