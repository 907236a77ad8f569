/**
 * Proves one pack from its first byte to its last: trailer, index, the hash of every frame,
 * that every frame decodes, and what its pages are.
 */
import { Failure, toFailureMessage } from '../../base/failure.ts'
import { damagedObject } from '../../repository/envelope.ts'
import { FRAME_KINDS, type FrameEntry, PAGE_BYTES } from '../../repository/pack-format.ts'
import { openPack, type PackReader } from '../../repository/pack-reader.ts'
import type { Storage } from '../../storage/storage.ts'
import type { Fault, PackAnswer, RecordFrame } from './messages.ts'
import { makePrints, type PagePrinter } from './page-prints.ts'

/** Read at once; a larger frame (a piece of a file list) is read alone. */
const READ_BYTES = 4 * 1024 * 1024

export async function provePack(
  storage: Storage,
  cluster: string,
  pack: string,
  printer: PagePrinter,
): Promise<PackAnswer> {
  let reader: PackReader
  try {
    reader = await openPack(storage, cluster, pack)
  } catch (error) {
    if (!isDamage(error)) throw error
    const failure = toFailureMessage(error)
    const faults = [{ pack, frame: undefined, failure }]
    return { frames: 0, pages: 0, bytes: 0, faults, records: [], prints: undefined }
  }
  const answer = await proveFrames(reader, printer)
  if (answer.faults.length === 0) return answer
  const now = await reopen(reader)
  return now === undefined ? answer : await proveFrames(now, printer)
}

/** The pack as it is now, if it was replaced since; a missing one was damaged all the same. */
async function reopen(reader: PackReader): Promise<PackReader | undefined> {
  try {
    return await reader.reopen()
  } catch (error) {
    if (!isDamage(error)) throw error
    return undefined
  }
}

/** Dropped frames are no fault of the pack: a map that needs one tells of it. */
async function proveFrames(reader: PackReader, printer: PagePrinter): Promise<PackAnswer> {
  const { packId: pack } = reader
  const prints = makePrints(reader.frames.length)
  const faults: Fault[] = []
  const records: RecordFrame[] = []
  let frames = 0
  let pages = 0
  for (const { first, count } of groupFrames(reader)) {
    const stored = await readGroup(reader, first, count, faults)
    for (let ordinal = first; stored !== undefined && ordinal < first + count; ordinal++) {
      const entry = reader.frames[ordinal] as FrameEntry
      if (!reader.holdsFrame(ordinal)) continue
      frames++
      try {
        const raw = reader.decodeStored(ordinal, first, stored)
        requireShape(reader.key, ordinal, entry, raw)
        if (entry.kind === FRAME_KINDS.pages) {
          printer.fill(prints, ordinal, entry, raw)
          pages += entry.slots
        }
        if (entry.kind === FRAME_KINDS.record) records.push(readRecordFrame(reader, ordinal, raw))
      } catch (error) {
        if (!isDamage(error)) throw error
        faults.push({ pack, frame: ordinal, failure: toFailureMessage(error) })
      }
    }
  }
  return { frames, pages, bytes: reader.sizeBytes, faults, records, prints }
}

/**
 * Damage and absence are what verify looks for, a disk that cannot give its bytes back (EIO)
 * included; anything else keeps it from looking.
 */
export function isDamage(error: unknown): error is Failure {
  if (!(error instanceof Failure)) return false
  if (['TM1601', 'TM1602', 'TM1605'].includes(error.code)) return true
  return error.code === 'TM1501' && error.details?.['systemError'] === 'EIO'
}

/** A pack that is cut behind its index's back is a fault of all frames in the group. */
async function readGroup(
  reader: PackReader,
  first: number,
  count: number,
  faults: Fault[],
): Promise<Uint8Array | undefined> {
  try {
    return await reader.readStored(first, count)
  } catch (error) {
    if (!isDamage(error)) throw error
    const failure = toFailureMessage(error)
    for (let frame = first; frame < first + count; frame++) {
      faults.push({ pack: reader.packId, frame, failure })
    }
    return undefined
  }
}

function* groupFrames(reader: PackReader): Generator<{ first: number; count: number }> {
  let first = 0
  let bytes = 0
  for (const [ordinal, { storedLength }] of reader.frames.entries()) {
    if (ordinal > first && bytes + storedLength > READ_BYTES) {
      yield { first, count: ordinal - first }
      first = ordinal
      bytes = 0
    }
    bytes += storedLength
  }
  if (reader.frames.length > first) yield { first, count: reader.frames.length - first }
}

function requireShape(key: string, ordinal: number, entry: FrameEntry, raw: Uint8Array): void {
  if (raw.length !== entry.rawLength) {
    throw damagedObject(key, `frame ${ordinal} is not as long as its index says`)
  }
  if (entry.kind === FRAME_KINDS.pages && raw.length !== entry.slots * PAGE_BYTES) {
    throw damagedObject(key, `frame ${ordinal} has ${raw.length} bytes for ${entry.slots} pages`)
  }
}

function readRecordFrame(reader: PackReader, frame: number, raw: Uint8Array): RecordFrame {
  try {
    const { id } = JSON.parse(Buffer.from(raw).toString('utf8')) as { id?: unknown }
    if (typeof id === 'string') return { frame, backupId: id }
  } catch (cause) {
    throw damagedObject(reader.key, `frame ${frame} is no backup record`, cause)
  }
  throw damagedObject(reader.key, `frame ${frame} is no backup record`)
}
