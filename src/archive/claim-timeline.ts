/**
 * Decides whether a server may put a segment, or a history, into the archive of a timeline, and
 * makes it the writer (docs/design/lineage.md, sections 2 and 4).
 *
 * Invariant: what a server adds that was not the writer before goes on where the archived
 * records end. The writer is known before its first byte is there.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure, isFailure } from '../base/failure.ts'
import { historyFileName } from '../postgres/history-file.ts'
import { formatSegmentName, parseSegmentName, segmentStart } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { type Continuation, compareSegments, judgeContinuation } from './compare-segments.ts'
import { parseFirstPage } from './judge-segment.ts'
import { isAbsence, readWalFile } from './read-wal-file.ts'
import { findReservation } from './reservations.ts'
import { nameHash, segmentKey, timelinePrefix, type WalFileName, walKey } from './wal-file-name.ts'
import { decodeWalObject, isHashOf, peekContentHash, WAL_HEADER_BYTES } from './wal-object.ts'
import { describeWriter, type LocalWriter } from './writer-identity.ts'
import {
  findWriterRecord,
  judgeStanding,
  type Standing,
  succeed,
  type WalPlace,
  type WriterRecord,
  writeWriterRecord,
} from './writer-record.ts'

/** A file, and where what lies beside it may be looked at. */
export interface JoiningFile extends WalPlace {
  /** A segment or a history. */
  readonly file: WalFileName
  /** The raw bytes. */
  readonly content: () => Promise<Uint8Array>
  /** Where it lies; its neighbours may be there, too. Undefined: it was streamed. */
  readonly directory: string | undefined
  readonly walSegmentSizeBytes: number
}

export interface TimelineClaim extends JoiningFile {
  readonly contentHash: string
  /** Undefined: a file that someone brings, from outside of a data directory. */
  readonly writer: LocalWriter | undefined
  /** Of the restore that made the data directory, if one did. */
  readonly restoreId: string | undefined
  /** A backup needs it, and has proved whose files these are. */
  readonly isOfBackup: boolean
}

/** The failure to throw after quarantine; undefined: it may be stored. */
export async function claimTimeline(
  storage: Storage,
  claim: TimelineClaim,
): Promise<Failure | undefined> {
  const { file, writer } = claim
  const record = await findWriterRecord(storage, claim, file.timeline)
  const standing = writer === undefined ? 'outside' : judgeStanding(record, writer)
  if (standing === 'same' && writer?.isStandby === false) return undefined
  const archived = await findArchivedHash(storage, claim)
  const found = typeof record === 'object' ? record : undefined
  if (archived !== undefined) {
    // What is there is compared by whoever stores; nothing else is created.
    if (standing !== 'passed-over' || archived === claim.contentHash) return undefined
    return isHashOf(await claim.content(), archived) ? undefined : passedOver(claim, found)
  }
  if (record === undefined) {
    const refusal = await refuseReserved(storage, claim)
    if (refusal !== undefined) return refusal
  }
  if (standing === 'passed-over') return passedOver(claim, found)
  if (file.kind === 'segment') {
    const refusal = await judgeJoin(storage, claim, found, standing)
    if (refusal !== undefined) return refusal
  }
  if (writer === undefined || writer.isStandby) return undefined
  await writeWriterRecord(storage, claim, succeed(record, file.timeline, writer))
  return undefined
}

/** Of the file of that name; empty where its object is damaged. */
async function findArchivedHash(
  storage: Storage,
  { cluster, systemIdentifier, file, contentHash }: TimelineClaim,
): Promise<string | undefined> {
  return await findHashIn(storage, walKey(cluster, systemIdentifier, file, nameHash(contentHash)))
}

async function refuseReserved(
  storage: Storage,
  claim: TimelineClaim,
): Promise<Failure | undefined> {
  const { file, cluster, writer, restoreId } = claim
  const { timeline } = file
  // Whoever archived the history has the number: a receiver follows the server that it was told.
  if (file.kind === 'segment' && (await hasHistory(storage, claim))) return undefined
  const reservation = await findReservation(storage, claim, timeline)
  if (reservation === undefined) return undefined
  if (reservation !== 'unreadable' && reservation.restoreId === restoreId) return undefined
  const who =
    reservation === 'unreadable'
      ? 'a restore whose reservation cannot be read'
      : `the restore into ${reservation.dataDirectory} on ${reservation.hostName} ` +
        `(${reservation.reservedAt})`
  return new Failure('TM1462', {
    message: `timeline ${timeline} of ${cluster} is reserved by ${who}`,
    because:
      `${writer === undefined ? 'the server of this file' : describeWriter(writer)} was promoted ` +
      'to the same number',
    fix:
      `if this server is the one that goes on: ${adoptCommand(claim)}; ` +
      `if that restore is not used: tidemark wal adopt ${cluster} --release ${timeline}. ` +
      KEPT,
    details: { name: file.name, timeline, url: storage.url },
  })
}

async function hasHistory(storage: Storage, claim: TimelineClaim): Promise<boolean> {
  const { cluster, systemIdentifier, file } = claim
  const name = historyFileName(file.timeline)
  const key = walKey(cluster, systemIdentifier, { ...file, name, kind: 'history' }, '')
  return (await storage.size(key)) !== undefined
}

