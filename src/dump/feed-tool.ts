/**
 * Runs a client tool of PostgreSQL that reads from its standard input, and hears every line
 * of its standard error.
 *
 * Invariant: the input ends only after its last byte was proved. Where reading it fails, the
 * tool is killed first: psql takes an end for the end of the script, and commits.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Writable } from 'node:stream'
import { decodeServerText } from '../postgres/server-text.ts'
import { describeStartError } from './find-tools.ts'

export interface FeedOptions {
  readonly path: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  /** Of what it says on its standard error, as PostgreSQL names it. */
  readonly encoding: string
  readonly input?: AsyncIterable<Uint8Array>
  /** Called when so many bytes were handed to the tool. */
  readonly onInput?: (bytes: number) => void
  readonly onOutput?: (chunk: Uint8Array) => void
  /** Takes its standard output at its own pace. */
  readonly pipeTo?: Writable
  readonly onLine?: (line: string) => void
}

export interface FedTool {
  /** The end of the input was reached: the tool did not close its own end before. */
  readonly tookAll: boolean
  readonly status: number | undefined
  readonly endedBy: NodeJS.Signals | undefined
}

/** Throws what the input failed with, or the reason of the signal; a status is no failure. */
export async function feedTool(options: FeedOptions): Promise<FedTool> {
  const { path, args, env, signal } = options
  signal.throwIfAborted()
  const child = spawn(path, [...args], {
    env: { ...env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  })
  const ended = waitForEnd(child, path)
  const stop = (): void => void child.kill('SIGTERM')
  signal.addEventListener('abort', stop)
  listen(child, options)
  let failure: { readonly error: unknown } | undefined
  let tookAll = false
  try {
    if (child.stdin !== null && options.input !== undefined) {
      tookAll = await pump(options.input, child.stdin, options.onInput)
    }
  } catch (error) {
    child.kill('SIGKILL')
    failure = { error }
  }
  try {
    const end = await ended
    signal.throwIfAborted()
    if (failure !== undefined) throw failure.error
    return { ...end, tookAll }
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

type ToolEnding = Omit<FedTool, 'tookAll'>

async function waitForEnd(child: ChildProcess, path: string): Promise<ToolEnding> {
  return await new Promise((resolve, reject) => {
    child.on('error', (error) => reject(describeStartError(path, error)))
    child.on('close', (status, endedBy) => {
      resolve({ status: status ?? undefined, endedBy: endedBy ?? undefined })
    })
  })
}

const LINE_END = 0x0a

/** Lines are cut before they are decoded: they may be in any encoding of PostgreSQL's. */
function listen(child: ChildProcess, { onOutput, onLine, encoding, pipeTo }: FeedOptions): void {
  if (pipeTo === undefined) child.stdout?.on('data', (chunk: Buffer) => onOutput?.(chunk))
  else child.stdout?.pipe(pipeTo)
  let rest: Buffer = Buffer.alloc(0)
  child.stderr?.on('data', (chunk: Buffer) => {
    rest = rest.byteLength === 0 ? chunk : Buffer.concat([rest, chunk])
    for (let end = rest.indexOf(LINE_END); end >= 0; end = rest.indexOf(LINE_END)) {
      onLine?.(decodeServerText(rest.subarray(0, end), encoding))
      rest = rest.subarray(end + 1)
    }
  })
  child.stderr?.on('end', () => {
    if (rest.byteLength > 0) onLine?.(decodeServerText(rest, encoding))
  })
}

/** False where the tool has closed its end of the pipe before. */
async function pump(
  input: AsyncIterable<Uint8Array>,
  stdin: Writable,
  onInput: FeedOptions['onInput'],
): Promise<boolean> {
  let isClosed = false
  stdin.on('error', () => {
    isClosed = true
  })
  stdin.on('close', () => {
    isClosed = true
  })
  for await (const chunk of holdLastBack(input)) {
    if (isClosed) return false
    await new Promise<void>((resolve) => {
      const go = (): void => {
        stdin.off('close', go)
        resolve()
      }
      stdin.once('close', go)
      stdin.write(chunk, go)
    })
    onInput?.(chunk.byteLength)
  }
  if (isClosed) return false
  stdin.end()
  return true
}

/** The last piece is handed on when the whole was proved: no tool is done before. */
export async function* holdLastBack(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held: Uint8Array | undefined
  for await (const chunk of input) {
    if (held !== undefined) yield held
    held = chunk
  }
  if (held !== undefined) yield held
}
