import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { openDecompressor } from '../repository/zstd-context.ts'
import { SegmentEncoder } from './segment-encoder.ts'
import { decodeWalObject, encodeWalObject, hashContent } from './wal-object.ts'

const NAME = '000000010000000000000001'
const MB = 1024 * 1024
const objectOf = (content: Uint8Array) =>
  ({ systemIdentifier: '7', name: NAME, headerTimeline: 1, content }) as const

/** Compresses by half: some bytes of each line are random. */
function makeContent(length: number): Buffer {
  const content = Buffer.from(new SharedArrayBuffer(length))
  let state = 1
  for (let at = 0; at < length; at += 2) {
    state = (state * 1103515245 + 12345) & 0x7fffffff
    content[at] = state >> 16
  }
  return content
}

const strict = openDecompressor(4 * MB)

test('however it comes, the content is what comes back', async () => {
  const content = makeContent(4 * MB)
  const cuts = fc.array(fc.integer({ min: 0, max: content.length }), { maxLength: 12 })
  const isFound = fc.asyncProperty(cuts, async (ends) => {
    const encoder = new SegmentEncoder()
    for (const end of [...ends.sort((a, b) => a - b), content.length])
      encoder.feed(content.subarray(0, end))
    const { bytes, contentHash } = await encoder.finish(objectOf(content))
    const frame = Buffer.from(bytes).subarray(128)
    // As the threads that fill a spool do: one frame, and not a byte more.
    assert.ok(content.equals(strict?.(frame) as Buffer), `cuts ${ends}`)
    assert.equal(contentHash, hashContent(content))
    const object = decodeWalObject('the/key', bytes, { systemIdentifier: '7', name: NAME })
    assert.ok(object.content.equals(content))
    // A hundredth more than when it is compressed at once would be noticed.
    assert.ok(bytes.length < 1.01 * encodeWalObject(objectOf(content)).length)
  })
  await fc.assert(isFound, { numRuns: 20 })
})

test('what does not get smaller is stored as it is', async () => {
  const { bytes } = await new SegmentEncoder().finish(objectOf(Buffer.from('short')))
  assert.equal(Buffer.from(bytes).subarray(128).toString(), 'short')
})

test('one that is given up leaves nothing behind that ends the process', async () => {
  const encoder = new SegmentEncoder()
  encoder.feed(makeContent(3 * MB))
  encoder.discard()
  await new Promise((resolve) => {
    setTimeout(resolve, 50)
  })
  new SegmentEncoder().discard()
})
