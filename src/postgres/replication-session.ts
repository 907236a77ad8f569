/**
 * One replication connection: commands one after the other, then a stream of WAL.
 *
 * Invariant: a connection that was lost, or on which something unexpected was said, stays
 * lost; whoever waits on it hears why. The socket comes from `pg`, which never reads from it again
 * (docs/design/receive.md, section 2).
 */
import type { Duplex } from 'node:stream'
import { afterReads, monotonicMs, now } from '../base/clock.ts'
import { describeSystemError, Failure, isFailure } from '../base/failure.ts'
import {
  describeAddress,
  isServerError,
  type ServerError,
  sessionLost,
  translateQueryError,
} from './connect-failure.ts'
import { type Connected, connectServer } from './connect-server.ts'
import { type ConnectionDefaults, parseConnectionUrl } from './connection-url.ts'
import { type Lsn, lsn, parseLsn, type Timeline } from './lsn.ts'
import {
  encodeCopyDone,
  encodeQuery,
  encodeStatus,
  parseDataRow,
  parseRowDescription,
  parseServerError,
  ProtocolError,
  ReplicationReader,
} from './replication-messages.ts'

export interface ReplicationOptions {
  readonly connection: string
  /** What synchronous_standby_names knows us by. */
  readonly applicationName: string
  readonly defaults?: ConnectionDefaults
}

export interface SystemAnswer {
  readonly systemIdentifier: string
  readonly timeline: Timeline
  /** End of flushed WAL; on a standby of what was received or replayed. */
  readonly flushLsn: Lsn
}

/** Hears the stream. Whatever it throws ends the connection and is what `ended` rejects with. */
export interface WalListener {
  /** `bytes` are valid only during the call. `walEnd`: where WAL ends at the server. */
  wal(start: Lsn, bytes: Uint8Array, walEnd: Lsn): void
  keepalive(walEnd: Lsn, replyRequested: boolean): void
  /** The socket has given all that it had for now. */
  drained(): void
}

export interface StreamStart {
  readonly slot: string | undefined
  readonly lsn: Lsn
  readonly timeline: Timeline
}

/** Where the server's history goes on after a timeline that has ended. */
export interface NextTimeline {
  readonly timeline: Timeline
  readonly startLsn: Lsn
}

export interface WalStream {
  /** The next timeline, or undefined when stop() ended the stream. Rejects when it was lost. */
  readonly ended: Promise<NextTimeline | undefined>
  report(written: Lsn, flushed: Lsn, wantsReply?: boolean): void
  pause(): void
  resume(): void
  stop(): void
}

type ResultRow = ReadonlyMap<string, Buffer | undefined>

/** TM1420 when the role may not stream; else as openServerSession(). */
export async function openReplicationSession(
  options: ReplicationOptions,
): Promise<ReplicationSession> {
  const target = parseConnectionUrl(options.connection, options.defaults)
  try {
    const connected = await connectServer(target, options.applicationName, 'replication')
    return new ReplicationSession(connected)
  } catch (error) {
    throw translateConnect(error)
  }
}

/** `pg` cannot know that it was a replication connection which was refused. */
function translateConnect(error: unknown): unknown {
  if (!isFailure(error) || !isServerError(error.cause)) return error
  const { code, message, routine } = error.cause
  const isPrivilege = code === '42501'
  const isHba = code === '28000' && routine === 'ClientAuthentication'
  if (!isPrivilege && !isHba) return error
  const user = String(error.details?.['user'] ?? '')
  return new Failure('TM1420', {
    message: `role ${user} may not stream WAL from this server`,
    because: `the server says: ${message}`,
    fix: isPrivilege
      ? `ALTER ROLE "${user}" REPLICATION`
      : `add a line for it to pg_hba.conf: host replication ${user} ADDRESS scram-sha-256`,
    cause: error.cause,
  })
}

/** What waits for the answer to a command. */
interface Waiting {
  readonly what: string
  columns: readonly string[]
  readonly rows: ResultRow[]
  error: ServerError | undefined
  readonly finish: () => void
  readonly fail: (error: unknown) => void
}

export class ReplicationSession {
  readonly address: string
  readonly #connected: Connected
  readonly #socket: Duplex
  readonly #reader: ReplicationReader
  #waiting: Waiting | undefined
  #listener: WalListener | undefined
  /** Called when the server has begun to copy. */
  #onCopy: (() => void) | undefined
  #lost: unknown
  #isClosing = false
  #heardAtMs = monotonicMs()
  #isDrainPending = false
  #hasSaidDone = false

