import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { combineCrc32c, crc32c, crc32cOfZeros } from './crc32c.ts'

test('CRC-32C equals published values (RFC 3720, B.4)', () => {
  assert.equal(crc32c(new TextEncoder().encode('123456789')), 0xe3069283)
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa)
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43)
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e)
  assert.equal(crc32c(new Uint8Array(0)), 0)
})

test('seeds continue and combinations concatenate', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array({ maxLength: 300, size: 'max' }), (a, b) => {
      const whole = crc32c(Buffer.concat([a, b]))
      assert.equal(crc32c(b, crc32c(a)), whole)
      assert.equal(combineCrc32c(crc32c(a), crc32c(b), b.length), whole)
    }),
  )
})

test('zeros need not be walked', () => {
  fc.assert(
    fc.property(fc.nat(20000), (length) => {
      assert.equal(crc32cOfZeros(length), crc32c(new Uint8Array(length)))
    }),
    { numRuns: 30 },
  )
  const gibibyte = crc32cOfZeros(2 ** 30)
  assert.equal(combineCrc32c(gibibyte, gibibyte, 2 ** 30), crc32cOfZeros(2 ** 31))
  assert.equal(
    combineCrc32c(crc32cOfZeros(2 ** 40), gibibyte, 2 ** 30),
    crc32cOfZeros(2 ** 40 + 2 ** 30),
  )
})
