/**
 * The page kernel: checksums, fingerprints, zero pages and CRC-32C over pages that lie in
 * the memory of a WebAssembly instance (kernel/assembly). Each worker thread makes its own.
 *
 * fs.readSync reads straight into `readBuffer`; nothing is copied and no page is changed.
 * All offsets are bytes within `readBuffer`. Views that a function returns lie in the same
 * memory and hold until the next call. Must equal page-reference.ts bit by bit.
 *
 * Layout of the memory:
 *
 * | from              | size        | holds                                    |
 * |-------------------|-------------|------------------------------------------|
 * | 0                 | 64 KiB      | the module's own data; CRC-32C tables    |
 * | 64 KiB            | 8 per page  | fingerprints of the last scan            |
 * | …                 | 8 per page  | the base's fingerprints to compare with  |
 * | …                 | 4 per page  | block numbers or bits of the last check  |
 * | …                 | 1 per page  | flags of the last scan                   |
 * | next 64 KiB limit | as asked    | `readBuffer`                             |
 */
import { advanceRegister, buildFoldTables, FOLD_BLOCK_BYTES } from './crc32c.ts'
import { startKernel, WASM_PAGE_BYTES } from './load-kernel.ts'
import { PAGE_BYTES } from './page-reference.ts'

export { PAGE_BYTES }

/** Bits of a page's flags. A zero page is also new. */
export const PAGE_ZERO = 1
/** pd_upper is 0 (PageIsNew): PostgreSQL does not check it, and neither do we. */
export const PAGE_NEW = 2
export const PAGE_BAD_CHECKSUM = 4
/** Has the fingerprint that the base has for the same page. */
export const PAGE_UNCHANGED = 8

export const FINGERPRINT_BYTES = 8

export interface PageKernel {
  /** Where pages are read to; `readBufferBytes` long, on a page boundary. */
  readonly readBuffer: Uint8Array
  /** Blocks whose checksum is wrong; new pages count as right (pg_checksum_page). */
  verifyChecksums(offset: number, pages: number, firstBlock: number): number[]
  /** Writes XXH64 (seed 0) of each page to `out`, 8 bytes each, little-endian. */
  fingerprint(offset: number, pages: number, out: Uint8Array): void
  /**
   * Sets the bit of every page of 8192 zero bytes in `out` (lowest bit of the first byte
   * first, other bits cleared) and returns how many there are.
   */
  zeroPages(offset: number, pages: number, out: Uint8Array): number
  /** Fingerprints and flags of each page, in one walk over the bytes. */
  scanPages(offset: number, pages: number, firstBlock: number, options: ScanOptions): PageScan
  /** CRC-32C of the bytes, continuing from `seed` (the CRC of what came before, or 0). */
  crc32c(offset: number, length: number, seed?: number): number
}

export interface ScanOptions {
  readonly checksums: boolean
  /**
   * Fingerprints to compare with, 8 bytes each, of the same pages; may be shorter than the
   * pages scanned (the file grew), then the rest is not unchanged.
   */
  readonly base?: Uint8Array
}

export interface PageScan {
  /** 8 bytes per page, little-endian. A view: holds until the next call. */
  readonly fingerprints: Uint8Array
  /** One byte per page: PAGE_… bits. A view: holds until the next call. */
  readonly flags: Uint8Array
  /** The union of all flags: quick to ask whether any page is bad, or zero. */
  readonly anyFlags: number
}

export interface PageKernelOptions {
  /** A multiple of 8192. */
  readonly readBufferBytes: number
}

interface KernelExports {
  verifyChecksums(page: number, pages: number, firstBlock: number, out: number): number
  fingerprintPages(page: number, pages: number, out: number): void
  zeroPages(page: number, pages: number, out: number): number
  scanPages(
    page: number,
    pages: number,
    firstBlock: number,
    checksums: number,
    base: number,
    basePages: number,
    fingerprints: number,
    flags: number,
  ): number
  foldCrc32c(state: number, at: number, blocks: number, tables: number): void
}

/** Within the first 64 KiB, well above what the module itself may keep there. */
const CRC_TABLES = 32768
const CRC_STATE = CRC_TABLES + 512

export function createPageKernel(options: PageKernelOptions): PageKernel {
  const layout = layOutMemory(options.readBufferBytes)
  const { kernel, memory } = startKernel<KernelExports>('page-kernel', layout.end)
  const bytes = new Uint8Array(memory.buffer)
  bytes.set(buildFoldTables(), CRC_TABLES)
  return buildKernel(kernel, bytes, layout)
}