  constructor(connected: Connected) {
    this.#connected = connected
    this.address = describeAddress(connected.address)
    this.#socket = connected.client.connection.stream
    this.#reader = new ReplicationReader({
      wal: (start, bytes, end) => this.#requireListener().wal(start, bytes, end),
      keepalive: (end, wantsReply) => this.#requireListener().keepalive(end, wantsReply),
      message: (type, body) => this.#hear(type, body),
    })
    connected.takeOver((chunk) => this.#read(chunk))
    connected.client.on('error', (error) => this.#lose(error))
    connected.client.on('end', () => this.#lose(undefined))
  }

  /** When the last byte came (monotonicMs). */
  get heardAtMs(): number {
    return this.#heardAtMs
  }

  async identify(): Promise<SystemAnswer> {
    const [row] = await this.#command('IDENTIFY_SYSTEM', 'say which system it is')
    const systemIdentifier = textOf(row, 'systemid')
    const flushLsn = parseLsn(textOf(row, 'xlogpos'))
    const timeline = Number(textOf(row, 'timeline'))
    if (flushLsn === undefined) throw new ProtocolError('IDENTIFY_SYSTEM without a position')
    return { systemIdentifier, timeline, flushLsn }
  }

  /** The value of a setting, as SHOW says it. */
  async show(setting: string): Promise<string> {
    const [row] = await this.#command(`SHOW ${setting}`, `show ${setting}`)
    return textOf(row, setting)
  }

  /** The history file of a timeline to the byte; undefined when the server has none. */
  async findHistory(timeline: Timeline): Promise<Buffer | undefined> {
    try {
      const [row] = await this.#command(
        `TIMELINE_HISTORY ${timeline}`,
        `give the history of timeline ${timeline}`,
      )
      return row?.get('content')
    } catch (error) {
      if (isRefusal(error, '58P01')) return undefined
      throw error
    }
  }

  /** Fulfilled when the server streams, or has nothing to stream because the timeline ends here. */
  async startStreaming(start: StreamStart, listener: WalListener): Promise<WalStream> {
    const slot = start.slot === undefined ? '' : `SLOT ${quoteName(start.slot)} `
    const at = `${(start.lsn >> 32n).toString(16)}/${(start.lsn & 0xffffffffn).toString(16)}`
    const text = `START_REPLICATION ${slot}PHYSICAL ${at} TIMELINE ${start.timeline}`
    this.#listener = listener
    this.#hasSaidDone = false
    const copying = new Promise<void>((resolve) => {
      this.#onCopy = resolve
    })
    const ended = this.#command(text, 'stream WAL').then(nextTimelineOf)
    // Whoever waits for it hears of it; until then it is no unhandled rejection.
    ended.catch(() => {})
    await Promise.race([copying, ended])
    return {
      ended,
      report: (written, flushed, wantsReply = false) => this.#report(written, flushed, wantsReply),
      pause: () => this.#socket.pause(),
      resume: () => this.#resume(),
      stop: () => this.#sayDone(),
    }
  }

  /** Ends the connection at once, because of `error`. */
  abandon(error: unknown): void {
    this.#lose(error)
    this.#socket.destroy()
  }

  async close(): Promise<void> {
    this.#isClosing = true
    // A connection that is gone already, or paused, is not waited for.
    this.#socket.resume()
    const end = this.#connected.client.end().catch(() => {})
    if (this.#lost !== undefined) this.#socket.destroy()
    await end
  }

  async #command(text: string, what: string): Promise<readonly ResultRow[]> {
    if (this.#lost !== undefined) throw this.#lost
    if (this.#waiting !== undefined) throw new Error('a command is still running')
    return await new Promise((resolve, reject) => {
      const rows: ResultRow[] = []
      const finish = (): void => resolve(rows)
      this.#waiting = { what, columns: [], rows, error: undefined, finish, fail: reject }
      this.#socket.write(encodeQuery(text))
    })
  }

  #read(chunk: Uint8Array): void {
    this.#heardAtMs = monotonicMs()
    if (this.#lost !== undefined) return
    try {
      this.#reader.feed(chunk)
    } catch (error) {
      const isForeign = error instanceof ProtocolError
      this.abandon(isForeign ? notTheProtocol(this.address, error) : error)
      return
    }
    this.#tellWhenDrained()
  }

  /** Several chunks in one turn of the event loop drain once. */
  #tellWhenDrained(): void {
    if (this.#isDrainPending || this.#listener === undefined) return
    this.#isDrainPending = true
    afterReads(() => {
      this.#isDrainPending = false
      try {
        if (this.#lost === undefined) this.#listener?.drained()
      } catch (error) {
        this.abandon(error)
      }
    })
  }

  #hear(type: number, body: Buffer): void {
    switch (String.fromCharCode(type)) {
      case 'T':
        this.#requireWaiting().columns = parseRowDescription(body)
        return
      case 'D':
        this.#addRow(body)
        return
      case 'E':
        this.#hearError(parseServerError(body))
        return
      case 'W':
        this.#onCopy?.()
        return
      case 'c':
        this.#sayDone()
        return
      case 'Z':
        this.#finish()
        return
      case 'C':
      case 'N':
      case 'S':
        return
      default:
        throw new ProtocolError(`an unexpected message of type ${type}`)
    }
  }

  #addRow(body: Buffer): void {
    const waiting = this.#requireWaiting()
    const fields = parseDataRow(body)
    waiting.rows.push(new Map(waiting.columns.map((name, index) => [name, fields[index]])))
  }

  /** FATAL is followed by the end of the connection, ERROR by "ready". */
  #hearError(error: ServerError): void {
    if (this.#waiting !== undefined) this.#waiting.error = error
    const isLast = error.severity === 'FATAL' || error.severity === 'PANIC'
    if (isLast || this.#waiting === undefined) this.#lose(error)
  }

  #finish(): void {
    const waiting = this.#requireWaiting()
    this.#waiting = undefined
    this.#listener = undefined
    const { error, what } = waiting
    if (error === undefined) waiting.finish()
    else waiting.fail(translateQueryError(error, this.#connected.address.user, what))
  }

  #lose(error: unknown): void {
    if (this.#lost !== undefined) return
    this.#lost = this.#translateLoss(error)
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.fail(this.#lost)
  }

  #translateLoss(error: unknown): unknown {
    if (error instanceof Failure || this.#isClosing) return error ?? sessionLost('it was closed')
    const said = this.#waiting?.error
    const cause = said ?? error
    if (isServerError(cause)) return sessionLost(`the server says: ${cause.message}`, cause)
    if (cause === undefined) return sessionLost('the server closed it')
    const isSystem = typeof (cause as NodeJS.ErrnoException).code === 'string'
    const isPg = cause instanceof Error && cause.message.startsWith('Connection terminated')
    return isSystem || isPg ? sessionLost(describeSystemError(cause), cause) : cause
  }

  #report(written: Lsn, flushed: Lsn, wantsReply: boolean): void {
    if (this.#lost !== undefined || this.#hasSaidDone || this.#listener === undefined) return
    this.#socket.write(encodeStatus({ written, flushed, wantsReply, atMs: now().getTime() }))
  }

  /** What was read while paused counts as heard. */
  #resume(): void {
    this.#heardAtMs = monotonicMs()
    this.#socket.resume()
  }

  #sayDone(): void {
    if (this.#hasSaidDone || this.#lost !== undefined) return
    this.#hasSaidDone = true
    this.#socket.write(encodeCopyDone())
  }

  #requireListener(): WalListener {
    if (this.#listener === undefined) throw new ProtocolError('WAL that nobody asked for')
    return this.#listener
  }

  #requireWaiting(): Waiting {
    if (this.#waiting === undefined) throw new ProtocolError('an answer to no question')
    return this.#waiting
  }
}

/** Did the server refuse a command with this SQLSTATE? */
export function isRefusal(error: unknown, sqlState: string): boolean {
  return isFailure(error) && isServerError(error.cause) && error.cause.code === sqlState
}

/** Did the server say that WAL is gone? PostgreSQL: WalSndSegmentOpen, CheckXLogRemoved. */
export function isWalRemoved(error: unknown): boolean {
  if (!isFailure(error) || !isServerError(error.cause)) return false
  const { code, routine } = error.cause
  return routine === 'CheckXLogRemoved' || (code === '58P01' && routine === 'WalSndSegmentOpen')
}

function nextTimelineOf(rows: readonly ResultRow[]): NextTimeline | undefined {
  const [row] = rows
  if (row === undefined) return undefined
  const startLsn = parseLsn(textOf(row, 'next_tli_startpos'))
  if (startLsn === undefined) throw new ProtocolError('a timeline without a beginning')
  return { timeline: Number(textOf(row, 'next_tli')), startLsn: lsn(startLsn) }
}

function textOf(row: ResultRow | undefined, column: string): string {
  const field = row?.get(column)
  if (field === undefined) throw new ProtocolError(`an answer without ${column}`)
  return field.toString('utf8')
}

/** As an identifier, which the grammar of every version takes. */
function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function notTheProtocol(address: string, error: ProtocolError): Failure {
  return new Failure('TM1421', {
    message: `what answers at ${address} does not speak the replication protocol`,
    because: `it sent ${error.message}`,
    fix: 'connect to the server itself, not to a pooler or proxy that changes messages',
    cause: error,
  })
}
