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
import { parseWalFileName, quarantineKey, segmentKey, type WalFileName } from './wal-file-name.ts'
import { decodeWalObject } from './wal-object.ts'
import { findLocalWriter, type LocalWriter } from './writer-identity.ts'
import type { WalPlace } from './writer-record.ts'

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
  return { writer, history, segments: new Map(sorted), current }
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
 * one continues the one before. TM1464 where there is none, or more than one.
 */
export async function openQuarantineSource(
  storage: Storage,
  request: SourceRequest,
  hash: string | undefined,
): Promise<AdoptionSource> {
  const all: Kept[] = []
  for (const one of await listQuarantine(storage, request)) {
    if (await isOtherThanArchived(storage, request, one)) all.push(one)
  }
  const histories = all.filter(({ file }) => file.kind === 'history')
  const segments = new Map<bigint, AdoptedFile>()
  const numbers = [...new Set(all.flatMap((one) => numberOf(one, request) ?? []))].sort(ascend)
  const at = (number: bigint): Kept[] => all.filter((one) => numberOf(one, request) === number)
  const start = numbers.find((number) => hash === undefined || hasHash(at(number), hash))
  let before: Buffer | undefined
  for (let number = start; number !== undefined; number++) {
    const wanted = number === start && hash !== undefined ? hasHash(at(number), hash) : undefined
    const chosen = await chooseNext(wanted === undefined ? at(number) : [wanted], before)
    if (chosen === undefined) break
    segments.set(number, chosen.one)
    before = chosen.content
  }
  const history = hash === undefined ? onlyOne(histories) : hasHash(histories, hash)
  if (segments.size === 0 && history === undefined) {
    throw cannotAdopt(
      `nothing of timeline ${request.timeline} can be taken from quarantine in ${storage.url}`,
      hash === undefined ? 'it holds none of it' : `it holds none with the hash ${hash}`,
    )
  }
  return { writer: undefined, history, segments, current: new Map() }
}

export type Kept = AdoptedFile & { readonly hash16: string }

function ascend(a: bigint, b: bigint): number {
  return a < b ? -1 : 1
}

function hasHash(among: readonly Kept[], hash: string): Kept | undefined {
  return among.find(({ hash16 }) => hash16.startsWith(hash) || hash.startsWith(hash16))
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

/** The content of an archived segment; undefined where it is absent, or does not hold. */
export async function loadArchived(
  storage: Storage,
  { cluster, systemIdentifier }: WalPlace,
  { name }: WalFileName,
): Promise<Buffer | undefined> {
  const key = segmentKey(cluster, systemIdentifier, name)
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
  const names = among.map(({ file, hash16 }) => `${file.name}-${hash16}`)
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
