/**
 * Streams a server's WAL into a sink out of its pg_wal, up to what the server has flushed: what
 * a receiver does, without the protocol.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import {
  formatSegmentName,
  type Lsn,
  lsn,
  parseLsn,
  segmentNumber,
  segmentStart,
  type Timeline,
} from '../../src/postgres/lsn.ts'
import type { WalSink } from '../../src/receive/wal-sink.ts'
import type { PostgresServer } from './postgres-server.ts'

export class WalFeeder {
  readonly #server: PostgresServer
  readonly #sink: WalSink
  readonly #sizeBytes: number
  #timeline: Timeline
  #at: Lsn

  constructor(server: PostgresServer, sink: WalSink, sizeBytes: number, from: Start) {
    this.#server = server
    this.#sink = sink
    this.#sizeBytes = sizeBytes
    this.#timeline = from.timeline
    this.#at = from.lsn
  }

  /** Everything that the server has flushed; the LSN up to which it is durable. */
  async feed(): Promise<Lsn> {
    const [row] = await this.#server.sql<{ lsn: string }>(
      'SELECT pg_current_wal_flush_lsn()::text AS lsn',
    )
    this.appendTo(parseLsn(row?.lsn ?? '') as Lsn)
    return await this.#sink.flush()
  }

  appendTo(end: Lsn): void {
    while (this.#at < end) {
      const segment = segmentNumber(this.#at, this.#sizeBytes)
      const next = segmentStart(segment + 1n, this.#sizeBytes)
      const until = end < next ? end : next
      const bytes = Buffer.alloc(Number(until - this.#at))
      const name = formatSegmentName(this.#timeline, segment, this.#sizeBytes)
      const fd = openSync(join(this.#server.dataDirectory, 'pg_wal', name), 'r')
      try {
        const offset = Number(this.#at - segmentStart(segment, this.#sizeBytes))
        readSync(fd, bytes, 0, bytes.length, offset)
      } finally {
        closeSync(fd)
      }
      this.#sink.append(this.#timeline, this.#at, bytes)
      this.#at = lsn(this.#at + BigInt(bytes.length))
    }
  }

  /** From the start of the segment in which the new timeline begins. */
  switchTo(timeline: Timeline, fork: Lsn): void {
    this.#timeline = timeline
    this.#at = segmentStart(segmentNumber(fork, this.#sizeBytes), this.#sizeBytes)
  }
}

interface Start {
  readonly timeline: Timeline
  /** The start of a segment that the server still has. */
  readonly lsn: Lsn
}
