/**
 * Verifies dumps: every record is read, every pack that a record names is seen with its size, and
 * each dump that is new, or was not proved for long, is read to its end (docs/design/dumps.md, 9).
 *
 * Invariant: nothing is changed but the memory of what was proved. A finding names every dump that
 * it costs, also those that were not due.
 */
import { monotonicMs, now } from '../base/clock.ts'
import { Failure, type FailureMessage, isFailure, toFailureMessage } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import { damagedObject, missingObject } from '../repository/envelope.ts'
import { dumpKey, dumpPackKey, parseDumpKey, parseDumpPackKey } from '../repository/keys.ts'
import { findDump, listDumpPacks, listDumps } from '../repository/read-dumps.ts'
import { readVerifiedMemory, writeVerifiedMemory } from '../repository/verified-memory.ts'
import type { Storage } from '../storage/storage.ts'
import { ProvedChunks, proveDump } from './read-dump.ts'
import { kindOfDump } from './read-dump-facts.ts'

export interface VerifyDumpsOptions {
  readonly storage: Storage
  readonly cluster: string
  /** Of these ids alone; all unless given. */
  readonly only?: ReadonlySet<string>
  /** What was proved within so many days needs no proof now; undefined: everything does. */
  readonly days?: number
  /** Begin no other dump after so much. At least one is proved unless that is nothing. */
  readonly budget?: { readonly bytes?: number; readonly ms?: number }
  readonly progress: Progress
  readonly signal: AbortSignal
}

export interface DumpFinding {
  readonly failure: FailureMessage
  /** The object. */
  readonly key: string
  /** Ids of dumps that cannot be loaded whole any more. */
  readonly dumps: readonly string[]
}

export interface VerifiedDumps {
  readonly findings: readonly DumpFinding[]
  readonly dumps: number
  /** That hold; and the raw bytes that were read, chunks that they share once. */
  readonly proved: { readonly dumps: number; readonly bytes: number }
  /** What the budget left for the next run. */
  readonly left: number
  /** Packs that no record names, with their bytes: of a dump under way, or left over. */
  readonly unnamed: { readonly packs: readonly string[]; readonly bytes: number }
  readonly notes: readonly string[]
}

/** What the steps share. */
interface Verification {
  readonly options: VerifyDumpsOptions
  /** What was found, by the key of the object, with the ids of the dumps that it costs. */
  readonly book: Map<string, { readonly failure: Failure; readonly dumps: Set<string> }>
  readonly proved: Set<string>
  /** Undefined: everything is read. */
  readonly chunks: ProvedChunks | undefined
  readonly seen: Set<string>
  /** Keys of what was proved in earlier runs. */
  readonly known: ReadonlyMap<string, number>
  /** Ids: of each kind the newest. */
  readonly newest: ReadonlySet<string>
  bytes: number
}

export async function verifyDumps(options: VerifyDumpsOptions): Promise<VerifiedDumps> {
  const { storage, cluster, only, progress } = options
  const list = await listDumps(storage, cluster)
  // After the records: what they name was there before them.
  const packs = await listDumpPacks(storage, cluster)
  const isWanted = (id: string | undefined): boolean => only?.has(id ?? '') ?? true
  const dumps = list.dumps.filter(({ id }) => isWanted(id))
  const { memory } = await readVerifiedMemory(storage, cluster)
  const run: Verification = {
    options,
    book: new Map(),
    proved: new Set(),
    chunks: only === undefined ? new ProvedChunks() : undefined,
    seen: new Set(),
    known: memory.objects,
    newest: new Set(new Map(list.dumps.map((one) => [kindOfDump(one), one.id])).values()),
    bytes: 0,
  }
  for (const { key, failure } of list.unreadable) {
    const id = parseDumpKey(key)
    if (id !== undefined && isWanted(id)) addFinding(run, mendRecord(failure, cluster, id), id)
  }
  for (const record of dumps) await judgePacks(run, record, packs)
  const due = orderDue(run, dumps)
  progress.phase('proving dumps', sumRaw(due), 'bytes')
  const left = await proveWithin(run, due)
  await proveHurt(run, dumps)
  const notes = await remember(run, list.dumps)
  const named = new Set(list.dumps.flatMap((record) => record.packs.map(({ id }) => id)))
  const unnamed = [...packs].filter(([id]) => !named.has(id))
  return {
    findings: describeFindings(run),
    dumps: dumps.length + list.unreadable.filter(({ key }) => isWanted(parseDumpKey(key))).length,
    proved: { dumps: run.proved.size, bytes: run.bytes },
    left,
    unnamed: {
      packs: unnamed.map(([id]) => dumpPackKey(cluster, id)),
      bytes: unnamed.reduce((sum, [, bytes]) => sum + bytes, 0),
    },
    notes,
  }
}

