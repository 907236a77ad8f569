/**
 * Where `wal adopt` takes the WAL of a timeline from: the data directory of a server, or the
 * quarantine of a repository (docs/design/lineage.md, section 6).
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describeSystemError, Failure, isFailure } from '../base/failure.ts'
import { historyFileName } from '../postgres/history-file.ts'
import { parseSegmentName, segmentStart, type Timeline } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { compareSegments, judgeContinuation } from './compare-segments.ts'
import { parseFirstPage } from './judge-segment.ts'
import { findSystemIdentifier, isAbsence, readWalFile } from './read-wal-file.ts'
import { refuseRestoredCopy } from './restored-marker.ts'
import { parseWalFileName, quarantineKey, type WalFileName, walKey } from './wal-file-name.ts'
import { decodeWalObject, isNamedAfter } from './wal-object.ts'
import { findLocalWriter, type LocalWriter } from './writer-identity.ts'
import { findWriterRecord, type WalPlace } from './writer-record.ts'

export interface AdoptedFile {
  readonly file: WalFileName
  /** A path, or a key of the quarantine. */
  readonly from: { readonly path: string } | { readonly key: string }
  /** The raw content. */
  load(): Promise<Buffer>
}

export interface AdoptionSource {
  /** Undefined: nobody knows who wrote what is in quarantine. */
  readonly writer: LocalWriter | undefined
  readonly history: AdoptedFile | undefined
  /** Finished segments by number. */
  readonly segments: ReadonlyMap<bigint, AdoptedFile>
  /** Being written: it is compared and never taken. */
  readonly current: ReadonlyMap<bigint, AdoptedFile>
  /** Names in quarantine of the first segment and the history that are taken; else empty. */
  readonly adopted: readonly string[]
}

export interface SourceRequest extends WalPlace {
  readonly timeline: Timeline
  readonly walSegmentSizeBytes: number
}

/** TM1464 when it is no data directory of this server. */
export async function openDirectorySource(
  request: SourceRequest,
  dataDirectory: string,
): Promise<AdoptionSource> {
  const { systemIdentifier, timeline, walSegmentSizeBytes: size } = request
  const [found, writer] = [
    await findSystemIdentifier(dataDirectory),
    await findLocalWriter(dataDirectory),
  ]
  if (found !== systemIdentifier || writer === undefined) {
    const because =
      found === undefined ? 'it holds no control file' : `it is of the server ${found}`
    throw cannotAdopt(`${dataDirectory} is no data directory of this server`, because)
  }
  await refuseRestoredCopy(dataDirectory)
  if (writer.isStandby) {
    throw cannotAdopt(`${dataDirectory} is a standby`, 'it replays WAL and writes none of its own')
  }
  const directory = join(dataDirectory, 'pg_wal')
  const finished = new Set(await namesIn(join(directory, 'archive_status')))
  const segments = new Map<bigint, AdoptedFile>()
  const current = new Map<bigint, AdoptedFile>()
  let history: AdoptedFile | undefined
  for (const name of (await namesIn(directory)).sort()) {
    const file = parseWalFileName(name)
    if (file?.timeline !== timeline) continue
    const path = join(directory, name)
    const adopted = { file, from: { path }, load: async () => await readWalFile(path) }
    if (name === historyFileName(timeline)) history = adopted
    const segment = file.kind === 'segment' ? parseSegmentName(name, size)?.segment : undefined
    if (segment === undefined || !(await isOfItsName(path, segment, size))) continue
    const isFinished = finished.has(`${name}.ready`) || finished.has(`${name}.done`)
    ;(isFinished ? segments : current).set(segment, adopted)
  }
  const last = [...segments.keys()].at(-1) ?? -1n
  for (const [segment, adopted] of [...current]) {
    // Its status was lost, or was never there: what is before a finished one is finished.
    if (segment > last) continue
    segments.set(segment, adopted)
    current.delete(segment)
  }
  const sorted = [...segments].sort(([a], [b]) => ascend(a, b))
  return { writer, history, segments: new Map(sorted), current, adopted: [] }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (isAbsence(error)) return []
    throw cannotAdopt(`${directory} cannot be read`, describeSystemError(error))
  }
}

