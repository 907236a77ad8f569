/**
 * Reads an object that may be damaged, for those who keep its bytes and replace it. In an
 * encrypted repository the bytes of an object whose seal does not hold are those below it.
 */
import { type Failure, isFailure } from '../base/failure.ts'
import type { Storage } from './storage.ts'

export interface PerhapsDamaged {
  readonly bytes: Uint8Array
  /** Set when the seal does not hold: `bytes` are then nothing to be decoded. */
  readonly damage: Failure | undefined
}

export async function readPerhapsDamaged(
  storage: Storage,
  key: string,
): Promise<PerhapsDamaged | undefined> {
  try {
    const bytes = await storage.read(key)
    return bytes === undefined ? undefined : { bytes, damage: undefined }
  } catch (error) {
    if (!isFailure(error, 'TM1601') || storage.readStored === undefined) throw error
    const bytes = await storage.readStored(key)
    return bytes === undefined ? undefined : { bytes, damage: error }
  }
}
