/**
 * `wal get`: brings one file out of the archive.
 *
 * Invariants: bytes that are handed out have passed both hashes; `absent` is answered only
 * when every storage that knows the server has proved it, since PostgreSQL takes it for the end
 * of WAL and promotes. Everything else is a failure (docs/design/wal-archive.md, section 4).
 */
import { monotonicMs, sleep } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { unknownSystem, findSystemIdentity } from '../repository/system-identity.ts'
import type { PassedOverListener } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { findSegmentAfter } from './list-segments.ts'
import { listTails } from './tail-keys.ts'
import { parseWalFileName, partialPrefix, type WalFileName, walKey } from './wal-file-name.ts'
import { decodeWalObject, type ExpectedWalObject, type WalObject } from './wal-object.ts'
import { writeDestination } from './write-destination.ts'

export interface FetchWalOptions {
  /** Asked in this order; the first whole copy is taken. */
  readonly storages: readonly Storage[]
  readonly cluster: string
  /** Decimal. */
  readonly systemIdentifier: string
  readonly name: string
  readonly destination: string
  /**
   * What a missing segment is when later ones of its timeline are archived: `fail`
   * (TM1408) for a recovery, `absent` for a standby that can stream it instead.
   */
  readonly holes?: 'fail' | 'absent'
  /** How long a hole is looked at again before it is called one; 0 unless given. */
  readonly holePatienceMs?: number
  /** Fsync file and directory; PostgreSQL does it itself for what it restores. */
  readonly durable?: boolean
  /** Hears of a damaged or unreachable copy that another storage made good. */
  readonly onWarning?: (failure: Failure) => void
  /** The same, with the storages that failed and helped. */
  readonly onPassedOver?: PassedOverListener
}

export type FetchOutcome = 'fetched' | 'absent'

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 800

export async function fetchWalFile(options: FetchWalOptions): Promise<FetchOutcome> {
  const found = await findPatiently(options)
  if (found === undefined) return 'absent'
  await writeDestination(options.destination, found.content, options.durable === true)
  return 'fetched'
}

/**
 * Segments are stored several at once: one may be missing between its neighbours because it is on
 * its way. Only the refusal waits; what was seen to be a hole never becomes absent.
 */
async function findPatiently(options: FetchWalOptions): Promise<WalObject | undefined> {
  const { holePatienceMs = 0 } = options
  const beganMs = monotonicMs()
  let seen: unknown
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const warnings: Failure[] = []
    const looking = { ...options, onWarning: (failure: Failure) => warnings.push(failure) }
    const found = await findWalFile(looking).catch((error: unknown) => {
      seen = error
      return undefined
    })
    const isLate = monotonicMs() - beganMs + pauseMs > holePatienceMs
    if (found === undefined && isHole(seen) && !isLate) {
      await sleep(pauseMs)
      continue
    }
    warn(options, warnings)
    if (found === undefined && seen !== undefined) throw seen
    return found
  }
}

/**
 * The verified file; undefined only when every storage that knows the server proved that it is
 * absent. One that was never told of it, being new, says nothing about its WAL; TM1407 when none
 * was.
 */
export async function findWalFile(
  options: Omit<FetchWalOptions, 'destination' | 'durable'>,
): Promise<WalObject | undefined> {
  return await findWalObject(options, decodeWalObject)
}

/** Makes something of an object's bytes that it has verified; TM1601 asks for another copy. */
export type WalObjectUse<T> = (
  key: string,
  bytes: Uint8Array,
  expected: ExpectedWalObject,
) => T | Promise<T>

/** The same with what `use` makes of the object. */
export async function findWalObject<T>(
  options: Omit<FetchWalOptions, 'destination' | 'durable'>,
  use: WalObjectUse<T>,
): Promise<T | undefined> {
  const request = requireRequest(options.name)
  const failures: unknown[] = []
  const failed: { readonly url: string; readonly failure: Failure }[] = []
  if (options.storages.length === 0) throw new Error('no storage to fetch from')
  for (const storage of options.storages) {
    try {
      const found = await findInStorage(storage, options, request, use)
      if (found !== undefined) {
        warn(options, failures.filter(isTelling))
        for (const { url, failure } of failed) {
          const because = failure.because ?? failure.message
          options.onPassedOver?.({ url, key: options.name, because, takenFrom: storage.url })
        }
        return found
      }
    } catch (error) {
      failures.push(error)
      if (isFailure(error) && isTelling(error)) failed.push({ url: storage.url, failure: error })
    }
  }
  const telling = failures.filter(isTelling)
  if (telling.length === 0 && failures.length < options.storages.length) return undefined
  const [first] = [...telling.filter((failure) => !isHole(failure)), ...telling, ...failures]
  warn(
    options,
    failures.filter((failure) => failure !== first),
  )
  throw first
}

function isTelling(error: unknown): boolean {
  return !isFailure(error, 'TM1407')
}

function isHole(error: unknown): boolean {
  return isFailure(error, 'TM1408')
}

function warn(options: Pick<FetchWalOptions, 'onWarning'>, failures: readonly unknown[]): void {
  for (const failure of failures) {
    if (failure instanceof Failure) options.onWarning?.(failure)
  }
}

