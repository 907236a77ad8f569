/**
 * Encryption as a wrapper: every object but `tidemark.repository`, `keys/…` and `probe/…` is
 * sealed in the storage below and plain above (docs/design/encryption.md). The outermost
 * wrapper.
 *
 * Invariant: no byte is handed out before the tag of its block has held under this key,
 * this repository and this data key, and no end of an object is believed before a block
 * that says so. Sizes that are only listed are not proved.
 */
import { Failure } from '../base/failure.ts'
import type { Sealing } from './data-keys.ts'
import { ForwardingStorage } from './forwarding-storage.ts'
import { decodeJournal, isJournalKey } from './journal.ts'
import { HeaderMemory } from './sealed/header-memory.ts'
import { KeyRing } from './sealed/key-ring.ts'
import {
  BLOCK_BYTES,
  beginSeal,
  bindSeal,
  blockOffset,
  HEADER_BYTES,
  type ObjectSeal,
  openBlock,
  parseHeader,
  plainSizeOf,
  STORED_BLOCK_BYTES,
  sealWhole,
} from './sealed/sealed-format.ts'
import { openSealedJournal, unsealJournal } from './sealed/sealed-journal.ts'
import { SealedWriter } from './sealed/sealed-writer.ts'
import { assertStorageKey, MARKER_KEY } from './storage-key.ts'
import type { ObjectWriter, OpenJournal, Storage, StoredObject, WriteOptions } from './storage.ts'

export type { Sealing } from './data-keys.ts'

/** Readings of one object that was replaced each time. */
const MOST_READINGS = 3
const LOOK_AGAIN_MS = 60_000

export interface SealedStorage extends Storage {
  /** What the header of an object says, unproved; undefined when it is not there. */
  findSeal(key: string): Promise<SealIdentity | undefined>
  /** That of what is written now. */
  newestKeyId(): Promise<string>
}

/** Which data key, and which attempt at writing the object. */
export interface SealIdentity {
  readonly keyId: string
  readonly objectId: string
}

/** `lookAgainMs`: how old the last look for a newer key may be before a write looks again. */
export function openSealedStorage(
  inner: Storage,
  sealing: Sealing,
  lookAgainMs = LOOK_AGAIN_MS,
): SealedStorage {
  return new Sealer(inner, sealing, lookAgainMs)
}

/** Whether objects of this key are sealed in an encrypted repository. */
export function isSealedKey(key: string): boolean {
  return key !== MARKER_KEY && !key.startsWith('keys/') && !key.startsWith('probe/')
}

class Sealer extends ForwardingStorage implements SealedStorage {
  override readonly isSealed = true
  readonly #ring: KeyRing
  readonly #seals = new HeaderMemory()

  constructor(inner: Storage, sealing: Sealing, lookAgainMs: number) {
    super(inner)
    this.#ring = new KeyRing(inner, sealing, lookAgainMs)
  }

  async newestKeyId(): Promise<string> {
    return (await this.#ring.newest()).id
  }

  async findSeal(key: string): Promise<SealIdentity | undefined> {
    const header = await this.#readSealHeader(key)
    if (header === undefined) return undefined
    const parsed = parseHeader(asBuffer(header))
    if ('keyId' in parsed) return parsed
    throw damagedSeal(key, parsed.problem)
  }

  async #readSealHeader(key: string): Promise<Uint8Array | undefined> {
    if (!isJournalKey(key)) return await this.inner.readRange(key, 0, HEADER_BYTES)
    const stored = await this.inner.read(key)
    if (stored === undefined) return undefined
    return decodeJournal(stored)?.chunks[0]?.subarray(0, HEADER_BYTES) ?? new Uint8Array(0)
  }

  async readStored(key: string): Promise<Uint8Array | undefined> {
    return await this.inner.read(key)
  }

  override async read(key: string): Promise<Uint8Array | undefined> {
    if (!isSealedKey(key)) return await this.inner.read(key)
    const stored = await this.inner.read(key)
    if (stored === undefined) return undefined
    if (isJournalKey(key)) return await this.#readJournal(key, stored)
    const object = asBuffer(stored)
    const seal = await this.#bind(key, object.subarray(0, HEADER_BYTES))
    const plain = Buffer.allocUnsafeSlow(this.#requireSize(key, object.length))
    for (let ordinal = 0, at = 0; ; ordinal++) {
      const start = blockOffset(ordinal)
      const end = Math.min(object.length, start + STORED_BLOCK_BYTES)
      const isLast = end === object.length
      const block = openBlock(seal, ordinal, isLast, object.subarray(start, end))
      if (block === undefined) throw damagedSeal(key, describeBlock(ordinal))
      at += block.copy(plain, at)
      if (isLast) return plain
    }
  }

  /** The journal with its plain chunks. */
  async #readJournal(key: string, stored: Uint8Array): Promise<Uint8Array> {
    const reading = decodeJournal(stored)
    const [first] = reading?.chunks ?? []
    if (reading === undefined) throw damagedSeal(key, 'it does not begin as a journal does')
    if (first === undefined) throw damagedSeal(key, 'its first chunk does not hold')
    const seal = await this.#bind(key, first.subarray(0, HEADER_BYTES))
    return unsealJournal(seal, stored, reading)
  }

