import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32c } from './crc32c.ts'
import {
  createPageKernel,
  PAGE_BAD_CHECKSUM,
  PAGE_BYTES,
  PAGE_NEW,
  PAGE_UNCHANGED,
  PAGE_ZERO,
} from './page-kernel.ts'
import { hasBadChecksum, isNewPage, isZeroPage, pageChecksum, xxh64 } from './page-reference.ts'

const PAGES = 8
const kernel = createPageKernel({ readBufferBytes: PAGES * PAGE_BYTES })

/** Pages that matter: random, zero, new but not zero, right and wrong checksums. */
const KINDS = ['random', 'zero', 'new', 'right', 'wrong', 'one bit'] as const
const pageArbitrary = fc.record({
  kind: fc.constantFrom(...KINDS),
  seed: fc.uint8Array({ minLength: 64, maxLength: 64 }),
  at: fc.nat(PAGE_BYTES - 1),
})
const pagesArbitrary = fc.array(pageArbitrary, { minLength: 1, maxLength: PAGES })
const blockArbitrary = fc.oneof(
  fc.nat(300),
  fc.integer({ min: 0xfffffff0 - PAGES, max: 0xffffffff - PAGES }),
  fc.constant(131072),
)

type PageSpec = typeof pageArbitrary extends fc.Arbitrary<infer T> ? T : never

function makePage(spec: PageSpec, block: number): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES)
  if (spec.kind === 'zero') return page
  if (spec.kind === 'one bit') {
    page[spec.at] = 1 << (spec.at % 8)
    return page
  }
  for (let at = 0; at < PAGE_BYTES; at++) page[at] = (spec.seed[at % 64] as number) ^ (at * 7)
  page[14] = spec.kind === 'new' ? 0 : 0x20
  page[15] = 0
  if (spec.kind === 'right' || spec.kind === 'wrong') setChecksum(page, block)
  if (spec.kind === 'wrong') page[spec.at] = (page[spec.at] as number) ^ (1 << (spec.at % 8))
  return page
}

function setChecksum(page: Uint8Array, block: number): void {
  const checksum = pageChecksum(page, block)
  page[8] = checksum & 0xff
  page[9] = checksum >> 8
}

/** Puts pages at the end of the buffer, so that a read past the last one would be seen. */
function load(specs: readonly PageSpec[], firstBlock: number): [number, Uint8Array[]] {
  kernel.readBuffer.fill(0xa5)
  const offset = (PAGES - specs.length) * PAGE_BYTES
  const pages = specs.map((spec, index) => makePage(spec, firstBlock + index))
  pages.forEach((page, index) => {
    kernel.readBuffer.set(page, offset + index * PAGE_BYTES)
  })
  return [offset, pages]
}

function littleEndian(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, value, true)
  return bytes
}

test('XXH64 of the reference equals published values', () => {
  const text = (value: string) => xxh64(new TextEncoder().encode(value))
  assert.equal(text(''), 0xef46db3751d8e999n)
  assert.equal(text('a'), 0xd24ec4f1a98c6e5bn)
  assert.equal(text('abc'), 0x44bc2cf5ad770999n)
  assert.equal(text('Nobody inspects the spammish repetition'), 0xfbcea83c8a378bf1n)
})

test('checksums of the kernel equal the reference', () => {
  fc.assert(
    fc.property(pagesArbitrary, blockArbitrary, (specs, firstBlock) => {
      const [offset, pages] = load(specs, firstBlock)
      const bad = pages.flatMap((page, index) =>
        hasBadChecksum(page, firstBlock + index) ? [firstBlock + index] : [],
      )
      assert.deepEqual(kernel.verifyChecksums(offset, pages.length, firstBlock), bad)
    }),
  )
})

test('fingerprints and zero pages of the kernel equal the reference', () => {
  fc.assert(
    fc.property(pagesArbitrary, (specs) => {
      const [offset, pages] = load(specs, 0)
      const fingerprints = new Uint8Array(8 * pages.length)
      kernel.fingerprint(offset, pages.length, fingerprints)
      assert.deepEqual(
        Buffer.from(fingerprints),
        Buffer.concat(pages.map((page) => littleEndian(xxh64(page)))),
      )
      const bits = new Uint8Array([0xff])
      const zeros = pages.map(isZeroPage)
      assert.equal(kernel.zeroPages(offset, pages.length, bits), zeros.filter(Boolean).length)
      assert.equal(
        bits[0],
        zeros.reduce((sum, zero, index) => sum | (zero ? 1 << index : 0), 0),
      )
    }),
  )
})

test('a scan gives fingerprints and flags as the reference has them', () => {
  fc.assert(
    fc.property(
      pagesArbitrary,
      blockArbitrary,
      fc.boolean(),
      fc.array(fc.boolean(), { maxLength: PAGES }),
      (specs, firstBlock, checksums, same) => {
        const [offset, pages] = load(specs, firstBlock)
        const before = kernel.readBuffer.slice()
        const prints = pages.map(xxh64)
        const base = Buffer.concat(
          same.map((equal, index) =>
            littleEndian((prints[index] ?? 0n) ^ (equal ? 0n : 1n << 63n)),
          ),
        )
        const scan = kernel.scanPages(offset, pages.length, firstBlock, { checksums, base })
        const flags = pages.map(
          (page, index) =>
            expectedFlags(page, firstBlock + index, checksums) |
            (same[index] === true ? PAGE_UNCHANGED : 0),
        )
        assert.deepEqual([...scan.flags], flags)
        assert.deepEqual(Buffer.from(scan.fingerprints), Buffer.concat(prints.map(littleEndian)))
        assert.equal(
          scan.anyFlags,
          flags.reduce((union, flag) => union | flag, 0),
        )
        assert.deepEqual(Buffer.compare(kernel.readBuffer, before), 0)
      },
    ),
  )
})

function expectedFlags(page: Uint8Array, block: number, checksums: boolean): number {
  let flags = 0
  if (isZeroPage(page)) flags |= PAGE_ZERO
  if (isNewPage(page)) flags |= PAGE_NEW
  if (checksums && hasBadChecksum(page, block)) flags |= PAGE_BAD_CHECKSUM
  return flags
}

test('CRC-32C of the kernel equals the byte-wise one at every length and seed', () => {
  const small = createPageKernel({ readBufferBytes: PAGE_BYTES })
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 1500, size: 'max' }),
      fc.nat(64),
      fc.nat(0xffffffff),
      (bytes, offset, seed) => {
        small.readBuffer.set(bytes, offset)
        assert.equal(small.crc32c(offset, bytes.length, seed), crc32c(bytes, seed))
      },
    ),
    { numRuns: 300 },
  )
})

test('pages outside the read buffer are refused', () => {
  assert.throws(() => kernel.verifyChecksums(PAGE_BYTES, PAGES, 0), RangeError)
  assert.throws(() => kernel.crc32c(-1, 1), RangeError)
  assert.throws(() => createPageKernel({ readBufferBytes: 100 }), RangeError)
})
