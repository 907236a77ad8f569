/** The only source of randomness. */
import { randomBytes, randomInt } from 'node:crypto'

export function randomHex(bytes: number): string {
  return randomBytes(bytes).toString('hex')
}

/** From 0 to `most`, both included. */
export function randomUpTo(most: number): number {
  return randomInt(Math.floor(most) + 1)
}

/** For keys, salts and nonces. */
export function randomOctets(bytes: number): Buffer {
  return randomBytes(bytes)
}
