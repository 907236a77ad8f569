import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { PackReader } from '../../repository/pack-reader.ts'
import { FrameMemory, type FrameUse, Portion, type Proof } from './frame-source.ts'

const FRAMES = 40
/** Of odd lengths, so that no buffer fits the next portion by chance. */
const storedLengthOf = (ordinal: number): number => 100 + ((ordinal * 37) % 90)
const offsetOf = (ordinal: number): number => {
  let offset = 0
  for (let before = 0; before < ordinal; before++) offset += storedLengthOf(before)
  return offset
}
/** Two out of three frames are compressed; what comes out tells which frame it is. */
const isRaw = (ordinal: number): boolean => ordinal % 3 === 0
const byteOf = (pack: string, ordinal: number): number => (pack.charCodeAt(0) * 7 + ordinal) % 251

/** All frames of a thread are decoded into this, as in zstd-context.ts. */
const shared = new Uint8Array(64)

interface Calls {
  decoded: string[]
  proved: string[]
}

/** A pack whose stored bytes are the value of their frame, and arrive late. */
function makeReader(pack: string, calls: Calls): PackReader {
  const decode = (ordinal: number, first: number, stored: Uint8Array): Uint8Array => {
    calls.decoded.push(`${pack}/${ordinal}`)
    const start = offsetOf(ordinal) - offsetOf(first)
    const bytes = stored.subarray(start, start + storedLengthOf(ordinal))
    assert.equal(bytes.length, storedLengthOf(ordinal))
    assert.ok(
      bytes.every((byte) => byte === byteOf(pack, ordinal)),
      `the stored bytes of ${pack}/${ordinal} were overwritten`,
    )
    return isRaw(ordinal) ? bytes : shared.fill(byteOf(pack, ordinal))
  }
  return {
    storedLength: (first: number, count: number) => offsetOf(first + count) - offsetOf(first),
    async readStored(first: number, count: number, into: Uint8Array) {
      await Promise.resolve()
      for (let ordinal = first; ordinal < first + count; ordinal++) {
        const at = offsetOf(ordinal) - offsetOf(first)
        into.fill(byteOf(pack, ordinal), at, at + storedLengthOf(ordinal))
        await Promise.resolve()
      }
      return into
    },
    decodeUnproved: decode,
    decodeStored(ordinal: number, first: number, stored: Uint8Array) {
      calls.proved.push(`${pack}/${ordinal}`)
      return decode(ordinal, first, stored)
    },
  } as unknown as PackReader
}

const use = fc.record({
  pack: fc.constantFrom('a', 'b'),
  ordinal: fc.oneof(fc.nat(5), fc.nat(FRAMES - 1)),
})
const portions = fc.array(fc.array(use, { minLength: 1, maxLength: 60 }), {
  minLength: 1,
  maxLength: 6,
})

/** As the pipeline does it: the next portion is read while this one is decoded. */
async function walk(all: readonly FrameUse[][], proof: Proof, calls: Calls): Promise<void> {
  const memory = new FrameMemory()
  const load = (uses: readonly FrameUse[]): { portion: Portion; loaded: Promise<void> } => {
    const portion = new Portion(uses, memory, proof)
    return { portion, loaded: portion.load(async (pack) => makeReader(pack, calls)) }
  }
  let next: ReturnType<typeof load> | undefined = load(all[0] as FrameUse[])
  for (let number = 0; next !== undefined; number++) {
    const { portion, loaded } = next
    await loaded
    const following = all[number + 1]
    next = following === undefined ? undefined : load(following)
    for (const { pack, ordinal } of all[number] as FrameUse[]) {
      const raw = portion.next({ pack, ordinal })
      assert.equal(raw.length, isRaw(ordinal) ? storedLengthOf(ordinal) : shared.length)
      assert.ok(
        raw.every((byte) => byte === byteOf(pack, ordinal)),
        `${pack}/${ordinal} is not itself`,
      )
    }
    portion.release()
  }
}

test('every use gets its own frame, decoded once, though all memory is used again', async () => {
  await fc.assert(
    fc.asyncProperty(portions, async (all) => {
      const calls: Calls = { decoded: [], proved: [] }
      await walk(all, 'pages', calls)
      const distinct = all.flatMap((uses) => [
        ...new Set(uses.map(({ pack, ordinal }) => `${pack}/${ordinal}`)),
      ])
      assert.deepEqual(calls.decoded.toSorted(), distinct.toSorted())
      assert.deepEqual(calls.proved, [])
    }),
    { numRuns: 100 },
  )
})

test('frames that nothing else proves are proved by their hash', async () => {
  const calls: Calls = { decoded: [], proved: [] }
  const uses = [1, 2, 1].map((ordinal) => ({ pack: 'a', ordinal }))
  await walk([uses, uses], 'frames', calls)
  assert.deepEqual(calls.proved, ['a/1', 'a/2', 'a/1', 'a/2'])
})

test('the first damaged frame of a portion is named, whichever was decoded', async () => {
  const damaged = new Error('frame 7')
  const calls: Calls = { decoded: [], proved: [] }
  const reader = {
    ...makeReader('a', calls),
    decodeStored(ordinal: number): Uint8Array {
      if (ordinal === 7) throw damaged
      return shared
    },
  }
  const uses = [30, 7, 2].map((ordinal) => ({ pack: 'a', ordinal }))
  const portion = new Portion(uses, new FrameMemory(), 'pages')
  await portion.load(async () => reader)
  portion.next(uses[0] as FrameUse)
  assert.throws(
    () => portion.findDamage(),
    (error) => error === damaged,
  )
})
