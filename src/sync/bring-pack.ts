/**
 * Brings a pack into the target, or completes the one that is there, frame by frame
 * (docs/design/sync.md, section 4).
 *
 * Invariant: what is written has every frame that the target's pack had, and none that was
 * not proved, but for bytes that were damaged in the target before and stay as they were. The
 * pack appears whole, at the commit; whatever ends earlier leaves the target as it was.
 */
import { Failure } from '../base/failure.ts'
import { damagedObject, missingObject } from '../repository/envelope.ts'
import { type PackKeyOf, packKey } from '../repository/keys.ts'
import {
  dropFrame,
  encodePackEnd,
  encodePackHeader,
  FRAME_KINDS,
  type FrameEntry,
} from '../repository/pack-format.ts'
import type { ObjectWriter, Storage } from '../storage/storage.ts'
import { isDamage } from './damage.ts'
import { findPackShape, isKept, type PackShape, StoredFrames } from './pack-frames.ts'

export interface PackRequest {
  readonly source: Storage
  readonly target: Storage
  readonly cluster: string
  readonly packId: string
  /** Of a pack of a backup unless given. */
  readonly keyOf?: PackKeyOf
  /** Frames that the target's pack has dropped and the source's keeps are wanted. */
  readonly complete: boolean
  /** Read every frame of the target's pack, and mend those that do not hold. */
  readonly prove: boolean
  /** The copy of a backup record in the pack may come along: that backup is the target's too. */
  readonly keepsRecord: boolean
  /** False where the target's pack must stay as it is. */
  readonly mayReplace: boolean
}

export interface BroughtPack {
  /** `there`: nothing was to be done. `busy`: there is, and another may be replacing it. */
  readonly outcome: 'there' | 'copied' | 'completed' | 'healed' | 'busy'
  readonly bytes: number
  /** Frames that were damaged in the target, and were brought. */
  readonly healed: number
  /** Frames that neither side has whole. */
  readonly unhealed: readonly number[]
}

const NOTHING = { bytes: 0, healed: 0, unhealed: [] } as const

/**
 * TM1601 or TM1602 naming what the source lacks; TM1933 where the packs are not one pack. A
 * pack may have been repacked since its index was read: damage is looked at twice.
 */
export async function bringPack(request: PackRequest): Promise<BroughtPack> {
  const first = await tryOnce(request).catch((error: unknown) => {
    if (isDamage(error)) return undefined
    throw error
  })
  if (first !== undefined && first.unhealed.length === 0) return first
  const again = await tryOnce(request)
  if (first === undefined || again.outcome !== 'there') return again
  return { ...first, unhealed: again.unhealed }
}

async function tryOnce(request: PackRequest): Promise<BroughtPack> {
  const { source, target, cluster, packId, keyOf = packKey } = request
  const key = keyOf(cluster, packId)
  const there = await findWhole(target, request)
  const isThere = there !== undefined
  if (isThere && there !== 'damaged' && !request.complete && !request.prove) {
    return { outcome: 'there', ...NOTHING }
  }
  const work = there === undefined || there === 'damaged' ? undefined : await judge(request, there)
  if (work !== undefined && work.wanted.size === 0 && work.damaged.length === 0) {
    return { outcome: 'there', ...NOTHING }
  }
  if (isThere && !request.mayReplace) return { outcome: 'busy', ...NOTHING }
  const from = work?.from ?? (await findPackShape(source, cluster, packId, keyOf))
  if (from === undefined) {
    if (work === undefined) throw missingObject(key, 'a backup')
    return { outcome: 'there', ...NOTHING, unhealed: work.damaged }
  }
  if (there === undefined || there === 'damaged' || work === undefined) {
    const shape = request.keepsRecord ? from : withoutRecord(from)
    const bytes = await copyWhole(source, target, from, shape)
    if (there === undefined) return { outcome: 'copied', ...NOTHING, bytes }
    return { outcome: 'healed', bytes, healed: shape.frames.filter(isKept).length, unhealed: [] }
  }
  return await writeUnion(request, there, { ...work, from })
}

async function findWhole(
  storage: Storage,
  { cluster, packId, keyOf }: PackRequest,
): Promise<PackShape | 'damaged' | undefined> {
  try {
    return await findPackShape(storage, cluster, packId, keyOf)
  } catch (error) {
    if (isDamage(error)) return 'damaged'
    throw error
  }
}

interface Work {
  /** The source's pack; undefined where it has none that can be read. */
  readonly from: PackShape | undefined
  /** Ordinals that the target dropped, the source keeps, and the caller wants. */
  readonly wanted: ReadonlySet<number>
  /** Ordinals that the target keeps and whose bytes do not hold. */
  readonly damaged: readonly number[]
}

async function judge(request: PackRequest, there: PackShape): Promise<Work> {
  const { source, target, cluster, packId, keyOf, complete, prove, keepsRecord } = request
  const damaged: number[] = []
  if (prove) {
    const frames = new StoredFrames(target, there)
    for (const [ordinal, entry] of there.frames.entries()) {
      if (isKept(entry) && (await frames.findProved(ordinal)) === undefined) damaged.push(ordinal)
    }
  }
  if (!complete && damaged.length === 0) return { from: undefined, wanted: new Set(), damaged }
  const found = await findWhole(source, request)
  if (complete && found === undefined) throw missingObject(there.key, 'a backup')
  if (complete && found === 'damaged') await findPackShape(source, cluster, packId, keyOf)
  const from = found === 'damaged' ? undefined : found
  if (from === undefined) return { from, wanted: new Set(), damaged }
  requireSamePack(there, from)
  const isWanted = (ordinal: number): boolean => {
    const other = from.frames[ordinal] as FrameEntry
    return isKept(other) && (keepsRecord || other.kind !== FRAME_KINDS.record)
  }
  const dropped = [...there.frames.keys()].filter((at) => !isKept(there.frames[at] as FrameEntry))
  return { from, wanted: new Set(complete ? dropped.filter(isWanted) : []), damaged }
}

