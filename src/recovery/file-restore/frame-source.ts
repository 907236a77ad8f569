/**
 * Frames for one task, whichever packs they lie in, portion by portion: a portion is read
 * while the one before it is decoded and written. What lies close together in a pack is
 * read in one go, and a frame is decoded once for all that a portion wants of it.
 *
 * Invariant: a portion has at most MAX_FRAMES frames, and its memory is used again.
 */
import type { PackReader } from '../../repository/pack-reader.ts'

export const MAX_FRAMES = 128
/** Frames that lie between two needed ones are read along rather than sought over. */
const MAX_SKIPPED_FRAMES = 3
const MAX_READ_FRAMES = 64

/** One use of a frame: what lies at `ordinal` of `pack`, in the order of use. */
export interface FrameUse {
  readonly pack: string
  readonly ordinal: number
}

interface Frame {
  readonly pack: string
  readonly ordinal: number
  uses: number
  reader: PackReader | undefined
  /** The read that it came with: ordinal of its first frame, and its bytes. */
  first: number
  stored: Uint8Array
  /** Decoded, in memory of its own: only while other frames are decoded in between. */
  raw: Uint8Array | undefined
}

/**
 * Who proves what is decoded: the hashes of the frames, or the fingerprints of the pages. A
 * file that has no fingerprints may go on in the next portion, and its own hash would not
 * tell any more which pack was damaged.
 */
export type Proof = 'frames' | 'pages'

/** Memory that goes from portion to portion. */
export class FrameMemory {
  readonly #stored: ArrayBuffer[] = []
  readonly #raw: Uint8Array[] = []

  takeStored(bytes: number): Uint8Array {
    const memory = this.#stored.pop()
    if (memory !== undefined && memory.byteLength >= bytes) return new Uint8Array(memory, 0, bytes)
    return new Uint8Array(Math.ceil(bytes / STORED_STEP_BYTES) * STORED_STEP_BYTES).subarray(
      0,
      bytes,
    )
  }

  giveStored(bytes: Uint8Array): void {
    this.#stored.push(bytes.buffer as ArrayBuffer)
  }

  keepRaw(raw: Uint8Array): Uint8Array {
    const memory = this.#raw.findLast(({ length }) => length === raw.length)
    if (memory === undefined) return new Uint8Array(raw)
    this.#raw.splice(this.#raw.indexOf(memory), 1)
    memory.set(raw)
    return memory
  }

  giveRaw(raw: Uint8Array): void {
    if (this.#raw.length < KEPT_RAW) this.#raw.push(raw)
  }
}

const STORED_STEP_BYTES = 1024 * 1024
const KEPT_RAW = 8
const NOTHING = new Uint8Array(0)

export class Portion {
  readonly #frames: ReadonlyMap<string, Frame>
  readonly #memory: FrameMemory
  readonly #proof: Proof
  readonly #readers = new Set<PackReader>()
  #stored: Uint8Array = NOTHING
  #current: Frame | undefined
  #raw: Uint8Array = NOTHING

  /** `uses`: one for each call of next() that will follow, in that order. */
  constructor(uses: readonly FrameUse[], memory: FrameMemory, proof: Proof) {
    const frames = new Map<string, Frame>()
    for (const { pack, ordinal } of uses) {
      const key = `${pack}/${ordinal}`
      const known = frames.get(key)
      if (known !== undefined) known.uses++
      else {
        const empty = { reader: undefined, first: 0, stored: NOTHING, raw: undefined }
        frames.set(key, { pack, ordinal, uses: 1, ...empty })
      }
    }
    this.#frames = frames
    this.#memory = memory
    this.#proof = proof
  }

