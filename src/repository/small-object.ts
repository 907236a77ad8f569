/**
 * Small objects: JSON of format 1 in an envelope (docs/design/repository-format.md, section 6).
 *
 * Invariant: whatever cannot be read is TM1601, another format too; only what is proved to be
 * absent is undefined.
 */
import { isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import {
  damagedObject,
  decodeEnvelope,
  type EnvelopeKind,
  encodeEnvelope,
  tooLarge,
} from './envelope.ts'

/** TM1607: nobody could read it. */
export function encodeSmallObject(kind: EnvelopeKind, fields: object): Uint8Array {
  return encodeEnvelope(kind, Buffer.from(stringify(kind, { format: 1, ...fields })))
}

function stringify(kind: EnvelopeKind, fields: object): string {
  try {
    return JSON.stringify(fields)
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw tooLarge(kind, 'its content is longer than a text can be', cause)
  }
}

/** Its fields without the format; whoever asks judges them. */
export function decodeSmallObject(
  key: string,
  kind: EnvelopeKind,
  bytes: Uint8Array,
): Readonly<Record<string, unknown>> {
  const { format, ...fields } = parseObject(key, decodeEnvelope(key, kind, bytes))
  if (format !== 1) throw damagedObject(key, `it has format ${format}`)
  return fields
}

/** The hash holds, so that only another version can have written what cannot be parsed. */
function parseObject(key: string, raw: Uint8Array): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(raw).toString('utf8'))
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch (cause) {
    throw damagedObject(key, 'it was written by another version', cause)
  }
  throw damagedObject(key, 'it was written by another version')
}

/** `unreadable`: it is there, and `decode` throws TM1601. */
export async function findReadable<T>(
  storage: Storage,
  key: string,
  decode: (bytes: Uint8Array) => T,
): Promise<T | 'unreadable' | undefined> {
  try {
    const bytes = await storage.read(key)
    return bytes === undefined ? undefined : decode(bytes)
  } catch (error) {
    if (!isFailure(error, 'TM1601')) throw error
    return 'unreadable'
  }
}