/** Of one backup's attempt: the same frames, each with the same hash, dropped or not. */
function requireSamePack(there: PackShape, from: PackShape): void {
  const isSame =
    there.frames.length === from.frames.length &&
    there.frames.every((entry, ordinal) => {
      const other = from.frames[ordinal] as FrameEntry
      return entry.kind === other.kind && Buffer.from(entry.hash).equals(other.hash)
    })
  if (isSame) return
  throw new Failure('TM1933', {
    message: `the pack ${there.key} holds other frames in the two repositories`,
    because: 'packs of one name are of one backup, and have the same frames everywhere',
    fix: 'find out which one is right with tidemark verify --full, and remove the other',
    details: { key: there.key },
  })
}

/** The source's bytes as they are, but for frames that `shape` drops. */
async function copyWhole(
  source: Storage,
  target: Storage,
  from: PackShape,
  shape: PackShape,
): Promise<number> {
  const frames = new StoredFrames(source, from)
  await writePack(target, shape, async (writer) => {
    for (const [ordinal, entry] of shape.frames.entries()) {
      if (!isKept(entry)) continue
      const bytes = await frames.findProved(ordinal)
      if (bytes === undefined) throw damagedFrame(from, ordinal)
      writer.append([bytes])
    }
    return true
  })
  return shape.sizeBytes
}

async function writeUnion(
  request: PackRequest,
  there: PackShape,
  work: Work & { readonly from: PackShape },
): Promise<BroughtPack> {
  const { from, wanted } = work
  const own = new StoredFrames(request.target, there)
  const other = new StoredFrames(request.source, from)
  const shape = chooseShape(there, from, wanted)
  const unhealed: number[] = []
  let healed = 0
  const written = await writePack(request.target, shape, async (writer) => {
    for (const [ordinal, entry] of shape.frames.entries()) {
      if (!isKept(entry)) continue
      const whole = await own.findProved(ordinal)
      const bytes = whole ?? (await other.findProved(ordinal))
      if (bytes !== undefined) {
        writer.append([bytes])
        if (whole === undefined && !wanted.has(ordinal)) healed++
        continue
      }
      if (wanted.has(ordinal)) throw damagedFrame(from, ordinal)
      unhealed.push(ordinal)
      writer.append([await readAsItIs(own, ordinal, entry)])
    }
    return healed > 0 || wanted.size > 0
  })
  if (!written) return { outcome: 'there', ...NOTHING, unhealed }
  await requireWritten(request, shape)
  return { outcome: healed > 0 ? 'healed' : 'completed', bytes: shape.sizeBytes, healed, unhealed }
}

/** Damaged before, damaged after: the index refuses it. */
async function readAsItIs(
  own: StoredFrames,
  ordinal: number,
  { storedLength }: FrameEntry,
): Promise<Uint8Array> {
  return (await own.findStored(ordinal)) ?? new Uint8Array(storedLength)
}

/** Header and index of the side that has exactly what is wanted; else they are made. */
function chooseShape(there: PackShape, from: PackShape, wanted: ReadonlySet<number>): PackShape {
  if (wanted.size === 0) return there
  const frames = there.frames.map((own, ordinal) => {
    const other = from.frames[ordinal] as FrameEntry
    return wanted.has(ordinal) ? other : own
  })
  const isFrom = frames.every((entry, ordinal) => {
    return isKept(entry) === isKept(from.frames[ordinal] as FrameEntry)
  })
  return isFrom ? from : makeSparse(there, frames)
}

/** A copy of a record of no backup there would be taken for a record that was lost. */
function withoutRecord(from: PackShape): PackShape {
  const isRecord = (entry: FrameEntry): boolean => {
    return entry.kind === FRAME_KINDS.record && isKept(entry)
  }
  if (!from.frames.some(isRecord)) return from
  return makeSparse(
    from,
    from.frames.map((entry) => (isRecord(entry) ? dropFrame(entry) : entry)),
  )
}

function makeSparse({ packId, key }: PackShape, entries: readonly FrameEntry[]): PackShape {
  const header = encodePackHeader(packId, 'sparse')
  let offset = header.length
  const frames = entries.map((entry) => {
    const placed = { ...entry, offset }
    offset += entry.storedLength
    return placed
  })
  const tail = encodePackEnd(header, frames, offset)
  return { packId, key, header, frames, tail, sizeBytes: offset + tail.length }
}

/** False when `fill` finds that there is nothing to write. */
async function writePack(
  target: Storage,
  { key, header, tail }: PackShape,
  fill: (writer: ObjectWriter) => Promise<boolean>,
): Promise<boolean> {
  const writer = await target.openWriter(key)
  try {
    writer.append([header])
    const isWorthIt = await fill(writer)
    if (isWorthIt) {
      writer.append([tail])
      await writer.commit()
      return true
    }
  } catch (error) {
    await writer.abort().catch(() => undefined)
    throw error
  }
  await writer.abort()
  return false
}

/** It has taken the place of the only other copy there: its index is read back. */
async function requireWritten(
  { target, cluster, keyOf }: PackRequest,
  shape: PackShape,
): Promise<void> {
  const written = await findPackShape(target, cluster, shape.packId, keyOf)
  if (written !== undefined && Buffer.from(written.tail).equals(shape.tail)) return
  throw damagedObject(shape.key, 'it is not the pack that was just written')
}

function damagedFrame({ key }: PackShape, ordinal: number): Failure {
  return damagedObject(key, `frame ${ordinal} is not the one that was written`)
}
