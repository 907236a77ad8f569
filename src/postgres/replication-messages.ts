/**
 * Cuts what a WAL sender sends into messages. Pure: bytes in, calls out.
 *
 * Invariant: WAL is handed on in the pieces in which it came, never copied, each with its LSN;
 * any cut of the stream gives the same bytes. All other messages are gathered whole, up to a limit.
 *
 * | message | code | body |
 * |---|---|---|
 * | CopyData, WAL | `d` `w` | LSN of the data, end of WAL at the server, its time (8 each), data |
 * | CopyData, keepalive | `d` `k` | end of WAL, time (8 each), 1 when a reply is wanted |
 *
 * PostgreSQL: protocol-replication in its manual; XLogSendPhysical, WalSndKeepalive.
 */
import type { ServerError } from './connect-failure.ts'
import { type Lsn, lsn } from './lsn.ts'

export interface ReplicationHandler {
  /** `bytes` are valid only during the call. `walEnd`: where WAL ends at the server. */
  wal(start: Lsn, bytes: Uint8Array, walEnd: Lsn): void
  keepalive(walEnd: Lsn, replyRequested: boolean): void
  /** Any other message; `type` is its code, `body` what follows its length. */
  message(type: number, body: Buffer): void
}

/** Code and length of a message. */
const HEADER_BYTES = 5
/** Kind, LSN, end of WAL and time before the data of a `w`. */
const WAL_HEADER_BYTES = 25
const KEEPALIVE_BYTES = 18
/** The longest that a server has to say here is a history file, which is smaller by far. */
const LONGEST_MESSAGE = 8 << 20

const COPY_DATA = 0x64
const KIND_WAL = 0x77
const KIND_KEEPALIVE = 0x6b

export class ProtocolError extends Error {}

export class ReplicationReader {
  readonly #handler: ReplicationHandler
  /** The beginning of a message, until enough of it is here to know what it is. */
  #held = Buffer.alloc(HEADER_BYTES + WAL_HEADER_BYTES)
  #heldBytes = 0
  #wanted = HEADER_BYTES
  /** Data of the present WAL message that is yet to come. */
  #walLeft = 0
  #walAt = 0n
  #walEnd = lsn(0n)

  constructor(handler: ReplicationHandler) {
    this.#handler = handler
  }

  /** Throws ProtocolError for what no WAL sender says. */
  feed(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length) {
      at = this.#walLeft > 0 ? this.#passWal(chunk, at) : this.#gather(chunk, at)
    }
  }

  #passWal(chunk: Uint8Array, from: number): number {
    const to = Math.min(chunk.length, from + this.#walLeft)
    const start = lsn(this.#walAt)
    this.#walAt += BigInt(to - from)
    this.#walLeft -= to - from
    this.#handler.wal(start, chunk.subarray(from, to), this.#walEnd)
    return to
  }

  #gather(chunk: Uint8Array, from: number): number {
    const to = Math.min(chunk.length, from + this.#wanted - this.#heldBytes)
    this.#held.set(chunk.subarray(from, to), this.#heldBytes)
    this.#heldBytes += to - from
    if (this.#heldBytes === this.#wanted) this.#judge()
    return to
  }

  /** As much is here as was wanted: it is a whole message, or tells how much more to want. */
  #judge(): void {
    const code = this.#held[0] as number
    const length = this.#held.readUInt32BE(1)
    const whole = 1 + length
    const isWal = code === COPY_DATA && this.#held[HEADER_BYTES] === KIND_WAL
    if (this.#heldBytes === HEADER_BYTES) {
      if (length < 4) throw new ProtocolError(`a message of ${length} bytes`)
      const first = code === COPY_DATA ? HEADER_BYTES + WAL_HEADER_BYTES : whole
      this.#want(Math.min(first, whole))
      if (whole > HEADER_BYTES) return
    } else if (isWal && whole >= HEADER_BYTES + WAL_HEADER_BYTES) {
      this.#walAt = this.#held.readBigUInt64BE(HEADER_BYTES + 1)
      this.#walEnd = lsn(this.#held.readBigUInt64BE(HEADER_BYTES + 9))
      this.#walLeft = whole - HEADER_BYTES - WAL_HEADER_BYTES
      this.#reset()
      return
    } else if (this.#heldBytes < whole) {
      this.#want(whole)
      return
    }
    const body = Buffer.from(this.#held.subarray(HEADER_BYTES, whole))
    this.#reset()
    this.#handOn(code, body)
  }

  #want(bytes: number): void {
    if (bytes > LONGEST_MESSAGE) throw new ProtocolError(`a message of ${bytes} bytes`)
    if (bytes > this.#held.length) {
      const longer = Buffer.alloc(bytes)
      longer.set(this.#held.subarray(0, this.#heldBytes))
      this.#held = longer
    }
    this.#wanted = bytes
  }

  #reset(): void {
    this.#heldBytes = 0
    this.#wanted = HEADER_BYTES
  }

  #handOn(code: number, body: Buffer): void {
    if (code !== COPY_DATA) {
      this.#handler.message(code, body)
      return
    }
    if (body[0] !== KIND_KEEPALIVE || body.length !== KEEPALIVE_BYTES) {
      throw new ProtocolError(`copied data of kind ${body[0]} and ${body.length} bytes`)
    }
    this.#handler.keepalive(lsn(body.readBigUInt64BE(1)), body[KEEPALIVE_BYTES - 1] === 1)
  }
}

