import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { resealWalObject as reseal, toOldObject } from '../../test/harness/old-wal-object.ts'
import { Failure } from '../base/failure.ts'
import { nameHash } from './wal-file-name.ts'
import {
  checkWalObject,
  decodeWalObject,
  encodeWalObject,
  hashContent,
  isHashOf,
  isNamedAfter,
  peekContentHash,
} from './wal-object.ts'

const SEGMENT = '000000010000000000000001'
const LABEL = `${SEGMENT}.00000028.backup`

const encode = (name: string, content: Uint8Array, headerTimeline = 0) =>
  Buffer.from(encodeWalObject({ systemIdentifier: '7123', name, headerTimeline, content }))

function damaged(because?: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof Failure, String(error))
    assert.equal(error.code, 'TM1601')
    assert.match(error.message, /the\/key/)
    if (because !== undefined) assert.match(error.because ?? '', because)
    return true
  }
}

/** GHASH (NIST SP 800-38D, 6.3 and 6.4), a bit at a time. */
function hashByDefinition(content: Uint8Array): string {
  const block = (bytes: Uint8Array): bigint =>
    BigInt(`0x${Buffer.concat([bytes, Buffer.alloc(16 - bytes.length)]).toString('hex')}`)
  // What AES-128 with a key of zeros makes of zeros, and of the counter's first block.
  const key = 0x66e94bd4ef8a2c3b884cfa59ca342b2en
  const mask = 0x58e2fccefa7e3061367f1d57a4e7455an
  const times = (x: bigint): bigint => {
    let product = 0n
    for (let bit = 127n, y = key; bit >= 0n; bit--) {
      if (((x >> bit) & 1n) === 1n) product ^= y
      y = (y & 1n) === 1n ? (y >> 1n) ^ (0xe1n << 120n) : y >> 1n
    }
    return product
  }
  let sum = 0n
  for (let at = 0; at < content.length; at += 16) {
    sum = times(sum ^ block(content.subarray(at, at + 16)))
  }
  const hash = times(sum ^ (BigInt(content.length * 8) << 64n)) ^ mask
  return hash.toString(16).padStart(32, '0')
}

test('the hash of content is the one that is written down', () => {
  assert.equal(hashContent(new Uint8Array()), '58e2fccefa7e3061367f1d57a4e7455a')
  const contents = fc.uint8Array({ maxLength: 100 })
  const check = (content: Uint8Array) => {
    assert.equal(hashContent(content), hashByDefinition(content))
  }
  fc.assert(fc.property(contents, check))
})

test('an object that has the SHA-256 of its content is read, and compared by content', () => {
  const content = Buffer.alloc(3000, 'WAL')
  const fresh = encode(SEGMENT, content)
  const old = toOldObject(fresh)
  const sha256 = createHash('sha256').update(content).digest('hex')
  assert.equal(decodeWalObject('the/key', old).contentHash, hashContent(content))
  assert.deepEqual(decodeWalObject('the/key', old).content, content)
  assert.deepEqual([peekContentHash(old), peekContentHash(fresh)], [sha256, hashContent(content)])
  const other = Buffer.from(content).fill(0, 1000, 1001)
  for (const stored of [sha256, hashContent(content)]) {
    assert.deepEqual([isHashOf(content, stored), isHashOf(other, stored)], [true, false])
  }
  for (const name of [sha256.slice(0, 16), nameHash(hashContent(content))]) {
    assert.deepEqual([isNamedAfter(content, name), isNamedAfter(other, name)], [true, false])
  }
  old.writeUInt8(1, 64)
  assert.throws(() => decodeWalObject('the/key', reseal(old)), damaged(/hash of its content/))
})

test('any content comes back, compressed or not', () => {
  const names = fc.constantFrom(SEGMENT, LABEL, '0000000A.history', `${SEGMENT}.partial`)
  fc.assert(
    fc.property(names, fc.uint8Array({ maxLength: 5000 }), fc.boolean(), (name, part, again) => {
      const content = again ? Buffer.concat([part, part, part]) : part
      const object = decodeWalObject('the/key', encode(name, content, 3))
      assert.deepEqual([...object.content], [...content])
      assert.deepEqual([object.name, object.systemIdentifier], [name, '7123'])
      assert.equal(object.headerTimeline, 3)
    }),
  )
})

