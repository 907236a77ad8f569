/**
 * `wal push`: takes one file of a server into the archive of every repository.
 *
 * Invariant: it returns only when every required storage holds the file under its name, durable
 * and verified. What is refused although its server is known is in quarantine before the
 * failure is thrown. Order, races and crash windows: docs/design/wal-archive.md. This
 * module is started for every segment: it imports nothing that is slow to load.
 */
import { basename, dirname, resolve } from 'node:path'
import { Failure } from '../base/failure.ts'
import { parseHistoryFile, sameAncestors, type TimelineHistory } from '../postgres/history-file.ts'
import type { Timeline } from '../postgres/lsn.ts'
import {
  listSystemIdentities,
  readSystemIdentity,
  type SystemIdentity,
  unknownSystem,
} from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'
import type { EncodedSegment } from './codec/messages.ts'
import { badHistory, findArchivedHistory, findLocalHistory } from './find-history.ts'
import {
  type FirstPage,
  judgeFirstPage,
  judgeLength,
  judgePages,
  parseFirstPage,
} from './judge-segment.ts'
import { type OfferResult, offerWal } from './offer-wal.ts'
import { claimTimeline } from './claim-timeline.ts'
import { explainConflict } from './explain-conflict.ts'
import { findSystemIdentifier, notWhole, readWalFile } from './read-wal-file.ts'
import { dropOwnReservation } from './reservations.ts'
import { refuseRestoredCopy } from './restored-marker.ts'
import { quarantineWal, type StoreOutcome, storeWal, type WalToStore } from './store-wal.ts'
import { parseWalFileName, type WalFileKind, type WalFileName } from './wal-file-name.ts'
import { encodeWalObject, hashContent } from './wal-object.ts'
import { findLocalWriter, type LocalWriter } from './writer-identity.ts'

export interface PushWalOptions {
  /** All of them must take the file. */
  readonly storages: readonly Storage[]
  /** Shall take it, too; given up after a while (offer-wal.ts). */
  readonly others?: readonly Storage[]
  readonly patienceMs?: number
  readonly cluster: string
  /** As PostgreSQL hands it over (%p), or any file of that name. */
  readonly path: string
  /** Where the file comes from; the parent of the file's directory when not given. */
  readonly dataDirectory?: string
  /** Needed only for history and label files that lie in no data directory. */
  readonly systemIdentifier?: string
  /** A backup needs it: it is refused only where it contradicts the archive. */
  readonly isOfBackup?: boolean
  /** Hears of failures of further storages, when one has failed already. */
  readonly onWarning?: (failure: Failure) => void
}

export interface PushWalResult {
  readonly name: string
  readonly kind: WalFileKind
  readonly systemIdentifier: string
  readonly bytes: number
  readonly storedBytes: number
  readonly outcomes: readonly { readonly url: string; readonly outcome: StoreOutcome }[]
  /** What came of the others. */
  readonly offers: readonly OfferResult[]
}

export async function pushWalFile(options: PushWalOptions): Promise<PushWalResult> {
  const file = requireWalFileName(options.path)
  const dataDirectory = options.dataDirectory ?? resolve(options.path, '..', '..')
  const origin = await findOrigin(dataDirectory)
  return await pushSource(options, await readSource(options, file, dataDirectory), origin)
}

/** TM1405 for a restored copy. */
export async function findOrigin(dataDirectory: string): Promise<WalOrigin> {
  const restoreId = await refuseRestoredCopy(dataDirectory)
  return { restoreId, writer: await findLocalWriter(dataDirectory) }
}

/** The same of a file that was read already. */
export async function pushSource(
  options: PushWalOptions,
  read: WalSource,
  origin: WalOrigin,
): Promise<PushWalResult> {
  const source = { ...read, ...origin }
  const { file } = source
  const wal = toStore(options.cluster, source)
  const push = async (storage: Storage) => await pushToStorage(storage, options, source, wal)
  const offers = offerWal(options.others ?? [], push, options.patienceMs)
  const results = await Promise.allSettled(options.storages.map(push))
  reportFailures(results, options)
  const offered = await offers()
  return {
    name: file.name,
    kind: file.kind,
    systemIdentifier: source.systemIdentifier,
    bytes: source.bytes,
    storedBytes: wal.bytes().length,
    outcomes: results.flatMap((result, index) => {
      const url = (options.storages[index] as Storage).url
      return result.status === 'fulfilled' ? [{ url, outcome: result.value }] : []
    }),
    offers: offered,
  }
}

/** The directory that a file comes from. */
export interface WalOrigin {
  readonly writer: LocalWriter | undefined
  /** Of the restore that made the data directory. */
  readonly restoreId: string | undefined
}