  /** Reads what next() decodes. TM1602, TM15xx; TM1601 when an index is damaged. */
  async load(openPack: (packId: string) => Promise<PackReader>): Promise<void> {
    const groups: { reader: PackReader; frames: Frame[] }[] = []
    for (const [pack, frames] of Map.groupBy(this.#frames.values(), ({ pack }) => pack)) {
      const reader = await openPack(pack)
      this.#readers.add(reader)
      for (const group of groupFrames(frames)) groups.push({ reader, frames: group })
    }
    const lengths = groups.map(({ reader, frames }) => reader.storedLength(...spanOf(frames)))
    this.#stored = this.#memory.takeStored(lengths.reduce((sum, length) => sum + length, 0))
    let at = 0
    for (const [number, { reader, frames }] of groups.entries()) {
      const length = lengths[number] as number
      const [first, count] = spanOf(frames)
      const into = this.#stored.subarray(at, at + length)
      const stored = await reader.readStored(first, count, into)
      for (const frame of frames) Object.assign(frame, { reader, first, stored })
      at += length
    }
  }

  /** By whose indexes it was read. */
  get readers(): ReadonlySet<PackReader> {
    return this.#readers
  }

  /**
   * The same, frame by frame, each proved and from whichever repository has it: for what
   * load() or the proof of the caller has failed for.
   */
  async loadCopies(openPack: (packId: string) => Promise<PackReader>): Promise<void> {
    for (const frame of this.#frames.values()) {
      const { reader, stored } = await (await openPack(frame.pack)).readCopy(frame.ordinal)
      Object.assign(frame, { reader, first: frame.ordinal, stored })
    }
  }

  /**
   * The frame of the next use; it holds until the next call. With the proof of pages the
   * caller proves what it takes, and asks findDamage() when that fails.
   */
  next({ pack, ordinal }: FrameUse): Uint8Array {
    const frame = this.#frames.get(`${pack}/${ordinal}`)
    if (frame?.reader === undefined) throw new Error(`frame ${ordinal} of ${pack} was not read`)
    if (frame !== this.#current) {
      this.#leaveCurrent()
      this.#raw = frame.raw ?? this.#decode(frame.reader, frame)
      this.#current = frame
    }
    frame.uses--
    return this.#raw
  }

  #decode(reader: PackReader, { ordinal, first, stored }: Frame): Uint8Array {
    return this.#proof === 'frames'
      ? reader.decodeStored(ordinal, first, stored)
      : reader.decodeUnproved(ordinal, first, stored)
  }

  /** Throws TM1601 for the first frame whose stored bytes are not those that were written. */
  findDamage(): void {
    for (const { reader, ordinal, first, stored } of this.#frames.values()) {
      reader?.decodeStored(ordinal, first, stored)
    }
  }

  /** After the last use. */
  release(): void {
    this.#leaveCurrent()
    if (this.#stored.length > 0) this.#memory.giveStored(this.#stored)
    this.#stored = NOTHING
  }

  /** What was decoded last lies in memory that the next frame is decoded into. */
  #leaveCurrent(): void {
    const current = this.#current
    if (current === undefined) return
    if (current.uses > 0) {
      current.raw ??= this.#memory.keepRaw(this.#raw)
    } else if (current.raw !== undefined) {
      this.#memory.giveRaw(current.raw)
      current.raw = undefined
    }
  }
}

/** Frames of one pack, in order, by what is read in one go. */
function groupFrames(frames: readonly Frame[]): Frame[][] {
  const groups: Frame[][] = []
  for (const frame of frames.toSorted((one, other) => one.ordinal - other.ordinal)) {
    const group = groups.at(-1)
    const first = group?.[0]?.ordinal ?? 0
    const near = frame.ordinal <= (group?.at(-1)?.ordinal ?? 0) + 1 + MAX_SKIPPED_FRAMES
    if (group !== undefined && near && frame.ordinal - first < MAX_READ_FRAMES) group.push(frame)
    else groups.push([frame])
  }
  return groups
}

/** The first frame, and how many frames there are from it to the last one. */
function spanOf(frames: readonly Frame[]): [number, number] {
  const first = (frames[0] as Frame).ordinal
  return [first, (frames.at(-1) as Frame).ordinal - first + 1]
}
