/**
 * The bytes of a sealed object (docs/design/encryption.md): a header, then blocks of
 * AES-256-GCM. Pure but for the object id that a new header draws.
 *
 * | offset | size | header |
 * |---|---|---|
 * | 0 | 8 | `TMSEAL01` |
 * | 8 | 8 | key id |
 * | 16 | 16 | object id |
 * | 32 | 4 | block size |
 * | 36 | 28 | zero |
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto'
import { randomOctets } from '../../base/random.ts'
import { deriveKey } from '../../base/wrap-key.ts'

const MAGIC = Buffer.from('TMSEAL01')
export const HEADER_BYTES = 64
export const BLOCK_BYTES = 65536
export const TAG_BYTES = 16
export const STORED_BLOCK_BYTES = BLOCK_BYTES + TAG_BYTES
const SUBKEY_INFO = 'tidemark seal 1'

/** What all blocks of one object have in common. */
export interface ObjectSeal {
  readonly header: Buffer
  /** A KeyObject and not its bytes: a block of 64 KiB costs 29 µs in place of 43. */
  readonly subkey: KeyObject
  readonly associated: Buffer
}

/** A seal with a new object id: for one attempt at writing the object. */
export function beginSeal(
  repositoryId: string,
  key: string,
  dataKey: { readonly id: string; readonly bytes: Uint8Array },
): ObjectSeal {
  const header = Buffer.alloc(HEADER_BYTES)
  MAGIC.copy(header, 0)
  header.write(dataKey.id, 8, 'hex')
  randomOctets(16).copy(header, 16)
  header.writeUInt32LE(BLOCK_BYTES, 32)
  return bindSeal(repositoryId, key, header, dataKey.bytes)
}

/** The seal that a stored header tells of, under the data key that it names. */
export function bindSeal(
  repositoryId: string,
  key: string,
  header: Buffer,
  dataKey: Uint8Array,
): ObjectSeal {
  return {
    header,
    subkey: createSecretKey(deriveKey(dataKey, SUBKEY_INFO, header.subarray(16, 32))),
    associated: Buffer.concat([header, Buffer.from(repositoryId + key, 'ascii')]),
  }
}

/** The ids in a header, or why it is none. */
export function parseHeader(
  header: Buffer,
): { keyId: string; objectId: string } | { problem: string } {
  if (header.length < HEADER_BYTES || !header.subarray(0, 8).equals(MAGIC)) {
    return { problem: 'it is not sealed, although the repository is encrypted' }
  }
  const isKnown = header.readUInt32LE(32) === BLOCK_BYTES
  if (!isKnown || header.subarray(36, HEADER_BYTES).some((byte) => byte !== 0)) {
    return { problem: 'the header of its seal is not one that Tidemark writes' }
  }
  return { keyId: header.toString('hex', 8, 16), objectId: header.toString('hex', 16, 32) }
}

export function storedSizeOf(plainBytes: number): number {
  const blocks = Math.max(1, Math.ceil(plainBytes / BLOCK_BYTES))
  return HEADER_BYTES + plainBytes + TAG_BYTES * blocks
}

/** Undefined for a size that no sealed object has. */
export function plainSizeOf(storedBytes: number): number | undefined {
  const blocks = Math.max(1, Math.ceil((storedBytes - HEADER_BYTES) / STORED_BLOCK_BYTES))
  const plain = storedBytes - HEADER_BYTES - TAG_BYTES * blocks
  return plain >= 0 && storedSizeOf(plain) === storedBytes ? plain : undefined
}

/** Where block `ordinal` begins. */
export function blockOffset(ordinal: number): number {
  return HEADER_BYTES + ordinal * STORED_BLOCK_BYTES
}

const CIPHER = 'aes-256-gcm'

function nonceOf(ordinal: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeBigUInt64LE(BigInt(ordinal), 0)
  nonce[11] = isLast ? 1 : 0
  return nonce
}

/** Ciphertext and tag, to be written one after the other. */
export function sealBlock(
  { subkey, associated }: ObjectSeal,
  ordinal: number,
  isLast: boolean,
  plain: Uint8Array,
): [Buffer, Buffer] {
  const cipher = createCipheriv(CIPHER, subkey, nonceOf(ordinal, isLast))
  cipher.setAAD(associated)
  const sealed = cipher.update(plain)
  cipher.final()
  return [sealed, cipher.getAuthTag()]
}

/** The plain bytes, or undefined when the tag does not hold. */
export function openBlock(
  { subkey, associated }: ObjectSeal,
  ordinal: number,
  isLast: boolean,
  stored: Uint8Array,
): Buffer | undefined {
  const end = stored.length - TAG_BYTES
  if (end < 0) return undefined
  const nonce = nonceOf(ordinal, isLast)
  const decipher = createDecipheriv(CIPHER, subkey, nonce, { authTagLength: TAG_BYTES })
  decipher.setAAD(associated)
  decipher.setAuthTag(stored.subarray(end))
  const plain = decipher.update(stored.subarray(0, end))
  try {
    decipher.final()
    return plain
  } catch {
    // The tag differs: the only way in which this ends.
    return undefined
  }
}

/** A whole object as pieces to be written one after the other. */
export function sealWhole(seal: ObjectSeal, plain: Uint8Array): Buffer[] {
  const pieces = [seal.header]
  const last = Math.max(0, Math.ceil(plain.length / BLOCK_BYTES) - 1)
  for (let ordinal = 0; ordinal <= last; ordinal++) {
    const block = plain.subarray(ordinal * BLOCK_BYTES, (ordinal + 1) * BLOCK_BYTES)
    pieces.push(...sealBlock(seal, ordinal, ordinal === last, block))
  }
  return pieces
}