/** A recycled file has the name of a segment that is yet to be written. */
async function isOfItsName(path: string, segment: bigint, size: number): Promise<boolean> {
  try {
    const page = parseFirstPage(await readWalFile(path))
    return page?.address === segmentStart(segment, size)
  } catch (error) {
    // PostgreSQL removes and recycles while this reads.
    if (isFailure(error, 'TM1406')) return false
    throw error
  }
}

/**
 * A chain out of the quarantine: from its first segment, or the one whose hash is given, each next
 * one continues the one before. TM1464 where there is none, or more than one. The chain that an
 * adoption has begun to take is known by the writer record: it is the same, whatever of it is in.
 */
export async function openQuarantineSource(
  storage: Storage,
  request: SourceRequest,
  hash: string | undefined,
): Promise<AdoptionSource> {
  const kept = await listQuarantine(storage, request)
  const begun = await findBegun(storage, request, kept, hash)
  const none = { writer: undefined, current: new Map() }
  if (begun !== undefined) {
    const isBegun = (one: Kept): boolean => begun.includes(keptName(one))
    const history = kept.find((one) => one.file.kind === 'history' && isBegun(one))
    const segments = await chainOf(kept, request, isBegun)
    return { ...none, history, segments, adopted: begun }
  }
  const all: Kept[] = []
  for (const one of kept) if (await isOtherThanArchived(storage, request, one)) all.push(one)
  const isWanted = (one: Kept): boolean => hash === undefined || hasHash(one, hash)
  const segments = await chainOf(all, request, isWanted)
  const histories = all.filter((one) => one.file.kind === 'history' && isWanted(one))
  const history = hash === undefined ? onlyOne(histories) : histories[0]
  const first = [...segments.values()][0]
  const adopted = [first, history].flatMap((one) => (one === undefined ? [] : keptName(one)))
  if (adopted.length > 0) return { ...none, history, segments, adopted }
  throw cannotAdopt(
    `nothing of timeline ${request.timeline} can be taken from quarantine in ${storage.url}`,
    hash === undefined ? 'it holds none of it' : `it holds none with the hash ${hash}`,
  )
}

/**
 * The names that the writer record gives what is being taken, where that is meant. Copies leave
 * quarantine last: when these are gone, all was done if they are archived.
 */
async function findBegun(
  storage: Storage,
  request: SourceRequest,
  kept: readonly Kept[],
  hash: string | undefined,
): Promise<readonly string[] | undefined> {
  const record = await findWriterRecord(storage, request, request.timeline)
  const names = typeof record === 'object' ? record.adopted : undefined
  if (names === undefined) return undefined
  const isMeant =
    hash !== undefined && names.some((name) => hasHash({ hash16: hash16Of(name) }, hash))
  if (hash !== undefined && !isMeant) return undefined
  if (kept.some((one) => names.includes(keptName(one)))) return names
  return isMeant && (await areArchived(storage, request, names)) ? names : undefined
}

async function areArchived(
  storage: Storage,
  { cluster, systemIdentifier }: WalPlace,
  names: readonly string[],
): Promise<boolean> {
  for (const name of names) {
    const file = parseWalFileName(name.slice(0, -17))
    const content = file && (await loadArchived(storage, { cluster, systemIdentifier }, file))
    if (content === undefined || !isNamedAfter(content, hash16Of(name))) return false
  }
  return true
}

/** From the first one that is a start, each next one continues the one before. */
async function chainOf(
  all: readonly Kept[],
  request: SourceRequest,
  isStart: (one: Kept) => boolean,
): Promise<Map<bigint, Kept>> {
  const segments = new Map<bigint, Kept>()
  const numbers = [...new Set(all.flatMap((one) => numberOf(one, request) ?? []))].sort(ascend)
  const at = (number: bigint): Kept[] => all.filter((one) => numberOf(one, request) === number)
  const start = numbers.find((number) => at(number).some(isStart))
  let before: Buffer | undefined
  for (let number = start; number !== undefined; number++) {
    const candidates = at(number)
    const chosen = await chooseNext(
      number === start ? candidates.filter(isStart) : candidates,
      before,
    )
    if (chosen === undefined) break
    segments.set(number, chosen.one)
    before = chosen.content
  }
  return segments
}