test('the layout is the documented one', () => {
  const content = Buffer.from('START WAL LOCATION')
  const object = encode(LABEL, content, 0)
  assert.equal(object.toString('latin1', 0, 8), 'TMWAL002')
  assert.equal(object.readBigUInt64LE(8), 7123n)
  assert.deepEqual([object.readUInt32LE(16), object.readUInt32LE(24)], [1, 18])
  assert.deepEqual([object[32], object[33], object.readUInt16LE(34)], [0, 3, 40])
  assert.equal(object.toString('latin1', 36, 64), LABEL.slice(0, 28))
  assert.equal(object.toString('latin1', 128, 140), LABEL.slice(28))
  assert.equal(object.subarray(140).toString(), 'START WAL LOCATION')
  assert.equal(object.toString('hex', 64, 96), hashByDefinition(content).padEnd(64, '0'))
})

test('every flipped bit is seen, without and with decompressing', () => {
  for (const content of [Buffer.alloc(3000, 7), Buffer.from('short')]) {
    const object = encode(LABEL, content)
    for (let at = 0; at < object.length * 8; at++) {
      object[at >> 3] = (object[at >> 3] as number) ^ (1 << (at & 7))
      assert.throws(() => checkWalObject('the/key', object), damaged())
      assert.throws(() => decodeWalObject('the/key', object), damaged())
      object[at >> 3] = (object[at >> 3] as number) ^ (1 << (at & 7))
    }
  }
})

test('every other length is seen', () => {
  const object = encode(LABEL, Buffer.alloc(500, 1))
  for (let length = 0; length < object.length; length++) {
    assert.throws(() => decodeWalObject('the/key', object.subarray(0, length)), damaged())
  }
  const longer = Buffer.concat([object, Buffer.alloc(1)])
  assert.throws(() => decodeWalObject('the/key', longer), damaged(/not as long as it says/))
})

test('fields that contradict each other, under a hash that holds', () => {
  const change = (at: number, value: number) => {
    const object = encode(SEGMENT, Buffer.alloc(1000, 1), 1)
    object.writeUInt8(value, at)
    return () => decodeWalObject('the/key', reseal(object))
  }
  assert.throws(change(16, 2), damaged(/name, kind and timeline/))
  assert.throws(change(32, 2), damaged(/kind or codec/))
  assert.throws(change(33, 0), damaged(/kind or codec/))
  assert.throws(change(33, 2), damaged(/name, kind and timeline/))
  assert.throws(change(36, 0x58), damaged(/name, kind and timeline/))
  assert.throws(change(27, 0xff), damaged(/raw length is not plausible/))
  assert.throws(change(25, 0), damaged(/decompress|as long as it says/))
  assert.throws(change(64, 0), damaged(/hash of its content/))
})

test('a raw length that promises less than the frame holds allocates no more', () => {
  const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024))
  const object = encode('00000002.history', Buffer.alloc(1000, 1))
  const forged = Buffer.concat([object.subarray(0, 128), bomb])
  forged.writeUInt32LE(bomb.length, 28)
  assert.throws(() => decodeWalObject('the/key', reseal(forged)), damaged(/decompress/))
})

test('a sound object under the wrong key is damage', () => {
  const object = encode(SEGMENT, Buffer.alloc(1000), 1)
  const expect = (systemIdentifier: string, name: string) => () =>
    decodeWalObject('the/key', object, { systemIdentifier, name })
  assert.throws(expect('7123', SEGMENT.replace(/1$/, '2')), damaged(/holds the file 0{7}1/))
  assert.throws(expect('7124', SEGMENT), damaged(/server 7123/))
  assert.equal(expect('7123', SEGMENT)().rawLength, 1000)
})