  #requireSize(key: string, storedBytes: number): number {
    const size = plainSizeOf(storedBytes)
    if (size !== undefined) return size
    throw damagedSeal(key, `it has been cut: no sealed object has ${storedBytes} bytes`)
  }

  override async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    if (!isSealedKey(key)) return await this.inner.readRange(key, offset, length, into)
    assertStorageKey(key)
    if (offset < 0 || length < 0) throw new Error(`not a range: ${offset}, ${length}`)
    if (isJournalKey(key)) return (await this.read(key))?.subarray(offset, offset + length)
    let before: ObjectSeal | undefined = this.#seals.recall(key)
    for (let reading = 1; ; reading++) {
      const found = await this.#readOnce(key, before, offset, length, into)
      if (found === undefined) {
        this.#seals.forget(key)
        return undefined
      }
      if (found.plain !== undefined) return found.plain
      // It may have been replaced meanwhile: then its header is another one now, or was read
      // together with blocks of the object before.
      this.#seals.forget(key)
      const now = await this.#readSeal(key)
      if (now === undefined) return undefined
      const isSame = before !== undefined && now.header.equals(found.seal.header)
      if (isSame || reading === MOST_READINGS) throw damagedSeal(key, found.problem)
      before = now
    }
  }

  async #readOnce(
    key: string,
    known: ObjectSeal | undefined,
    offset: number,
    length: number,
    into: Uint8Array | undefined,
  ): Promise<RangeReading | undefined> {
    const first = Math.floor(offset / BLOCK_BYTES)
    const last = Math.max(first, Math.ceil((offset + length) / BLOCK_BYTES) - 1)
    const start = blockOffset(first)
    // One byte more tells whether the last block of the range is that of the object.
    const wanted = blockOffset(last + 1) + 1 - start
    const found = await this.#readBlocks(key, known, start, wanted)
    if (found === undefined) return undefined
    const { seal, stored } = found
    if (known === undefined) this.#seals.remember(key, seal)
    const most = Math.min(length, stored.length)
    const plain = into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(most)
    const blocks = openBlocks(seal, first, stored, wanted, {
      plain,
      offset: offset - first * BLOCK_BYTES,
    })
    if (blocks.problem !== undefined) return { seal, plain: undefined, problem: blocks.problem }
    if (!blocks.endIsProved) {
      const problem = await this.#proveEnd(key, seal)
      if (problem !== undefined) return { seal, plain: undefined, problem }
    }
    return { seal, plain: plain.subarray(0, blocks.filled), problem: '' }
  }

  /** The first block comes with its header in one request. */
  async #readBlocks(
    key: string,
    known: ObjectSeal | undefined,
    start: number,
    wanted: number,
  ): Promise<{ seal: ObjectSeal; stored: Buffer } | undefined> {
    if (known === undefined && start === HEADER_BYTES) {
      const whole = await this.inner.readRange(key, 0, HEADER_BYTES + wanted)
      if (whole === undefined) return undefined
      const seal = await this.#bind(key, asBuffer(whole).subarray(0, HEADER_BYTES))
      return { seal, stored: asBuffer(whole).subarray(HEADER_BYTES) }
    }
    const [seal, stored] = await Promise.all([
      known ?? this.#readSeal(key),
      this.inner.readRange(key, start, wanted),
    ])
    if (seal === undefined || stored === undefined) return undefined
    return { seal, stored: asBuffer(stored) }
  }

  /** Behind a range in which nothing was: the last block there is must be the last one. */
  async #proveEnd(key: string, seal: ObjectSeal): Promise<string | undefined> {
    const storedBytes = await this.inner.size(key)
    if (storedBytes === undefined || plainSizeOf(storedBytes) === undefined) {
      return 'it has been cut'
    }
    const ordinal = Math.max(0, Math.ceil((storedBytes - HEADER_BYTES) / STORED_BLOCK_BYTES) - 1)
    const start = blockOffset(ordinal)
    const stored = await this.inner.readRange(key, start, STORED_BLOCK_BYTES)
    const isHeld = stored !== undefined && openBlock(seal, ordinal, true, stored) !== undefined
    return isHeld ? undefined : `${describeBlock(ordinal)}, or it has been cut`
  }

  async #readSeal(key: string): Promise<ObjectSeal | undefined> {
    const header = await this.inner.readRange(key, 0, HEADER_BYTES)
    return header === undefined ? undefined : await this.#bind(key, asBuffer(header))
  }

  /** TM1601 for a header that is none, or names a key that the repository never had. */
  async #bind(key: string, header: Buffer): Promise<ObjectSeal> {
    const parsed = parseHeader(header)
    if ('problem' in parsed) throw damagedSeal(key, parsed.problem)
    const dataKey = await this.#ring.find(parsed.keyId, key)
    if (dataKey === undefined) {
      throw damagedSeal(key, `it names the data key ${parsed.keyId}, which keys/ does not have`)
    }
    return bindSeal(this.#ring.repositoryId, key, Buffer.from(header), dataKey.bytes)
  }

  override async size(key: string): Promise<number | undefined> {
    const stored = await this.inner.size(key)
    if (stored === undefined || !isSealedKey(key) || isJournalKey(key)) return stored
    return plainSizeOf(stored) ?? 0
  }

  override list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    return listPlain(this.inner.list(prefix, after))
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    if (!isSealedKey(key)) return await this.inner.write(key, bytes, options)
    assertStorageKey(key)
    const seal = beginSeal(this.#ring.repositoryId, key, await this.#ring.newest())
    await this.inner.write(key, Buffer.concat(sealWhole(seal, bytes)), options)
  }

  override async openWriter(key: string): Promise<ObjectWriter> {
    if (!isSealedKey(key)) return await this.inner.openWriter(key)
    assertStorageKey(key)
    const dataKey = await this.#ring.newest()
    const writer = await this.inner.openWriter(key)
    return new SealedWriter(beginSeal(this.#ring.repositoryId, key, dataKey), writer)
  }

  override get openJournal(): OpenJournal | undefined {
    const open = super.openJournal
    if (open === undefined) return undefined
    return async (key, head) => {
      const dataKey = await this.#ring.newest()
      return await openSealedJournal(
        open,
        beginSeal(this.#ring.repositoryId, key, dataKey),
        key,
        head,
      )
    }
  }
}

interface RangeReading {
  readonly seal: ObjectSeal
  /** Undefined: a tag did not hold, and `problem` says which. */
  readonly plain: Uint8Array | undefined
  readonly problem: string
}

interface OpenedBlocks {
  /** Bytes that were put into the range. */
  readonly filled: number
  /** More follows, or the last block of the object was among these. */
  readonly endIsProved: boolean
  readonly problem: string | undefined
}

/** Where the plain bytes go: those from `offset` of the first block on, as far as it has room. */
interface PlainRange {
  readonly plain: Uint8Array
  readonly offset: number
}

/** `stored` begins with block `first`; fewer bytes than `wanted`: the object ends in it. */
function openBlocks(
  seal: ObjectSeal,
  first: number,
  stored: Buffer,
  wanted: number,
  { plain, offset }: PlainRange,
): OpenedBlocks {
  const endsHere = stored.length < wanted
  const end = endsHere ? stored.length : wanted - 1
  let filled = 0
  let blocks = 0
  for (let at = 0; at < end; at += STORED_BLOCK_BYTES, blocks++) {
    const next = Math.min(end, at + STORED_BLOCK_BYTES)
    const isLast = endsHere && next === end
    const block = openBlock(seal, first + blocks, isLast, stored.subarray(at, next))
    if (block === undefined) {
      return { filled, endIsProved: false, problem: describeBlock(first + blocks) }
    }
    const from = blocks === 0 ? Math.min(offset, block.length) : 0
    const part = block.subarray(from, from + plain.length - filled)
    plain.set(part, filled)
    filled += part.length
  }
  return { filled, endIsProved: !endsHere || blocks > 0, problem: undefined }
}

function describeBlock(ordinal: number): string {
  return `the tag of its block ${ordinal} does not hold`
}

async function* listPlain(stored: AsyncIterable<StoredObject>): AsyncGenerator<StoredObject> {
  for await (const object of stored) {
    const { key, sizeBytes } = object
    const isSealed = isSealedKey(key) && !isJournalKey(key)
    yield isSealed ? { key, sizeBytes: plainSizeOf(sizeBytes) ?? 0 } : object
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function damagedSeal(key: string, because: string): Failure {
  return new Failure('TM1601', {
    message: `the object ${key} is damaged`,
    because,
    fix: 'restore from another backup or repository; keep the damaged object for inspection',
    details: { key },
  })
}