type Source = WalSource & WalOrigin

/** A file of a server as it was read once, and what is to be known of it. */
export interface WalSource {
  readonly file: WalFileName
  readonly path: string
  readonly bytes: number
  readonly contentHash: string
  readonly systemIdentifier: string
  /** Of segments, and of partials that have one. */
  readonly page: FirstPage | undefined
  /** Of segments: what judgePages() says. */
  readonly pagesProblem: string | undefined
  /** The raw bytes; where a thread has encoded them, they are read again. */
  readonly content: () => Promise<Buffer>
  /** The WAL object; encoded when first asked, once for all storages. */
  readonly object: () => Uint8Array
}

function requireWalFileName(path: string): WalFileName {
  const name = basename(path)
  const file = parseWalFileName(name)
  if (file !== undefined) return file
  throw new Failure('TM1401', {
    message: `'${name}' is not the name of a WAL file`,
    because: 'PostgreSQL archives segments (24 hexadecimal digits), .partial, .history and .backup',
    fix: 'check archive_command: it must pass %p as the path',
    details: { path },
  })
}

async function readSource(
  options: PushWalOptions,
  file: WalFileName,
  dataDirectory: string,
): Promise<WalSource> {
  const { path } = options
  const content = await readWalFile(path)
  const page = hasPages(file) ? parseFirstPage(content) : undefined
  if (file.kind === 'segment') requireWholeSegment(path, content, page)
  const found = await findSystemIdentifier(dataDirectory)
  const stated = options.systemIdentifier ?? found
  const written = page?.long.systemIdentifier.toString()
  if (written !== undefined && stated !== undefined && written !== stated) {
    throw foreignWal(path, written, `the server here is ${stated}`)
  }
  const systemIdentifier = written ?? stated ?? (await onlyIdentity(options))
  const contentHash = hashContent(content)
  const headerTimeline: Timeline = page?.timeline ?? 0
  const raw = { systemIdentifier, name: file.name, headerTimeline, content }
  return {
    file,
    path,
    bytes: content.length,
    contentHash,
    systemIdentifier,
    page,
    pagesProblem:
      file.kind === 'segment' && page !== undefined
        ? judgePages(file.name, content, page)
        : undefined,
    content: async () => content,
    object: once(() => encodeWalObject(raw, contentHash)),
  }
}

/** A segment that a thread has read. TM1403 when it is of another server than `stated`. */
export function encodedSource(path: string, segment: EncodedSegment, stated: string): WalSource {
  const file = requireWalFileName(path)
  const { bytes, contentHash, page, pagesProblem, object } = segment
  const systemIdentifier = page.long.systemIdentifier.toString()
  if (systemIdentifier !== stated) {
    throw foreignWal(path, systemIdentifier, `the server here is ${stated}`)
  }
  const content = async (): Promise<Buffer> => {
    const again = await readWalFile(path)
    if (hashContent(again) === contentHash) return again
    throw notWhole(path, 'it changed after it was read')
  }
  const known = { file, path, bytes, contentHash, systemIdentifier, page, pagesProblem }
  return { ...known, content, object: () => object }
}

function once<T>(make: () => T): () => T {
  let made: T | undefined
  return () => {
    made ??= make()
    return made
  }
}

function hasPages(file: WalFileName): boolean {
  return file.kind === 'segment' || file.kind === 'partial'
}

function requireWholeSegment(path: string, content: Buffer, page: FirstPage | undefined): void {
  if (page === undefined) {
    throw notWhole(path, 'it does not begin with a WAL page of PostgreSQL 13 to 18')
  }
  const problem = judgeLength(content, page)
  if (problem !== undefined) throw notWhole(path, problem)
}

/** Of a history or label file that lies in no data directory. */
async function onlyIdentity(options: PushWalOptions): Promise<string> {
  const storage = options.storages[0] as Storage
  const identities = await listSystemIdentities(storage, options.cluster)
  const only = identities[0]
  if (identities.length === 1 && only !== undefined) return only.systemIdentifier
  throw new Failure('TM1407', {
    message: `cannot tell which server ${options.path} belongs to`,
    because: `there is no control file beside it, and ${options.cluster} has ${identities.length} servers in ${storage.url}`,
    fix: 'push it from the pg_wal of its data directory, or name the system identifier',
  })
}

function foreignWal(path: string, systemIdentifier: string, because: string): Failure {
  return new Failure('TM1403', {
    message: `the WAL file ${path} was written by another server (${systemIdentifier})`,
    because,
    fix: 'archive it under the name of its own cluster; it was not stored here',
    details: { path, systemIdentifier },
  })
}

