/**
 * CRC-32C of WAL records, eight bytes a step (slicing-by-8), for the records that the reader
 * looks at itself; the record kernel computes it for all others. Must equal crc32c() bit by bit.
 */
import { advanceRegister } from './crc32c.ts'

const TABLES = buildSlicingTables(8)

/** At k * 256 + byte: the register after that byte and k zero bytes, for k below `slices`. */
export function buildSlicingTables(slices: number): Int32Array {
  const tables = new Int32Array(slices * 256)
  for (let byte = 0; byte < 256; byte++) tables[byte] = advanceRegister(0, Uint8Array.of(byte))
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256] as number
    tables[at] = (tables[before & 0xff] as number) ^ (before >>> 8)
  }
  return tables
}

/** The CRC of `bytes` from `from` to `to`, continuing from `seed`. */
export function recordCrc32c(bytes: Uint8Array, from: number, to: number, seed = 0): number {
  let register = ~seed
  let at = from
  for (const last = to - 8; at <= last; at += 8) {
    register ^= word(bytes, at)
    register =
      entry(7, register) ^
      entry(6, register >>> 8) ^
      entry(5, register >>> 16) ^
      entry(4, register >>> 24) ^
      entry(3, bytes[at + 4] as number) ^
      entry(2, bytes[at + 5] as number) ^
      entry(1, bytes[at + 6] as number) ^
      entry(0, bytes[at + 7] as number)
  }
  for (; at < to; at++) {
    register = entry(0, register ^ (bytes[at] as number)) ^ (register >>> 8)
  }
  return ~register >>> 0
}

function entry(zeros: number, byte: number): number {
  return TABLES[(zeros << 8) | (byte & 0xff)] as number
}

function word(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)
  )
}