export const KEPT =
  'Its bytes are in quarantine, and PostgreSQL keeps its WAL until then: see that its disk lasts'

function adoptCommand({ cluster, file, writer }: TimelineClaim): string {
  const from = writer?.dataDirectory ?? 'DIRECTORY'
  return `tidemark wal adopt ${cluster} --timeline ${file.timeline} --from ${from}`
}

type Need = 'no-contradiction' | 'fit'

/** What a server must show, by what the record says of it. */
function needOf(standing: Standing | 'outside', { writer, isOfBackup }: TimelineClaim): Need {
  if (isOfBackup) return 'no-contradiction'
  if (writer?.isStandby === true) return 'fit'
  return standing === 'other' ? 'fit' : 'no-contradiction'
}

async function judgeJoin(
  storage: Storage,
  claim: TimelineClaim,
  record: WriterRecord | undefined,
  standing: Standing | 'outside',
): Promise<Failure | undefined> {
  const join = await examineJoin(storage, claim)
  if (join.kind === 'fits' || join.kind === 'nothing-archived') return undefined
  const need = needOf(standing, claim)
  if (join.kind === 'nothing' && need === 'no-contradiction') return undefined
  const { file, cluster, writer } = claim
  const here = writer === undefined ? 'this file' : `this server (${describeWriter(writer)})`
  const there = record === undefined ? 'another server' : describeWriter(record.writer)
  const since = record === undefined ? '' : ` since ${record.since}`
  const contradicts = join.kind === 'contradicts'
  return new Failure(contradicts ? 'TM1460' : 'TM1461', {
    message: contradicts
      ? `${file.name} does not continue timeline ${file.timeline} of ${cluster} as it is archived`
      : `${file.name} is not known to continue timeline ${file.timeline} of ${cluster}`,
    because:
      `${there} has written this timeline${since}; ` +
      (contradicts
        ? `${here} went its own way: ${join.because}`
        : `${here} cannot show that it goes on there: ${join.because}`),
    fix:
      'if the other server is the right one, switch archiving off here (archive_mode = off), or ' +
      `replace it with: tidemark restore --take-over; if this one is: ${adoptCommand(claim)}. ` +
      KEPT,
    details: { name: file.name, timeline: file.timeline, url: storage.url },
  })
}

function passedOver(claim: TimelineClaim, record: WriterRecord | undefined): Failure {
  const { cluster, file, writer } = claim
  const chosen = record === undefined ? 'another server' : describeWriter(record.writer)
  const here = writer === undefined ? 'this server' : describeWriter(writer)
  return new Failure('TM1463', {
    message: `timeline ${file.timeline} of ${cluster} goes on with ${chosen}, not with ${here}`,
    because: 'someone decided so with wal adopt',
    fix:
      'switch archiving off here (archive_mode = off), or make it a standby of the other ' +
      `(pg_rewind); to choose this one again: ${adoptCommand(claim)}. ${KEPT}`,
    details: { name: file.name, timeline: file.timeline },
  })
}

/** `nothing-archived`: there is nothing that it could contradict. */
export interface Join {
  readonly kind: 'fits' | 'nothing-archived' | 'contradicts' | 'nothing'
  /** Of the last two. */
  readonly because?: string
}

/** Looks at the place where a segment joins the archive. */
export async function examineJoin(storage: Storage, claim: JoiningFile): Promise<Join> {
  const { file, walSegmentSizeBytes: size } = claim
  const named = parseSegmentName(file.name, size)
  if (named === undefined) throw new Error(`not a segment: ${file.name}`)
  const nameOf = (segment: bigint): string => formatSegmentName(named.timeline, segment, size)
  const [before, behind] = [nameOf(named.segment - 1n), nameOf(named.segment + 1n)]
  const joins = [
    await examineBefore(storage, claim, before),
    await examineBehind(storage, claim, behind),
  ]
  const told = joins.filter((join) => join !== undefined)
  const decided =
    told.find(({ kind }) => kind === 'contradicts') ?? told.find(({ kind }) => kind === 'fits')
  if (decided !== undefined) return decided
  if (told[0] !== undefined) return told[0]
  return await examineEarlier(storage, claim)
}

/** Undefined: the segment before is not archived. */
async function examineBefore(
  storage: Storage,
  claim: JoiningFile,
  before: string,
): Promise<Join | undefined> {
  const hash = await findContentHash(storage, claim, before)
  if (hash === undefined) return undefined
  const own = await findOwnCopy(claim, before)
  if (own !== undefined && isHashOf(own, hash)) return { kind: 'fits' }
  const archived = await findArchivedContent(storage, claim, before)
  if (archived === undefined) return { kind: 'nothing', because: `${before} cannot be read` }
  const found = judgeContinuation(archived, await claim.content())
  if (found === 'nothing' && own !== undefined) return compareOwn(archived, own, before)
  return describe(found, `the records of ${before} do not lead to it`)
}

