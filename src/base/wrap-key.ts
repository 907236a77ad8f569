/**
 * The cryptography of keys: derivation, agreement, and a key wrapped under another
 * (docs/design/encryption.md). Everything in and out is bytes; nothing is kept.
 */
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
} from 'node:crypto'
import { randomOctets } from './random.ts'

export const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const CIPHER = 'aes-256-gcm'

/** HKDF of RFC 5869 with SHA-256. */
export function deriveKey(
  from: Uint8Array,
  info: string,
  salt: Uint8Array = new Uint8Array(0),
  bytes: number = KEY_BYTES,
): Buffer {
  return Buffer.from(hkdfSync('sha256', from, salt, info, bytes))
}

/** Nonce, ciphertext and tag of `secret`. */
export function wrapSecret(under: Uint8Array, secret: Uint8Array, associated: string): Buffer {
  const nonce = randomOctets(NONCE_BYTES)
  const cipher = createCipheriv(CIPHER, under, nonce)
  cipher.setAAD(Buffer.from(associated))
  return Buffer.concat([nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag()])
}

/** What was wrapped, or undefined: under another key, for another purpose, or changed. */
export function unwrapSecret(
  under: Uint8Array,
  wrapped: Uint8Array,
  associated: string,
): Buffer | undefined {
  if (wrapped.length < NONCE_BYTES + TAG_BYTES) return undefined
  const end = wrapped.length - TAG_BYTES
  const nonce = wrapped.subarray(0, NONCE_BYTES)
  const decipher = createDecipheriv(CIPHER, under, nonce, { authTagLength: TAG_BYTES })
  decipher.setAAD(Buffer.from(associated))
  decipher.setAuthTag(wrapped.subarray(end))
  try {
    return Buffer.concat([decipher.update(wrapped.subarray(NONCE_BYTES, end)), decipher.final()])
  } catch {
    // The tag differs: the only way in which this ends.
    return undefined
  }
}

/** X25519 keys, raw: what stands before them in their DER forms. */
const PRIVATE_DER = Buffer.from('302e020100300506032b656e04220420', 'hex')
const PUBLIC_DER = Buffer.from('302a300506032b656e032100', 'hex')

export interface KeyPair {
  readonly privateKey: Buffer
  readonly publicKey: Buffer
}

export function makeKeyPair(): KeyPair {
  const privateKey = randomOctets(KEY_BYTES)
  return { privateKey, publicKey: publicKeyOf(privateKey) }
}

export function publicKeyOf(privateKey: Uint8Array): Buffer {
  const der = createPublicKey(importPrivate(privateKey)).export({ format: 'der', type: 'spki' })
  return der.subarray(PUBLIC_DER.length)
}

/** The secret that both ends of X25519 get; undefined for a public key that is none. */
export function agreeOnSecret(privateKey: Uint8Array, publicKey: Uint8Array): Buffer | undefined {
  if (publicKey.length !== KEY_BYTES) return undefined
  try {
    const key = Buffer.concat([PUBLIC_DER, publicKey])
    return diffieHellman({
      privateKey: importPrivate(privateKey),
      publicKey: createPublicKey({ key, format: 'der', type: 'spki' }),
    })
  } catch {
    // A point of small order, which OpenSSL refuses.
    return undefined
  }
}

function importPrivate(privateKey: Uint8Array): KeyObject {
  const key = Buffer.concat([PRIVATE_DER, privateKey])
  return createPrivateKey({ key, format: 'der', type: 'pkcs8' })
}