function toStore(cluster: string, source: WalSource): WalToStore {
  const { file, contentHash, systemIdentifier, object } = source
  return { cluster, systemIdentifier, file, contentHash, bytes: object }
}

async function pushToStorage(
  storage: Storage,
  options: PushWalOptions,
  source: Source,
  wal: WalToStore,
): Promise<StoreOutcome> {
  const identity = await requireIdentity(storage, options.cluster, source)
  const refusal =
    (await judgeSource(storage, options, source, identity)) ??
    (await claim(storage, options, source, identity))
  if (refusal !== undefined) {
    await quarantineWal(storage, wal)
    throw refusal
  }
  try {
    const outcome = await storeWal(storage, wal)
    await dropOwnReservation(storage, { ...source, cluster: options.cluster })
    return outcome
  } catch (error) {
    throw await explainConflict(storage, options, source, error)
  }
}

async function claim(
  storage: Storage,
  { cluster, path, isOfBackup = false }: PushWalOptions,
  source: Source,
  { walSegmentSizeBytes }: SystemIdentity,
): Promise<Failure | undefined> {
  const { kind } = source.file
  if (kind !== 'segment' && kind !== 'history') return undefined
  return await claimTimeline(storage, {
    ...source,
    cluster,
    directory: dirname(path),
    walSegmentSizeBytes,
    isOfBackup,
  })
}

async function requireIdentity(
  storage: Storage,
  cluster: string,
  source: WalSource,
): Promise<SystemIdentity> {
  try {
    return await readSystemIdentity(storage, cluster, source.systemIdentifier)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'TM1407') throw error
    const others = await listSystemIdentities(storage, cluster)
    if (others.length === 0) throw unknownSystem(storage, cluster, source.systemIdentifier)
    const known = others.map((other) => other.systemIdentifier).join(', ')
    const because = `${storage.url} knows ${cluster} as ${known}`
    throw foreignWal(source.path, source.systemIdentifier, because)
  }
}

/** The failure to throw after quarantine; undefined: accepted. */
async function judgeSource(
  storage: Storage,
  options: PushWalOptions,
  source: WalSource,
  identity: SystemIdentity,
): Promise<Failure | undefined> {
  const { file, page, pagesProblem } = source
  if (file.kind === 'history') return await judgeHistory(storage, options, source)
  if (file.kind !== 'segment' || page === undefined) return undefined
  const history =
    page.timeline === file.timeline ? undefined : await findHistory(storage, options, source)
  const because = judgeFirstPage(file.name, page, identity, history) ?? pagesProblem
  if (because === undefined) return undefined
  return new Failure('TM1404', {
    message: `the WAL segment ${file.name} is refused`,
    because,
    fix: `check where ${source.path} comes from; its bytes are in quarantine in ${storage.url}`,
    details: { name: file.name, url: storage.url },
  })
}

async function findHistory(
  storage: Storage,
  options: PushWalOptions,
  source: WalSource,
): Promise<TimelineHistory | undefined> {
  const { file, systemIdentifier } = source
  const archived = await findArchivedHistory(
    storage,
    options.cluster,
    systemIdentifier,
    file.timeline,
  )
  return archived ?? (await findLocalHistory(dirname(options.path), file.timeline))
}

/** A history must agree with the archived history of its parent (writeTimeLineHistory). */
async function judgeHistory(
  storage: Storage,
  options: PushWalOptions,
  source: WalSource,
): Promise<Failure | undefined> {
  const { file, systemIdentifier } = source
  const parsed = parseHistoryFile(file.timeline, await source.content())
  if (!parsed.ok) return badHistory(file.name, `line ${parsed.error.line}: ${parsed.error.problem}`)
  const parent = parsed.history.ancestors.at(-1)
  if (parent === undefined) return badHistory(file.name, 'it names no ancestor')
  const known = await findArchivedHistory(
    storage,
    options.cluster,
    systemIdentifier,
    parent.timeline,
  )
  if (known === undefined) return undefined
  if (sameAncestors(known.ancestors, parsed.history.ancestors.slice(0, -1))) return undefined
  return badHistory(
    file.name,
    `it tells another past of timeline ${parent.timeline} than the archived history of it`,
  )
}

/** Throws the first failure, a conflict before others; the others are warnings. */
function reportFailures(
  results: readonly PromiseSettledResult<StoreOutcome>[],
  options: PushWalOptions,
): void {
  const reasons = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason as unknown] : [],
  )
  const first =
    reasons.find((reason) => reason instanceof Failure && reason.code === 'TM1402') ?? reasons[0]
  for (const reason of reasons) {
    if (reason !== first && reason instanceof Failure) options.onWarning?.(reason)
  }
  if (first !== undefined) throw first
}
