/** WAL objects as they were written when content was hashed by SHA-256 (TMWAL001). */
import { createHash } from 'node:crypto'
import { decodeWalObject } from '../../src/archive/wal-object.ts'

/** The same content, stored as then. */
export function toOldObject(object: Uint8Array): Buffer {
  const { content } = decodeWalObject('the/key', object)
  const old = Buffer.from(object)
  old.write('TMWAL001', 0, 'latin1')
  createHash('sha256').update(content).digest().copy(old, 64)
  return resealWalObject(old)
}

/** The hash of the whole made right again. */
export function resealWalObject(object: Buffer): Buffer {
  const sum = createHash('sha256').update(object.subarray(0, 96)).update(object.subarray(128))
  sum.digest().copy(object, 96)
  return object
}

/** Partials and quarantine were named after the SHA-256 of their content. */
export function toOldKey(key: string, object: Uint8Array): string {
  const { content } = decodeWalObject(key, object)
  const hash16 = createHash('sha256').update(content).digest('hex').slice(0, 16)
  return key.replace(/-[0-9a-f]{16}$/, `-${hash16}`)
}
