/**
 * The envelope of small objects: a magic word, a kind, a hash, then zstd
 * (docs/design/repository-format.md, section 6).
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | `TMOBJ001` |
 * | 8 | 4 | kind |
 * | 12 | 4 | raw length |
 * | 16 | 32 | SHA-256 of the raw content |
 * | 48 | … | one zstd frame |
 */
import { hash } from 'node:crypto'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { Failure } from '../base/failure.ts'

export type EnvelopeKind =
  | 'RECD'
  | 'HOLD'
  | 'SEEN'
  | 'COND'
  | 'MARK'
  | 'GONE'
  | 'TAIL'
  | 'GAPR'
  | 'BRKM'
  | 'WRIT'
  | 'RSVD'
  | 'NAMS'
  | 'DUMP'

const MAGIC = 'TMOBJ001'
const HEADER_BYTES = 48
/** No small object is larger: none is written, and a damaged length must not allocate more. */
const MAX_RAW_BYTES = 256 * 1024 * 1024

/** TM1607: nobody could read it. */
export function encodeEnvelope(kind: EnvelopeKind, raw: Uint8Array): Uint8Array {
  if (raw.length > MAX_RAW_BYTES) throw tooLarge(kind, `it has ${raw.length} bytes of content`)
  const header = Buffer.alloc(HEADER_BYTES)
  header.write(MAGIC, 0, 'latin1')
  header.write(kind, 8, 'latin1')
  header.writeUInt32LE(raw.length, 12)
  hash('sha256', raw, 'buffer').copy(header, 16)
  return Buffer.concat([header, zstdCompressSync(raw)])
}

/** The raw content; TM1601 naming `key` when anything does not hold. */
export function decodeEnvelope(key: string, kind: EnvelopeKind, bytes: Uint8Array): Uint8Array {
  const object = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (object.length < HEADER_BYTES || object.toString('latin1', 0, 8) !== MAGIC) {
    throw damagedObject(key, 'it does not begin as an object of a Tidemark repository does')
  }
  if (object.toString('latin1', 8, 12) !== kind) {
    throw damagedObject(key, `it is not of the kind ${kind}`)
  }
  const rawLength = object.readUInt32LE(12)
  if (rawLength > MAX_RAW_BYTES) throw damagedObject(key, 'its length is not plausible')
  const raw = decompressWhole(key, object.subarray(HEADER_BYTES), rawLength)
  if (!hash('sha256', raw, 'buffer').equals(object.subarray(16, 48))) {
    throw damagedObject(key, 'its SHA-256 is not the one that was written')
  }
  return raw
}

/** zlib ignores what follows the zstd frame: how much it has read tells. */
function decompressWhole(key: string, stored: Uint8Array, rawLength: number): Buffer {
  try {
    const options = { maxOutputLength: Math.max(rawLength, 1), info: true }
    const { buffer, engine } = zstdDecompressSync(stored, options) as unknown as Decompressed
    if (engine.bytesWritten !== stored.length) throw new Error('bytes follow its content')
    if (buffer.length === rawLength) return buffer
  } catch (cause) {
    throw damagedObject(key, 'its content does not decompress', cause)
  }
  throw damagedObject(key, 'its content is not as long as it says')
}

/** What zlib's synchronous functions return with `info`. */
interface Decompressed {
  readonly buffer: Buffer
  readonly engine: { readonly bytesWritten: number }
}

export function tooLarge(kind: EnvelopeKind, because: string, cause?: unknown): Failure {
  const isDump = kind === 'DUMP'
  return new Failure('TM1607', {
    message: `${isDump ? 'the record of the dump' : `an object of the kind ${kind}`} is too large`,
    because: `${because}, and ${MAX_RAW_BYTES} can be read again; it is not written`,
    fix: isDump
      ? 'dump fewer databases at once, or with --format custom: the record names every file'
      : 'please report this',
    details: { kind },
    ...(cause === undefined ? {} : { cause }),
  })
}

export function damagedObject(key: string, because: string, cause?: unknown): Failure {
  return new Failure('TM1601', {
    message: `the object ${key} is damaged`,
    because,
    fix: 'restore from another backup or repository; keep the damaged object for inspection',
    details: { key },
    ...(cause === undefined ? {} : { cause }),
  })
}

export function missingObject(key: string, neededBy: string): Failure {
  return new Failure('TM1602', {
    message: `the object ${key} is missing`,
    because: `${neededBy} needs it and the repository does not hold it`,
    fix: 'restore from another backup or repository; bring the object back if it was moved away',
    details: { key },
  })
}
