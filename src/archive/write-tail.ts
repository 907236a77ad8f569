/** Writes a tail that nobody writes to any more, as pieces: whole, from the first byte on. */
import type { Storage } from '../storage/storage.ts'
import { encodeTailPiece, type TailHead } from './tail-format.ts'
import { pieceKey } from './tail-keys.ts'

/** An envelope is bounded; so is the memory that a piece takes. */
export const MOST_PIECE_BYTES = 64 * 1024 * 1024

export interface TailTarget {
  readonly storage: Storage
  readonly cluster: string
  readonly systemIdentifier: string
}

/** Durable when fulfilled; the keys of the pieces. */
export async function settleTail(
  { storage, cluster, systemIdentifier }: TailTarget,
  head: TailHead,
  bytes: Buffer,
): Promise<readonly string[]> {
  const keys: string[] = []
  for (let from = 0; from < bytes.length; from += MOST_PIECE_BYTES) {
    const to = Math.min(bytes.length, from + MOST_PIECE_BYTES)
    const key = pieceKey(cluster, systemIdentifier, head.segment, head.opening, from, to)
    await storage.write(key, encodeTailPiece(head, from, [bytes.subarray(from, to)]))
    keys.push(key)
  }
  return keys
}