function sumRaw(records: readonly DumpRecord[]): number {
  return records.reduce((sum, { sizes }) => sum + sizes.rawBytes, 0)
}

function mendRecord({ code, message, because }: Failure, cluster: string, id: string): Failure {
  return new Failure(code, {
    message,
    ...(because === undefined ? {} : { because }),
    fix:
      `bring a whole copy from another repository: tidemark sync ${cluster}; ` +
      `or give it up: tidemark expire ${cluster} --release ${id}`,
    details: { key: dumpKey(cluster, id) },
  })
}

/** By the listing alone, for every dump and in every run. */
async function judgePacks(
  run: Verification,
  record: DumpRecord,
  packs: ReadonlyMap<string, number>,
): Promise<void> {
  const { cluster } = run.options
  const wrong = record.packs.filter(({ id, bytes }) => packs.get(id) !== bytes)
  if (wrong.length === 0 || !(await isListed(run, record))) return
  for (const { id, bytes } of wrong) {
    const key = dumpPackKey(cluster, id)
    const size = packs.get(id)
    const failure =
      size === undefined
        ? missingObject(key, `dump ${record.id}`)
        : damagedObject(key, `it has ${size} bytes, and ${bytes} were written`)
    addFinding(run, failure, record.id)
  }
}

/** One that expired meanwhile lacks its packs rightly. */
async function isListed({ options }: Verification, { cluster, id }: DumpRecord): Promise<boolean> {
  return (await options.storage.size(dumpKey(cluster, id))) !== undefined
}

/**
 * What was never proved before all else, then the newest, then the oldest proof first. The newest
 * are read whole: what others share with them is read before these come.
 */
function orderDue(
  { options: { cluster, days }, known, newest }: Verification,
  dumps: readonly DumpRecord[],
): DumpRecord[] {
  const since = days === undefined ? Number.POSITIVE_INFINITY : nowSeconds() - days * 86_400
  const at = ({ id }: DumpRecord): number => known.get(dumpKey(cluster, id)) ?? 0
  const rank = (one: DumpRecord): number => (at(one) === 0 ? 0 : newest.has(one.id) ? 1 : 2)
  return dumps
    .filter((one) => at(one) === 0 || at(one) < since)
    .sort((a, b) => rank(a) - rank(b) || at(a) - at(b))
}

function nowSeconds(): number {
  return Math.floor(now().getTime() / 1000)
}

/** Returns how many were left. */
async function proveWithin(run: Verification, due: readonly DumpRecord[]): Promise<number> {
  const { budget = {}, signal } = run.options
  const { bytes = Number.POSITIVE_INFINITY, ms = Number.POSITIVE_INFINITY } = budget
  const endsAtMs = monotonicMs() + ms
  for (const [number, record] of due.entries()) {
    signal.throwIfAborted()
    const isSpent = run.bytes >= bytes || (number > 0 && monotonicMs() >= endsAtMs) || ms <= 0
    if (isSpent) return due.length - number
    await proveOne(run, record)
  }
  return 0
}