/** Undefined: the segment behind is not archived. */
async function examineBehind(
  storage: Storage,
  claim: JoiningFile,
  behind: string,
): Promise<Join | undefined> {
  if ((await findContentHash(storage, claim, behind)) === undefined) return undefined
  const archived = await findArchivedContent(storage, claim, behind)
  if (archived === undefined) return { kind: 'nothing', because: `${behind} cannot be read` }
  const found = judgeContinuation(await claim.content(), archived)
  return describe(found, `its records do not lead to ${behind}, which is archived`)
}

function describe(found: Continuation, contradiction: string): Join {
  if (found === 'fits') return { kind: 'fits' }
  if (found === 'contradicts') return { kind: 'contradicts', because: contradiction }
  return { kind: 'nothing', because: 'no record joins the two' }
}

/** Another file of the same name, beside the one that is pushed. */
function compareOwn(archived: Uint8Array, own: Uint8Array, name: string): Join {
  const { kind } = compareSegments(archived, own)
  if (kind !== 'different') return { kind: 'fits' }
  return { kind: 'contradicts', because: `its own ${name} is another than the archived one` }
}

/**
 * Neither neighbour is archived: the last segment before, the first behind, or the history decides.
 * What lies behind is what a standby meets that is slower than the server which began the archive.
 */
async function examineEarlier(storage: Storage, claim: JoiningFile): Promise<Join> {
  const { cluster, systemIdentifier, file } = claim
  const prefix = timelinePrefix(cluster, systemIdentifier, file.timeline)
  const own = segmentKey(cluster, systemIdentifier, file.name)
  let [last, next] = [undefined as string | undefined, undefined as string | undefined]
  for await (const { key } of storage.list(prefix)) {
    const name = key.slice(key.lastIndexOf('/') + 1, -'.wal'.length)
    if (key < own) last = name
    else next ??= name
  }
  for (const name of [last, next]) {
    const copy = name === undefined ? undefined : await findOwnCopy(claim, name)
    if (name === undefined || copy === undefined) continue
    const archived = await findArchivedContent(storage, claim, name)
    if (archived !== undefined) return compareOwn(archived, copy, name)
  }
  if (last === undefined) return await examineHistory(storage, claim, next !== undefined)
  return {
    kind: 'nothing',
    because: `the last archived segment is ${last}, and its pg_wal does not hold it any more`,
  }
}

/** The first segment of its timeline: both come from the same promotion, or do not. */
async function examineHistory(
  storage: Storage,
  claim: JoiningFile,
  isFollowed: boolean,
): Promise<Join> {
  const { cluster, systemIdentifier, file, directory } = claim
  const name = historyFileName(file.timeline)
  const key = walKey(cluster, systemIdentifier, { ...file, name, kind: 'history' }, '')
  const bytes = await storage.read(key).catch(ignoreDamage)
  if (bytes === undefined) {
    if (!isFollowed) return { kind: 'nothing-archived' }
    return { kind: 'nothing', because: 'only later segments are archived' }
  }
  const own = directory === undefined ? undefined : await findFile(join(directory, name))
  if (own === undefined) return { kind: 'nothing', because: `its pg_wal does not hold ${name}` }
  if (isHashOf(own, peekContentHash(bytes) ?? '')) return { kind: 'fits' }
  return { kind: 'contradicts', because: `its own ${name} is another than the archived one` }
}

/** From the header of the object, which is not proved: equal hashes are proof enough. */
export async function findContentHash(
  storage: Storage,
  { cluster, systemIdentifier }: WalPlace,
  name: string,
): Promise<string | undefined> {
  return await findHashIn(storage, segmentKey(cluster, systemIdentifier, name))
}

async function findHashIn(storage: Storage, key: string): Promise<string | undefined> {
  const header = await storage.readRange(key, 0, WAL_HEADER_BYTES).catch(ignoreDamage)
  if (header !== undefined) return peekContentHash(header) ?? ''
  return (await storage.size(key)) === undefined ? undefined : ''
}

/** Undefined: it does not hold. */
async function findArchivedContent(
  storage: Storage,
  { cluster, systemIdentifier }: WalPlace,
  name: string,
): Promise<Uint8Array | undefined> {
  const key = segmentKey(cluster, systemIdentifier, name)
  try {
    const bytes = await storage.read(key)
    if (bytes === undefined) return undefined
    return decodeWalObject(key, bytes, { systemIdentifier, name }).content
  } catch (error) {
    return ignoreDamage(error)
  }
}

function ignoreDamage(error: unknown): undefined {
  if (!isFailure(error, 'TM1601')) throw error
}

/** Of a segment beside the pushed file; undefined when it is gone or is a recycled one. */
async function findOwnCopy(
  { directory, walSegmentSizeBytes: size }: JoiningFile,
  name: string,
): Promise<Buffer | undefined> {
  if (directory === undefined) return undefined
  try {
    const own = await readWalFile(join(directory, name))
    const start = segmentStart(parseSegmentName(name, size)?.segment ?? 0n, size)
    return own.length === size && parseFirstPage(own)?.address === start ? own : undefined
  } catch (error) {
    if (isFailure(error, 'TM1406')) return undefined
    throw error
  }
}

async function findFile(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}
