/**
 * COPY TO STDOUT and COPY FROM STDIN as queries of the `pg` library, which has none of its own
 * but takes any object that answers as its Query does (pg-copy-streams is made in that way).
 *
 * Invariant: rows count as sent only when CopyDone, then CommandComplete with their number,
 * then ReadyForQuery have come, and what was sent has been taken; rows count as taken only
 * when the source came to its end by itself. Anything else is an error.
 *
 * Memory: one block and what one read of the socket brings. A receiver that is slow stops the
 * reading of the socket, and with it the server.
 */
import { once } from 'node:events'
import type { Duplex } from 'node:stream'

/** What is used of pg.Connection; its types lack the half of COPY. */
interface CopyConnection {
  readonly stream: Duplex
  query(text: string): void
  sendCopyFromChunk(bytes: Uint8Array): void
  endCopyFrom(): void
  sendCopyFail(message: string): void
  on(event: 'copyDone', listener: () => void): void
  off(event: 'copyDone', listener: () => void): void
}

interface Settled {
  readonly promise: Promise<number>
  readonly resolve: (rows: number) => void
  readonly reject: (error: unknown) => void
}

const TAG = /^COPY (\d+)$/

abstract class CopyQuery {
  readonly #text: string
  readonly #settled: Settled = Promise.withResolvers<number>()
  #rows: number | undefined

  constructor(text: string) {
    this.#text = text
  }

  /** Number of rows. */
  get done(): Promise<number> {
    return this.#settled.promise
  }

  submit(connection: CopyConnection): void {
    this.begin(connection)
    connection.query(this.#text)
  }

  /** A statement before COPY has one as well: the last one counts. */
  handleCommandComplete({ text }: { readonly text: string }): void {
    const rows = TAG.exec(text)?.[1]
    this.#rows = rows === undefined ? undefined : Number(rows)
  }

  handleError(error: unknown): void {
    this.end(error).then(
      () => this.#settled.reject(error),
      (earlier: unknown) => this.#settled.reject(earlier),
    )
  }

  handleReadyForQuery(): void {
    const rows = this.#rows
    this.end(undefined).then(() => {
      if (rows !== undefined) this.#settled.resolve(rows)
      else this.#settled.reject(new Error('COPY has ended without a number of rows'))
    }, this.#settled.reject)
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleEmptyQuery(): void {}
  handlePortalSuspended(): void {}

  protected abstract begin(connection: CopyConnection): void
  /** Waits for what runs; an error of its own is the one that counts. */
  protected abstract end(error: unknown): Promise<void>
}

const BLOCK_BYTES = 256 * 1024

/** The bytes are the receiver's own; the next ones come when it has returned. */
export type CopyReceiver = (bytes: Uint8Array) => Promise<void> | void

export class CopyOutQuery extends CopyQuery {
  readonly #receive: CopyReceiver
  readonly #blocks: Buffer[] = []
  #block: Buffer = Buffer.allocUnsafeSlow(BLOCK_BYTES)
  #length = 0
  #connection: CopyConnection | undefined
  #isDone = false
  #receiving: Promise<void> | undefined
  #refused: { readonly error: unknown } | undefined

  constructor(text: string, receive: CopyReceiver) {
    super(text)
    this.#receive = receive
  }

  readonly #noteDone = (): void => {
    this.#isDone = true
  }

  protected begin(connection: CopyConnection): void {
    this.#connection = connection
    connection.on('copyDone', this.#noteDone)
  }

  /** The chunk is a part of what was read, and overwritten by the next. */
  handleCopyData({ chunk }: { readonly chunk: Buffer }): void {
    if (chunk.length > this.#block.length - this.#length) this.#closeBlock()
    if (chunk.length > this.#block.length) {
      this.#blocks.push(Buffer.from(chunk))
      this.#handOn()
      return
    }
    this.#length += chunk.copy(this.#block, this.#length)
  }

  handleCopyInResponse(connection: CopyConnection): void {
    connection.sendCopyFail('no rows were to be sent')
  }

  #closeBlock(): void {
    if (this.#length === 0) return
    this.#blocks.push(this.#block.subarray(0, this.#length))
    this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES)
    this.#length = 0
    this.#handOn()
  }

  #handOn(): void {
    if (this.#receiving !== undefined || this.#refused !== undefined) return
    this.#connection?.stream.pause()
    this.#receiving = this.#handOnAll()
  }

  async #handOnAll(): Promise<void> {
    try {
      for (let block = this.#blocks.shift(); block !== undefined; block = this.#blocks.shift()) {
        await this.#receive(block)
      }
    } catch (error) {
      // Nothing but the end of the connection stops a server that sends.
      this.#refused = { error }
      this.#blocks.length = 0
      this.#connection?.stream.destroy()
    } finally {
      this.#receiving = undefined
      this.#connection?.stream.resume()
    }
  }

  protected async end(error: unknown): Promise<void> {
    this.#connection?.off('copyDone', this.#noteDone)
    if (error === undefined) this.#closeBlock()
    await this.#receiving
    if (this.#refused !== undefined) throw this.#refused.error
    if (error === undefined && !this.#isDone) throw new Error('COPY has ended without CopyDone')
  }
}

export class CopyInQuery extends CopyQuery {
  readonly #source: AsyncIterable<Uint8Array>
  readonly #over = Promise.withResolvers<void>()
  #isOver = false
  #sending: Promise<void> | undefined
  #failed: { readonly error: unknown } | undefined
  #isSent = false

  constructor(text: string, source: AsyncIterable<Uint8Array>) {
    super(text)
    this.#source = source
  }

  protected begin(): void {}

  handleCopyInResponse(connection: CopyConnection): void {
    this.#sending = this.#send(connection)
  }

  handleCopyData(): void {}

  async #send(connection: CopyConnection): Promise<void> {
    const { stream } = connection
    const closed = once(stream, 'close').catch(() => undefined)
    try {
      for await (const bytes of this.#source) {
        // The server has refused a row: what comes behind it is not looked at any more.
        if (this.#isOver) return
        connection.sendCopyFromChunk(bytes)
        if (!stream.writableNeedDrain) continue
        const drained = once(stream, 'drain').catch(() => undefined)
        await Promise.race([drained, this.#over.promise, closed])
      }
    } catch (error) {
      this.#failed = { error }
      connection.sendCopyFail('the rows could not be read to their end')
      return
    }
    if (this.#isOver) return
    this.#isSent = true
    connection.endCopyFrom()
  }

  protected async end(error: unknown): Promise<void> {
    this.#isOver = true
    this.#over.resolve()
    await this.#sending
    if (this.#failed !== undefined) throw this.#failed.error
    if (error === undefined && !this.#isSent) throw new Error('COPY has ended before its source')
  }
}
