/**
 * What verify has proved and when: `clusters/<cluster>/verified.seen`
 * (docs/design/repository-format.md, section 10). A hint: without it everything is proved
 * again. Keys that differ only in a running number are stored as ranges.
 */
import { isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import { damagedObject, decodeEnvelope, encodeEnvelope } from './envelope.ts'
import { clusterPrefix } from './keys.ts'

export interface VerifiedMemory {
  /** Key of an object -> when it was last proved, in seconds since 1970. */
  readonly objects: Map<string, number>
  /** By backup id: when all its maps were last proved, and the pack that holds its record. */
  readonly backups: Map<string, VerifiedBackup>
  /** A walk over the maps that a budget ended: the backups it is about, and the next path. */
  sweep: Sweep | undefined
  /** Keys of records and packs of dumps that a proof found damaged: no dump refers to them. */
  readonly damagedObjects: Set<string>
}

export interface VerifiedBackup {
  /** 0: its maps were not proved yet. */
  readonly at: number
  readonly recordPack: string
}

export interface Sweep {
  readonly backups: readonly string[]
  readonly nextPath: string
}

export interface ReadMemory {
  readonly memory: VerifiedMemory
  /** Why what is stored cannot be used: damaged, or not readable. */
  readonly damaged: string | undefined
}

export function verifiedKey(cluster: string): string {
  return `${clusterPrefix(cluster)}verified.seen`
}

export function emptyMemory(): VerifiedMemory {
  return { objects: new Map(), backups: new Map(), sweep: undefined, damagedObjects: new Set() }
}

/** One that is damaged, or that another user wrote and nobody else may read, is as good as none. */
export async function readVerifiedMemory(storage: Storage, cluster: string): Promise<ReadMemory> {
  const key = verifiedKey(cluster)
  try {
    const bytes = await storage.read(key)
    if (bytes === undefined) return { memory: emptyMemory(), damaged: undefined }
    return { memory: decodeMemory(key, bytes), damaged: undefined }
  } catch (error) {
    if (!isFailure(error, 'TM1601') && !isFailure(error, 'TM1501')) throw error
    return { memory: emptyMemory(), damaged: error.because ?? error.message }
  }
}

/** The hash holds, so that only another version can have written what cannot be parsed. */
function decodeMemory(key: string, bytes: Uint8Array): VerifiedMemory {
  const raw = decodeEnvelope(key, 'SEEN', bytes)
  try {
    return parseMemory(raw)
  } catch (cause) {
    throw damagedObject(key, 'it was written by another version', cause)
  }
}

/** Of two that write at once the later one counts: what the other proved is proved again. */
export async function writeVerifiedMemory(
  storage: Storage,
  cluster: string,
  memory: VerifiedMemory,
): Promise<void> {
  await storage.write(verifiedKey(cluster), encodeEnvelope('SEEN', formatMemory(memory)))
}

/** [before the number, behind it, first, last, at]; first -1: the key has no number. */
type StoredRange = [string, string, number, number, number]

interface StoredMemory {
  readonly format: number
  readonly ranges: readonly StoredRange[]
  readonly backups: Readonly<Record<string, readonly [number, string]>>
  readonly sweep: Sweep | null
  readonly damaged?: readonly string[]
}

/** Names that PostgreSQL gives are in capitals, ours are not. */
const IN_CAPITALS: ReadonlySet<string> = new Set(['.wal', '.history', '.backup'])
const NUMBERED = /^(.*)([0-9a-f]{8}|[0-9A-F]{8})(\.[a-z]+)$/

export function formatMemory(memory: VerifiedMemory): Uint8Array {
  const { objects, backups, sweep, damagedObjects } = memory
  const ranges: StoredRange[] = []
  for (const key of [...objects.keys()].sort()) {
    const at = objects.get(key) as number
    const match = NUMBERED.exec(key)
    if (match === null) {
      ranges.push([key, '', -1, -1, at])
      continue
    }
    const [, before = '', digits = '', behind = ''] = match
    const number = Number.parseInt(digits, 16)
    const last = ranges.at(-1)
    const follows =
      last?.[0] === before && last[1] === behind && last[3] === number - 1 && last[4] === at
    if (last !== undefined && follows) last[3] = number
    else ranges.push([before, behind, number, number, at])
  }
  const stored: StoredMemory = {
    format: 1,
    ranges,
    backups: Object.fromEntries(
      [...backups].map(([id, { at, recordPack }]) => [id, [at, recordPack] as const]),
    ),
    sweep: sweep ?? null,
    ...(damagedObjects.size === 0 ? {} : { damaged: [...damagedObjects].sort() }),
  }
  return Buffer.from(JSON.stringify(stored))
}

/** Throws when it is none. */
export function parseMemory(raw: Uint8Array): VerifiedMemory {
  const stored = JSON.parse(Buffer.from(raw).toString('utf8')) as StoredMemory
  if (stored.format !== 1) throw new Error(`it has format ${stored.format}`)
  const memory = emptyMemory()
  for (const [before, behind, first, last, at] of stored.ranges) {
    if (first < 0) memory.objects.set(before, at)
    for (let number = first; first >= 0 && number <= last; number++) {
      const digits = number.toString(16).padStart(8, '0')
      const text = IN_CAPITALS.has(behind) ? digits.toUpperCase() : digits
      memory.objects.set(`${before}${text}${behind}`, at)
    }
  }
  for (const [id, [at, recordPack]] of Object.entries(stored.backups)) {
    memory.backups.set(id, { at, recordPack })
  }
  memory.sweep = stored.sweep ?? undefined
  for (const key of stored.damaged ?? []) memory.damagedObjects.add(key)
  return memory
}
