/**
 * `wal adopt`: makes a server the writer of a timeline in one repository, and its WAL the
 * timeline's (docs/design/lineage.md, section 6).
 *
 * Invariants: nothing leaves its place before it is in quarantine. At no time does a segment of
 * one history lie behind one of the other: what goes aside goes from the last to the first,
 * what takes its place comes from the first to the last.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { now } from '../base/clock.ts'
import type { Timeline } from '../postgres/lsn.ts'
import { readPerhapsDamaged } from '../storage/read-damaged.ts'
import type { Storage } from '../storage/storage.ts'
import { type AdoptedFile, loadArchived } from './adoption-source.ts'
import { removeBreaks } from './break-mark.ts'
import { judgeContinuation } from './compare-segments.ts'
import { parseFirstPage } from './judge-segment.ts'
import { listSegmentsAfter } from './list-segments.ts'
import type { AdoptionPlan } from './plan-adoption.ts'
import { pushWalFile } from './push-wal.ts'
import { findReservation, release } from './reservations.ts'
import { setTailsAside } from './set-tails-aside.ts'
import { quarantineWal, storeWal } from './store-wal.ts'
import {
  eventsKey,
  nameHash,
  parseWalFileName,
  quarantineKey,
  type WalFileName,
  walKey,
} from './wal-file-name.ts'
import { decodeWalObject, encodeWalObject, hashContent } from './wal-object.ts'
import { isSameServer, type WriterIdentity } from './writer-identity.ts'
import { succeed, type WalPlace, type WriterRecord, writeWriterRecord } from './writer-record.ts'

export interface AdoptionResult {
  /** Names of what went aside. */
  readonly aside: readonly string[]
  readonly brought: readonly string[]
}

/** Failures: TM1465, and those of a push. */
export async function adoptWal(storage: Storage, plan: AdoptionPlan): Promise<AdoptionResult> {
  await writeWriterRecord(storage, plan, decideWriter(plan))
  if (plan.reservation !== undefined) await release([storage], plan, plan.timeline)
  const aside = await setTailsAside(storage, plan)
  const locked: WalFileName[] = []
  for (const file of await listAside(storage, plan)) {
    if (await setAside(storage, plan, file)) aside.push(file.name)
    else locked.push(file)
  }
  if (plan.from !== undefined) await removeBreaks(storage, plan, plan.from)
  const brought: string[] = []
  for (const adopted of plan.bring) {
    await bring(storage, plan, adopted, locked)
    brought.push(adopted.file.name)
    const derived = eventsKey(plan.cluster, plan.systemIdentifier, adopted.file.name)
    if (adopted.file.kind === 'segment') await storage.remove(derived)
  }
  aside.push(...(await setLateOnesAside(storage, plan)))
  await tidyQuarantine(storage, plan)
  const left = locked.filter(({ name }) => !brought.includes(name))
  if (left.length > 0) throw notAside(storage, left, 'the bucket has them locked')
  return { aside, brought }
}

/** Of what is taken out of quarantine: whoever shows that he goes on there becomes the writer. */
const NOBODY: WriterIdentity = {
  host: '',
  hostName: 'nobody',
  dataDirectory: 'the quarantine',
  device: '0',
  inode: '0',
  startedAt: null,
}

/** Pure, but for the time. */
function decideWriter({ former, writer, timeline, adopted }: AdoptionPlan): WriterRecord {
  if (former !== undefined && isBegun(former, adopted)) return former
  const chosen = writer ?? NOBODY
  const record =
    writer === undefined
      ? { timeline, writer: NOBODY, since: now().toISOString(), adopted }
      : withoutAdopted(succeed(former, timeline, writer))
  // Whose the quarantine's are is not known: he may be one of those that were passed over.
  const known = writer === undefined ? [] : (former?.passedOver ?? [])
  const before = [...known, ...(former === undefined ? [] : [former.writer])]
  const others = before.filter((one) => !isSameServer(one, chosen) && one.host !== '')
  const passedOver = others.filter(
    (one, at) => others.findLastIndex((other) => isSameServer(one, other)) === at,
  )
  return { ...record, passedOver }
}

/** A run before this one has decided, and who has shown since then that he goes on there stays. */
function isBegun({ adopted: begun = [] }: WriterRecord, adopted: readonly string[]): boolean {
  return begun.length > 0 && begun.join() === adopted.join()
}

function withoutAdopted({ adopted: _, ...record }: WriterRecord): WriterRecord {
  return record
}

/** As planned, and what was archived since then; the last first, the history after them. */
async function listAside(storage: Storage, plan: AdoptionPlan): Promise<WalFileName[]> {
  const first = plan.aside.filter(({ kind }) => kind === 'segment').at(-1)
  if (first === undefined) return [...plan.aside]
  const files = [first]
  const { cluster, systemIdentifier } = plan
  for await (const { name } of listSegmentsAfter(storage, cluster, systemIdentifier, first.name)) {
    files.push(parseWalFileName(name) as WalFileName)
  }
  return [...files.reverse(), ...plan.aside.filter(({ kind }) => kind !== 'segment')]
}

/** False: it is in quarantine, and its place is locked. */
async function setAside(storage: Storage, place: WalPlace, file: WalFileName): Promise<boolean> {
  const { cluster, systemIdentifier } = place
  const key = walKey(cluster, systemIdentifier, file, '')
  const found = await readPerhapsDamaged(storage, key)
  if (found === undefined) return true
  const contentHash = found.damage === undefined ? hashIfWhole(key, found.bytes) : undefined
  if (contentHash === undefined) {
    const kept = quarantineKey(
      cluster,
      systemIdentifier,
      file.name,
      nameHash(hashContent(found.bytes)),
    )
    await storage.write(`${kept}.damaged`, found.bytes)
  } else {
    const bytes = (): Uint8Array => found.bytes
    await quarantineWal(storage, { cluster, systemIdentifier, file, contentHash, bytes })
  }
  if (file.kind === 'segment') await storage.remove(eventsKey(cluster, systemIdentifier, file.name))
  try {
    await storage.remove(key)
    return true
  } catch (error) {
    if (!isFailure(error, 'TM1513')) throw error
    return false
  }
}

