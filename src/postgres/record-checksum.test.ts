import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32c } from './crc32c.ts'
import { recordCrc32c } from './record-checksum.ts'

test('equals the plain loop for every length, start and seed', () => {
  const bytes = fc.uint8Array({ maxLength: 200 })
  fc.assert(
    fc.property(bytes, fc.nat(20), fc.nat(), (all, from, seed) => {
      const start = Math.min(from, all.length)
      const expected = crc32c(all.subarray(start), seed)
      assert.equal(recordCrc32c(all, start, all.length, seed), expected)
    }),
  )
})

test('the check value of CRC-32C', () => {
  assert.equal(recordCrc32c(Buffer.from('123456789'), 0, 9), 0xe3069283)
})