/** What damage costs is found out, whatever that takes. */
async function proveHurt(run: Verification, dumps: readonly DumpRecord[]): Promise<void> {
  const { cluster, signal } = run.options
  const damaged = new Set(run.book.keys())
  for (const record of dumps) {
    signal.throwIfAborted()
    const isHurt = record.packs.some(({ id }) => damaged.has(dumpPackKey(cluster, id)))
    if (isHurt && !run.seen.has(record.id)) await proveOne(run, record)
  }
}

/**
 * Whole where nobody has read the dump whole before, and for the newest: only so the SHA-256 of its
 * files is compared, which finds what a writer did wrong.
 */
async function proveOne(run: Verification, record: DumpRecord): Promise<void> {
  const { storage, cluster, progress } = run.options
  const isWhole = !run.known.has(dumpKey(cluster, record.id)) || run.newest.has(record.id)
  run.seen.add(record.id)
  const onBytes = (bytes: number): void => {
    run.bytes += bytes
    progress.advance(bytes)
  }
  const failures = await proveDump(storage, record, onBytes, run.chunks, isWhole)
  if (failures.length === 0) run.proved.add(record.id)
  else if (await isListed(run, record)) {
    for (const failure of failures) addFinding(run, failure, record.id)
  }
}

/** One for each object: what the listing tells and what reading tells of it is the same finding. */
function addFinding({ book }: Verification, failure: Failure, dumpId: string): void {
  const key = keyOf(failure)
  const known = book.get(key)
  if (known === undefined) book.set(key, { failure, dumps: new Set([dumpId]) })
  else known.dumps.add(dumpId)
}

function keyOf({ details, message }: Failure): string {
  const key = details?.['key']
  return typeof key === 'string' ? key : message
}

function describeFindings({ book }: Verification): DumpFinding[] {
  return [...book].map(([key, { failure, dumps }]) => ({
    failure: toFailureMessage(failure),
    key,
    dumps: [...dumps].sort(),
  }))
}

/** Read again: others may have written it meanwhile. A hint that cannot be written costs time. */
async function remember(run: Verification, listed: readonly DumpRecord[]): Promise<string[]> {
  const { storage, cluster } = run.options
  if (run.seen.size === 0 && run.book.size === 0) return []
  const { memory } = await readVerifiedMemory(storage, cluster)
  const hurt = [...run.book.values()].flatMap(({ dumps }) => [...dumps])
  for (const id of run.proved) memory.objects.set(dumpKey(cluster, id), nowSeconds())
  for (const id of hurt) memory.objects.delete(dumpKey(cluster, id))
  noteDamage(run, listed, memory.damagedObjects)
  try {
    await writeVerifiedMemory(storage, cluster, memory)
    return []
  } catch (error) {
    if (!isFailure(error)) throw error
    return [`what was proved of dumps is not remembered: ${error.message}`]
  }
}

/**
 * So that the next dump refers to nothing of it. It is forgotten when every dump that needs it was
 * proved: somebody has mended it.
 */
function noteDamage(
  { options: { cluster }, book, proved }: Verification,
  listed: readonly DumpRecord[],
  damaged: Set<string>,
): void {
  const needed = new Set<string>()
  for (const { id, packs } of listed) {
    if (proved.has(id)) continue
    for (const key of [dumpKey(cluster, id), ...packs.map((one) => dumpPackKey(cluster, one.id))]) {
      needed.add(key)
    }
  }
  for (const key of damaged) if (!needed.has(key)) damaged.delete(key)
  for (const key of book.keys()) {
    if ((parseDumpKey(key) ?? parseDumpPackKey(key)) !== undefined) damaged.add(key)
  }
}

/** One dump, for a command that names it. */
export async function hasDump(storage: Storage, cluster: string, id: string): Promise<boolean> {
  try {
    return (await findDump(storage, cluster, id)) !== undefined
  } catch (error) {
    if (isFailure(error, 'TM1601')) return true
    throw error
  }
}