interface MemoryLayout {
  readonly fingerprints: number
  readonly base: number
  readonly blocks: number
  readonly flags: number
  readonly readBuffer: number
  readonly readBufferBytes: number
  readonly end: number
}

function layOutMemory(readBufferBytes: number): MemoryLayout {
  if (readBufferBytes <= 0 || readBufferBytes % PAGE_BYTES !== 0) {
    throw new RangeError(`readBufferBytes must be a multiple of ${PAGE_BYTES}`)
  }
  const pages = readBufferBytes / PAGE_BYTES
  const fingerprints = WASM_PAGE_BYTES
  const base = fingerprints + FINGERPRINT_BYTES * pages
  const blocks = base + FINGERPRINT_BYTES * pages
  const flags = blocks + 4 * pages
  const readBuffer = roundUp(flags + pages)
  const end = roundUp(readBuffer + readBufferBytes)
  return { fingerprints, base, blocks, flags, readBuffer, readBufferBytes, end }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / WASM_PAGE_BYTES) * WASM_PAGE_BYTES
}

function buildKernel(kernel: KernelExports, bytes: Uint8Array, layout: MemoryLayout): PageKernel {
  const address = (offset: number, length: number): number => {
    if (offset < 0 || length < 0 || offset + length > layout.readBufferBytes) {
      throw new RangeError(`${length} bytes at ${offset} lie outside the read buffer`)
    }
    return layout.readBuffer + offset
  }
  const pageAddress = (offset: number, pages: number) => address(offset, pages * PAGE_BYTES)
  return {
    readBuffer: bytes.subarray(layout.readBuffer, layout.readBuffer + layout.readBufferBytes),
    verifyChecksums(offset, pages, firstBlock) {
      const at = pageAddress(offset, pages)
      const bad = kernel.verifyChecksums(at, pages, firstBlock, layout.blocks)
      return [...new Uint32Array(bytes.buffer, layout.blocks, bad)]
    },
    fingerprint(offset, pages, out) {
      kernel.fingerprintPages(pageAddress(offset, pages), pages, layout.fingerprints)
      out.set(view(bytes, layout.fingerprints, FINGERPRINT_BYTES * pages))
    },
    zeroPages(offset, pages, out) {
      const zeros = kernel.zeroPages(pageAddress(offset, pages), pages, layout.blocks)
      out.set(view(bytes, layout.blocks, Math.ceil(pages / 8)))
      return zeros
    },
    scanPages(offset, pages, firstBlock, { checksums, base }) {
      const basePages = base === undefined ? 0 : fingerprintCount(base, pages)
      if (base !== undefined) {
        bytes.set(base.subarray(0, basePages * FINGERPRINT_BYTES), layout.base)
      }
      const anyFlags = kernel.scanPages(
        pageAddress(offset, pages),
        pages,
        firstBlock,
        checksums ? 1 : 0,
        layout.base,
        basePages,
        layout.fingerprints,
        layout.flags,
      )
      return {
        fingerprints: view(bytes, layout.fingerprints, FINGERPRINT_BYTES * pages),
        flags: view(bytes, layout.flags, pages),
        anyFlags,
      }
    },
    crc32c(offset, length, seed = 0) {
      return foldedCrc32c(kernel, bytes, address(offset, length), length, seed)
    },
  }
}

function view(bytes: Uint8Array, at: number, length: number): Uint8Array {
  return bytes.subarray(at, at + length)
}

function fingerprintCount(base: Uint8Array, pages: number): number {
  return Math.min(pages, Math.floor(base.byteLength / FINGERPRINT_BYTES))
}

/**
 * The register goes into the first four bytes of the first block; the blocks are folded
 * into one of equal CRC, and that one and the rest are walked byte by byte.
 */
function foldedCrc32c(
  kernel: KernelExports,
  bytes: Uint8Array,
  at: number,
  length: number,
  seed: number,
): number {
  const blocks = Math.floor(length / FOLD_BLOCK_BYTES)
  const folded = blocks * FOLD_BLOCK_BYTES
  let register = ~seed
  if (blocks > 0) {
    const state = view(bytes, CRC_STATE, FOLD_BLOCK_BYTES)
    state.set(view(bytes, at, FOLD_BLOCK_BYTES))
    for (let byte = 0; byte < 4; byte++) {
      state[byte] = (state[byte] as number) ^ (register >>> (8 * byte))
    }
    kernel.foldCrc32c(CRC_STATE, at + FOLD_BLOCK_BYTES, blocks - 1, CRC_TABLES)
    register = advanceRegister(0, state)
  }
  return ~advanceRegister(register, view(bytes, at + folded, length - folded)) >>> 0
}