/** A simple query: the only form in which a WAL sender takes its commands. */
export function encodeQuery(text: string): Buffer {
  const bytes = Buffer.from(`${text}\0`)
  const message = Buffer.alloc(HEADER_BYTES + bytes.length)
  message.write('Q')
  message.writeUInt32BE(4 + bytes.length, 1)
  message.set(bytes, HEADER_BYTES)
  return message
}

export function encodeCopyDone(): Buffer {
  return Buffer.from([0x63, 0, 0, 0, 4])
}

export interface StandbyStatus {
  readonly written: Lsn
  readonly flushed: Lsn
  /** Since 1970. */
  readonly atMs: number
  readonly wantsReply: boolean
}

const STATUS_BYTES = 34
const POSTGRES_EPOCH_MS = 946_684_800_000

/** Standby status update, without a position of replay: nothing is applied here. */
export function encodeStatus({ written, flushed, atMs, wantsReply }: StandbyStatus): Buffer {
  const message = Buffer.alloc(HEADER_BYTES + STATUS_BYTES)
  message[0] = COPY_DATA
  message.writeUInt32BE(4 + STATUS_BYTES, 1)
  message.write('r', HEADER_BYTES)
  message.writeBigUInt64BE(written, 6)
  message.writeBigUInt64BE(flushed, 14)
  message.writeBigUInt64BE(0n, 22)
  message.writeBigInt64BE(BigInt(Math.trunc(atMs) - POSTGRES_EPOCH_MS) * 1000n, 30)
  message[HEADER_BYTES + STATUS_BYTES - 1] = wantsReply ? 1 : 0
  return message
}

/** Names of the columns of a RowDescription. */
export function parseRowDescription(body: Buffer): string[] {
  const names: string[] = []
  let at = 2
  for (let left = body.readUInt16BE(0); left > 0; left--) {
    const end = body.indexOf(0, at)
    names.push(body.toString('utf8', at, end))
    at = end + 1 + 18
  }
  return names
}

/** Fields of a DataRow, as the bytes that they are. */
export function parseDataRow(body: Buffer): (Buffer | undefined)[] {
  const fields: (Buffer | undefined)[] = []
  let at = 2
  for (let left = body.readUInt16BE(0); left > 0; left--) {
    const length = body.readInt32BE(at)
    at += 4
    fields.push(length < 0 ? undefined : body.subarray(at, at + length))
    at += Math.max(length, 0)
  }
  return fields
}

/** An ErrorResponse, as the errors of `pg` are: by SQLSTATE, severity and routine. */
export function parseServerError(body: Buffer): ServerError {
  const fields = new Map<string, string>()
  let at = 0
  while (at < body.length && body[at] !== 0) {
    const end = body.indexOf(0, at + 1)
    fields.set(String.fromCharCode(body[at] as number), body.toString('utf8', at + 1, end))
    at = end + 1
  }
  const [routine, detail] = [fields.get('R'), fields.get('D')]
  return Object.assign(new Error(fields.get('M') ?? ''), {
    code: fields.get('C') ?? '',
    severity: fields.get('V') ?? fields.get('S') ?? '',
    ...(routine === undefined ? {} : { routine }),
    ...(detail === undefined ? {} : { detail }),
  })
}
