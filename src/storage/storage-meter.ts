/**
 * Counts what a process asks of a storage, over all its threads: calls of the interface,
 * bytes of objects, and the requests that an object store was really sent, attempts that
 * failed included.
 *
 * Invariant: counting changes nothing and never waits.
 */
const CALLS = [
  'read',
  'readRange',
  'size',
  'list',
  'write',
  'openWriter',
  'commit',
  'abort',
  'confirmDurable',
  'remove',
  'removeMany',
  'removeLeftovers',
  'freeBytes',
] as const

/** Names of S3's operations; what is not among them counts as `other`. */
const REQUESTS = [
  'GetObject',
  'HeadObject',
  'PutObject',
  'ListObjectsV2',
  'DeleteObject',
  'DeleteObjects',
  'CreateMultipartUpload',
  'UploadPart',
  'CompleteMultipartUpload',
  'AbortMultipartUpload',
  'ListMultipartUploads',
  'other',
] as const

export type StorageCall = (typeof CALLS)[number]

const BYTES_READ = CALLS.length + REQUESTS.length
const BYTES_WRITTEN = BYTES_READ + 1

/** Plain data that may be posted to threads, which then count together. */
export interface StorageMeter {
  readonly counters: SharedArrayBuffer
}

export interface StorageCounts {
  /** By operation, those that were called. A failed call counts as a call. */
  readonly calls: ReadonlyMap<string, number>
  /** By S3's operation; empty where there is no object store. */
  readonly requests: ReadonlyMap<string, number>
  readonly bytesRead: number
  readonly bytesWritten: number
}

export function makeStorageMeter(): StorageMeter {
  return { counters: new SharedArrayBuffer((BYTES_WRITTEN + 1) * 8) }
}

export function countCall(meter: StorageMeter, call: StorageCall): void {
  add(meter, CALLS.indexOf(call), 1)
}

/** `command` as the SDK names it: `GetObjectCommand`. */
export function countRequest(meter: StorageMeter, command: string): void {
  const name = command.replace(/Command$/, '')
  const known = (REQUESTS as readonly string[]).indexOf(name)
  add(meter, CALLS.length + (known < 0 ? REQUESTS.length - 1 : known), 1)
}

export function countBytesRead(meter: StorageMeter, bytes: number): void {
  add(meter, BYTES_READ, bytes)
}

export function countBytesWritten(meter: StorageMeter, bytes: number): void {
  add(meter, BYTES_WRITTEN, bytes)
}

export function readMeter({ counters }: StorageMeter): StorageCounts {
  const counts = [...new BigInt64Array(counters)].map(Number)
  const named = (names: readonly string[], from: number): ReadonlyMap<string, number> =>
    new Map(
      names
        .map((name, number) => [name, counts[from + number] as number] as const)
        .filter(([, count]) => count > 0),
    )
  return {
    calls: named(CALLS, 0),
    requests: named(REQUESTS, CALLS.length),
    bytesRead: counts[BYTES_READ] as number,
    bytesWritten: counts[BYTES_WRITTEN] as number,
  }
}

function add({ counters }: StorageMeter, at: number, amount: number): void {
  Atomics.add(new BigInt64Array(counters), at, BigInt(amount))
}

const meters = new Map<string, StorageMeter>()

/** The one meter of this process for a repository: however often it is opened. */
export function meterOf(url: string): StorageMeter {
  const known = meters.get(url)
  if (known !== undefined) return known
  const meter = makeStorageMeter()
  meters.set(url, meter)
  return meter
}

/** What this process has asked so far, by URL. */
export function readMeters(): ReadonlyMap<string, StorageCounts> {
  return new Map([...meters].map(([url, meter]) => [url, readMeter(meter)]))
}