/** A partial may be asked for by name alone, or by name and hash. */
interface Request {
  readonly file: WalFileName
  readonly hash: string | undefined
}

function requireRequest(name: string): Request {
  const match = /^(.*\.partial)-([0-9a-f]{16})$/.exec(name)
  const file = parseWalFileName(match?.[1] ?? name)
  if (file !== undefined) return { file, hash: match?.[2] }
  throw new Failure('TM1401', {
    message: `'${name}' is not the name of a WAL file`,
    because: 'PostgreSQL asks for segments (24 hexadecimal digits), .history and .backup files',
    fix: 'check restore_command: it must pass %f as the name',
    details: { name },
  })
}

async function findInStorage<T>(
  storage: Storage,
  options: Omit<FetchWalOptions, 'destination'>,
  request: Request,
  use: WalObjectUse<T>,
): Promise<T | undefined> {
  const expected = {
    systemIdentifier: options.systemIdentifier,
    name: request.file.name,
  }
  const key = await findKey(storage, options, request)
  const bytes = key === undefined ? undefined : await storage.read(key)
  if (key !== undefined && bytes !== undefined) return await use(key, bytes, expected)
  const later = await findLater(storage, options, request)
  if (later !== undefined && key !== undefined) {
    // Segments are archived in order: seen after a later one, it was no hole.
    const again = await storage.read(key)
    if (again !== undefined) return await use(key, again, expected)
    throw hole(storage, request.file.name, later)
  }
  const listed = await findListed(storage, options, request)
  if (listed === undefined) return undefined
  // Archived between the read and the listing, or the storage contradicts itself.
  const late = await storage.read(listed)
  if (late === undefined) throw inconsistent(storage, listed)
  return await use(listed, late, expected)
}

/** A later segment of the same timeline, where that makes its absence a hole. */
async function findLater(
  storage: Storage,
  options: Omit<FetchWalOptions, 'destination'>,
  request: Request,
): Promise<string | undefined> {
  if (request.file.kind !== 'segment' || options.holes === 'absent') return undefined
  const { cluster, systemIdentifier } = options
  const { name } = request.file
  const later = await findSegmentAfter(storage, cluster, systemIdentifier, name)
  if (later !== undefined) return later
  // What was flushed of a later one says the same, unless it was flushed of this one, too.
  const tails = (await listTails(storage, cluster, systemIdentifier)).map(({ segment }) => segment)
  if (tails.includes(name)) return undefined
  return tails.find((one) => one.slice(0, 8) === name.slice(0, 8) && one > name)
}

/** Undefined: no partial of that name. */
async function findKey(
  storage: Storage,
  options: Omit<FetchWalOptions, 'destination'>,
  request: Request,
): Promise<string | undefined> {
  const { cluster, systemIdentifier } = options
  if (request.file.kind !== 'partial' || request.hash !== undefined) {
    return walKey(cluster, systemIdentifier, request.file, request.hash ?? '')
  }
  const keys: string[] = []
  const prefix = partialPrefix(cluster, systemIdentifier, request.file.name)
  for await (const object of storage.list(prefix)) keys.push(object.key)
  if (keys.length <= 1) return keys[0]
  throw new Failure('TM1402', {
    message: `${keys.length} files with the name ${request.file.name} are archived`,
    because: 'several servers or promotions left this segment unfinished, each its own way',
    fix: `name one of them: ${keys.map((key) => key.slice(key.lastIndexOf('/') + 1)).join(', ')}`,
    details: { keys },
  })
}

/**
 * The read found nothing. It is absent (undefined) if a listing agrees, and if the
 * repository still proves to be the one that knows this server.
 */
async function findListed(
  storage: Storage,
  options: Omit<FetchWalOptions, 'destination'>,
  request: Request,
): Promise<string | undefined> {
  const { cluster, systemIdentifier } = options
  const { file } = request
  const key = walKey(cluster, systemIdentifier, file, request.hash ?? '')
  for await (const object of storage.list(key)) {
    const ofPartial = file.kind === 'partial' && request.hash === undefined
    if (object.key === key || ofPartial) return object.key
  }
  const identity = await findSystemIdentity(storage, cluster, systemIdentifier)
  if (identity === undefined) throw unknownSystem(storage, cluster, systemIdentifier)
  return undefined
}

export function hole(storage: Storage, name: string, later: string): Failure {
  return new Failure('TM1408', {
    message: `the WAL segment ${name} is missing from the archive`,
    because: `${storage.url} holds ${later} after it, so this is a hole and not the end of WAL`,
    fix:
      `bring it from the pg_wal of the server or of a standby: tidemark wal push FILE; ` +
      'or recover to a moment before it (--to end-of:gap)',
    details: { name, later, url: storage.url },
  })
}

function inconsistent(storage: Storage, key: string): Failure {
  return new Failure('TM1501', {
    message: `${storage.url} lists ${key} but does not hand it out`,
    because: 'its listing and its reads do not agree',
    fix: 'try again; look at the storage when it stays so',
    details: { key },
  })
}