function hashIfWhole(key: string, bytes: Uint8Array): string | undefined {
  try {
    return decodeWalObject(key, bytes).contentHash
  } catch (error) {
    if (!isFailure(error, 'TM1601')) throw error
    return undefined
  }
}

/** Judged as in a push. Over a locked object it is written, after that went to quarantine. */
async function bring(
  storage: Storage,
  plan: AdoptionPlan,
  adopted: AdoptedFile,
  locked: readonly WalFileName[],
): Promise<void> {
  const { cluster, systemIdentifier } = plan
  const { file, from } = adopted
  if (locked.some(({ name }) => name === file.name)) {
    const bytes = encodeWalObject(await describe(plan, adopted))
    await storage.write(walKey(cluster, systemIdentifier, file, ''), bytes)
  } else if ('path' in from) {
    await pushWalFile({ storages: [storage], cluster, path: from.path, systemIdentifier })
  } else {
    const object = await describe(plan, adopted)
    const contentHash = hashContent(object.content)
    const bytes = (): Uint8Array => encodeWalObject(object, contentHash)
    await storeWal(storage, { cluster, systemIdentifier, file, contentHash, bytes })
  }
}

/**
 * The bytes are in their place now: the copies of them say nothing more. By those that the record
 * names the next run knows the chain: they go last, so that a crash in between leaves one of them.
 */
async function tidyQuarantine(storage: Storage, plan: AdoptionPlan): Promise<void> {
  const earlier = plan.chain.filter((one) => !plan.bring.includes(one))
  const isNamed = ({ from }: AdoptedFile): boolean =>
    'key' in from && plan.adopted.some((name) => from.key.endsWith(`/${name}`))
  const copies = [...earlier, ...plan.bring].toReversed()
  const inOrder = [...copies.filter((one) => !isNamed(one)), ...copies.filter(isNamed)]
  for (const one of inOrder) {
    const contentHash = hashContent(await one.load())
    if (earlier.includes(one) && !(await isArchived(storage, plan, one, contentHash))) continue
    await removeCopy(storage, plan, one, contentHash)
  }
}

async function isArchived(
  storage: Storage,
  place: WalPlace,
  { file }: AdoptedFile,
  contentHash: string,
): Promise<boolean> {
  const content = await loadArchived(storage, place, file)
  return content !== undefined && hashContent(content) === contentHash
}

async function removeCopy(
  storage: Storage,
  { cluster, systemIdentifier }: WalPlace,
  { file, from }: AdoptedFile,
  contentHash: string,
): Promise<void> {
  const named = quarantineKey(cluster, systemIdentifier, file.name, nameHash(contentHash))
  const key = 'key' in from ? from.key : named
  try {
    await storage.remove(key)
  } catch (error) {
    if (!isFailure(error, 'TM1513')) throw error
  }
}

async function describe({ systemIdentifier }: WalPlace, { file, load }: AdoptedFile) {
  const content = await load()
  const headerTimeline: Timeline = parseFirstPage(content)?.timeline ?? 0
  return { systemIdentifier, name: file.name, headerTimeline, content }
}

/**
 * A push of the former writer that had read the record before it changed may have created what does
 * not continue what was brought. What does was archived by the server itself.
 */
async function setLateOnesAside(storage: Storage, plan: AdoptionPlan): Promise<string[]> {
  const last = [...plan.chain, ...plan.bring].findLast(({ file }) => file.kind === 'segment')
  if (last === undefined) return []
  const { cluster, systemIdentifier } = plan
  const files: WalFileName[] = []
  let before: Buffer | undefined =
    (await loadArchived(storage, plan, last.file)) ?? (await last.load())
  for await (const { name } of listSegmentsAfter(
    storage,
    cluster,
    systemIdentifier,
    last.file.name,
  )) {
    const file = parseWalFileName(name) as WalFileName
    const content = await loadArchived(storage, plan, file)
    const isForeign =
      files.length > 0 ||
      (before !== undefined &&
        content !== undefined &&
        judgeContinuation(before, content) === 'contradicts')
    if (isForeign) files.push(file)
    before = content
  }
  for (const file of files.reverse()) await setAside(storage, plan, file)
  return files.map(({ name }) => name)
}

function notAside(storage: Storage, left: readonly WalFileName[], because: string): Failure {
  const names = left.map(({ name }) => name)
  return new Failure('TM1465', {
    message: `${names.length} archived files could not be set aside: ${names.join(', ')}`,
    because: `${because} in ${storage.url}; copies of them are in quarantine`,
    fix: 'run it again when the lock has ended',
    details: { names, url: storage.url },
  })
}

/** TM1466 when there is no such reservation. */
export async function releaseReservation(
  storage: Storage,
  place: WalPlace,
  timeline: Timeline,
): Promise<void> {
  const found = await findReservation(storage, place, timeline)
  if (found !== undefined) return await release([storage], place, timeline)
  throw new Failure('TM1466', {
    message: `no restore has reserved timeline ${timeline} of ${place.cluster} in ${storage.url}`,
    because: 'it was released, or its server has archived under it',
    fix: 'see what is reserved: tidemark wal adopt --release, without a number',
    details: { timeline },
  })
}