export type Kept = AdoptedFile & { readonly hash16: string }

/** As it lies in quarantine. */
function keptName({ file, hash16 }: Kept): string {
  return `${file.name}-${hash16}`
}

function hash16Of(name: string): string {
  return name.slice(-16)
}

function ascend(a: bigint, b: bigint): number {
  return a < b ? -1 : 1
}

function hasHash({ hash16 }: Pick<Kept, 'hash16'>, hash: string): boolean {
  return hash16.startsWith(hash) || hash.startsWith(hash16)
}

function numberOf({ file }: AdoptedFile, { walSegmentSizeBytes }: SourceRequest) {
  const isSegment = file.kind === 'segment'
  return isSegment ? parseSegmentName(file.name, walSegmentSizeBytes)?.segment : undefined
}

export async function listQuarantine(storage: Storage, request: SourceRequest): Promise<Kept[]> {
  const { cluster, systemIdentifier, timeline } = request
  const found: Kept[] = []
  const prefix = quarantineKey(cluster, systemIdentifier, '', '').slice(0, -1)
  for await (const { key } of storage.list(prefix)) {
    const [, name = '', hash16 = ''] = /^(.+)-([0-9a-f]{16})$/.exec(key.slice(prefix.length)) ?? []
    const file = parseWalFileName(name)
    if (file?.timeline !== timeline) continue
    const load = async (): Promise<Buffer> => {
      const bytes = await storage.read(key)
      if (bytes === undefined) throw cannotAdopt(`${key} is gone`, 'it expired meanwhile')
      return decodeWalObject(key, bytes, { systemIdentifier, name }).content
    }
    found.push({ file, from: { key }, load, hash16 })
  }
  return found
}

/** What is left of a segment that a longer one has replaced tells nothing new. */
async function isOtherThanArchived(
  storage: Storage,
  { cluster, systemIdentifier }: WalPlace,
  one: Kept,
): Promise<boolean> {
  if (one.file.kind !== 'segment') return one.file.kind === 'history'
  const archived = await loadArchived(storage, { cluster, systemIdentifier }, one.file)
  if (archived === undefined) return true
  return compareSegments(archived, await one.load()).kind === 'different'
}

/** The content of an archived file; undefined where it is absent, or does not hold. */
export async function loadArchived(
  storage: Storage,
  { cluster, systemIdentifier }: WalPlace,
  file: WalFileName,
): Promise<Buffer | undefined> {
  const { name } = file
  const key = walKey(cluster, systemIdentifier, file, '')
  try {
    const bytes = await storage.read(key)
    if (bytes === undefined) return undefined
    return decodeWalObject(key, bytes, { systemIdentifier, name }).content
  } catch (error) {
    if (!isFailure(error, 'TM1601')) throw error
    return undefined
  }
}

/** Of those that go on where `before` ends the one with the most records. */
async function chooseNext(
  among: readonly Kept[],
  before: Buffer | undefined,
): Promise<{ one: Kept; content: Buffer } | undefined> {
  let chosen: { one: Kept; content: Buffer } | undefined
  for (const one of among) {
    const content = await one.load()
    if (before !== undefined && judgeContinuation(before, content) !== 'fits') continue
    const found = chosen === undefined ? undefined : compareSegments(chosen.content, content)
    if (found?.kind === 'different') throw several(among)
    const isLonger = found?.kind === 'same-records' && found.longer === 'second'
    if (chosen === undefined || isLonger) chosen = { one, content }
  }
  return chosen
}

function onlyOne(among: readonly Kept[]): Kept | undefined {
  if (among.length > 1) throw several(among)
  return among[0]
}

function several(among: readonly Kept[]): Failure {
  const names = among.map(keptName)
  return new Failure('TM1464', {
    message: `several files in quarantine could be meant: ${names.join(', ')}`,
    because: 'they differ within their records',
    fix: `name one by its hash: --quarantine ${among[0]?.hash16}; or take a directory: --from DIR`,
    details: { names },
  })
}

export function cannotAdopt(message: string, because: string): Failure {
  return new Failure('TM1464', {
    message,
    because,
    fix: 'name the data directory of the server that is to go on: --from DIR',
  })
}
