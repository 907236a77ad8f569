/** A receiver in the test's own process, on a repository in a directory. */
import type { Failure } from '../../src/base/failure.ts'
import { formatLsn, formatSegmentName, type Lsn } from '../../src/postgres/lsn.ts'
import type { ReceiveEvent, ReceiveOptions } from '../../src/receive/receive-options.ts'
import { receiveWal } from '../../src/receive/receive-wal.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { ensureSystemIdentity } from '../../src/repository/system-identity.ts'
import { decodeWalObject } from '../../src/archive/wal-object.ts'
import { segmentKey } from '../../src/archive/wal-file-name.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import type { PostgresServer } from './postgres-server.ts'
import { temporaryDirectory } from './temporary-directory.ts'

export const CLUSTER = 'main'

export interface TestArchive {
  readonly storage: Storage
  readonly systemIdentifier: string
  readonly walSegmentSizeBytes: number
  /** The whole segment as it is archived, or undefined. */
  segment(timeline: number, segment: bigint): Promise<Buffer | undefined>
}

export async function makeArchive(server: PostgresServer): Promise<TestArchive> {
  const storage = await openStorage({ url: `file://${temporaryDirectory()}/repository` })
  await createRepository(storage, new Date())
  const [row] = await server.sql<{ id: string; size: number }>(
    `SELECT system_identifier::text AS id,
            (SELECT setting::int FROM pg_settings WHERE name = 'wal_segment_size') AS size
       FROM pg_control_system()`,
  )
  if (row === undefined) throw new Error('no control file')
  const { id: systemIdentifier, size: walSegmentSizeBytes } = row
  const createdAt = '2026-01-01T00:00:00Z'
  const identity = { systemIdentifier, major: server.major, walSegmentSizeBytes, createdAt }
  await ensureSystemIdentity(storage, CLUSTER, identity)
  return {
    storage,
    systemIdentifier,
    walSegmentSizeBytes,
    async segment(timeline, segment) {
      const name = formatSegmentName(timeline, segment, walSegmentSizeBytes)
      const key = segmentKey(CLUSTER, systemIdentifier, name)
      const bytes = await storage.read(key)
      return bytes === undefined ? undefined : Buffer.from(decodeWalObject(key, bytes).content)
    },
  }
}

export interface TestReceiver extends AsyncDisposable {
  readonly events: readonly ReceiveEvent[]
  readonly flushed: () => Lsn
  /** Fulfilled once it is true; rejects when the receiver has ended with a failure. */
  until(isTrue: () => boolean | Promise<boolean>): Promise<void>
  heard(kind: ReceiveEvent['kind']): number
  failures(): Failure[]
  /** Ends it as SIGTERM does; rejects with what it failed with. */
  stop(): Promise<void>
  readonly done: Promise<unknown>
}

/** Only to end a test that hangs, with what the receiver did. */
const PATIENCE_MS = 60_000

function describe(events: readonly ReceiveEvent[]): string {
  const show = (_key: string, value: unknown): unknown => {
    if (typeof value === 'bigint') return formatLsn(value as Lsn)
    return value instanceof Error ? { ...value, message: value.message } : value
  }
  return events
    .slice(-30)
    .map((event) => JSON.stringify(event, show))
    .join('\n')
}

export function startReceiver(
  { storage }: TestArchive,
  connections: readonly [string, ...string[]],
  options: Partial<ReceiveOptions> = {},
): TestReceiver {
  const events: ReceiveEvent[] = []
  const end = new AbortController()
  let flushed = 0n as Lsn
  let failure: unknown
  const done = receiveWal({
    cluster: CLUSTER,
    connections,
    slot: 'tidemark_main',
    applicationName: 'tidemark',
    required: [storage],
    others: [],
    synchronous: false,
    signal: end.signal,
    onEvent(event) {
      if (event.kind === 'position') flushed = event.position.flushed
      else events.push(event)
    },
    ...options,
    timing: { retryMs: [20, 500], ...options.timing },
  })
  done.catch((error: unknown) => {
    failure = error
  })
  const stop = async (): Promise<void> => {
    end.abort()
    await done
  }
  return {
    events,
    done,
    flushed: () => flushed,
    heard: (kind) => events.filter((event) => event.kind === kind).length,
    failures: () => events.flatMap((event) => ('failure' in event ? [event.failure] : [])),
    stop,
    async until(isTrue) {
      const limit = Date.now() + PATIENCE_MS
      while (!(await isTrue())) {
        if (failure !== undefined) throw failure
        if (Date.now() > limit) throw new Error(`still waiting after\n${describe(events)}`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    },
    async [Symbol.asyncDispose]() {
      end.abort()
      await done.catch(() => {})
    },
  }
}
