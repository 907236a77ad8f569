/**
 * Backups that no server wrote: files with random pages, dealt to frames and packs in a
 * random order, so that a restore meets every layout that the format allows.
 *
 * Everything follows from the seed; a test that fails names it.
 */
import { createHash, hash } from 'node:crypto'
import { createPageKernel } from '../../src/postgres/page-kernel.ts'
import type {
  BackupRecord,
  FileEntry,
  FrameReference,
  LeafReference,
} from '../../src/repository/backup-record.ts'
import { encodePiece } from '../../src/repository/file-list.ts'
import {
  FRAME_BYTES,
  FRAME_KINDS,
  type FrameKind,
  PAGE_BYTES,
  PAGES_PER_FRAME,
} from '../../src/repository/pack-format.ts'
import { PackWriter } from '../../src/repository/pack-writer.ts'
import {
  encodeLeaf,
  encodeLeafFrame,
  LEAF_PAGES,
  LeafBuilder,
  type PageLocation,
} from '../../src/repository/page-map.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { temporaryDirectory } from './temporary-directory.ts'

export const CLUSTER = 'main'
const UNKNOWN_STATUS = { device: 0n, inode: 0n, modifiedNs: 0n, changedNs: 0n, settled: false }

export interface HandMadeBackup {
  readonly url: string
  readonly storage: Storage
  readonly record: BackupRecord
  readonly files: ReadonlyMap<string, Buffer>
  readonly packs: readonly string[]
}

export interface Layout {
  readonly seed: number
  /** Pages of each file of pages. */
  readonly pages: readonly number[]
  /** Bytes of each other file. */
  readonly contents: readonly number[]
  readonly packs: number
  /** So many frames that nothing needs come first in every pack, for repacking. */
  readonly deadFrames?: number
}

/** Random numbers of a seed: [0, below). */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

type Random = ReturnType<typeof randomOf>

export async function makeBackup(layout: Layout): Promise<HandMadeBackup> {
  const random = randomOf(layout.seed)
  const url = `file://${temporaryDirectory()}/repository`
  const storage = await openStorage({ url })
  await createRepository(storage, new Date(0))
  const packs = await openPacks(storage, layout.packs)
  for (let pack = 0; pack < layout.packs; pack++) {
    for (let frame = 0; frame < (layout.deadFrames ?? 0); frame++) {
      packs.add(pack, FRAME_KINDS.content, Buffer.alloc(5000 + frame, frame + 1), 1)
    }
  }
  const files = makeFiles(layout, random)
  const entries: FileEntry[] = ['base', 'base/1', 'log'].map((path) => {
    return { path, kind: 'directory', mode: 0o700 }
  })
  const places = storePages(files, packs, random)
  for (const [path, content] of files) {
    if (path.startsWith('log/')) entries.push(storeContent(packs, path, content, random))
    else entries.push(storeMap(packs, path, content, places, random))
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1))
  const piece = packs.add(0, FRAME_KINDS.fileList, encodePiece(entries), 1)
  const bytes = [...files.values()].reduce((sum, content) => sum + content.length, 0)
  const pieces = [{ ...piece, firstPath: 'base', entries: entries.length }]
  const ids = await packs.finish()
  const record = {
    id: '20261121-120000-test',
    cluster: CLUSTER,
    files: { pieces, entries: entries.length, bytes, contentHash: '' },
    packs: ids.map((id) => ({ id })),
  } as unknown as BackupRecord
  return { url, storage, record, files, packs: ids }
}

interface Packs {
  readonly count: number
  add(pack: number, kind: FrameKind, raw: Uint8Array, slots: number): FrameReference
  finish(): Promise<string[]>
}

async function openPacks(storage: Storage, count: number): Promise<Packs> {
  const writers = Array.from({ length: count }, (_, number) => {
    return new PackWriter({
      storage,
      cluster: CLUSTER,
      attemptId: 'a'.repeat(24),
      firstSequence: number,
      sequenceStep: count,
      compressionLevel: 3,
    })
  })
  for (const writer of writers) await writer.begin()
  return {
    count,
    add: (pack, kind, raw, slots) => (writers[pack] as PackWriter).add(kind, raw, slots, []),
    finish: async () => {
      for (const writer of writers) await writer.finish()
      return writers.flatMap((writer) => writer.packs.map(({ id }) => id))
    },
  }
}

function makeFiles(layout: Layout, random: Random): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  for (const [number, pages] of layout.pages.entries()) {
    files.set(`base/1/${1000 + number}`, makePages(pages, random))
  }
  for (const [number, bytes] of layout.contents.entries()) {
    files.set(`log/${number}`, fill(Buffer.alloc(bytes), bytes, random))
  }
  return files
}

/** Runs of zero pages, of pages that compress and of pages that do not. */
function makePages(count: number, random: Random): Buffer {
  const content = Buffer.alloc(count * PAGE_BYTES)
  for (let page = 0; page < count; ) {
    const kind = random(4)
    const end = Math.min(count, page + 1 + random(random(8) === 0 ? 600 : 40))
    for (; page < end; page++) {
      if (kind === 0) continue
      const bytes = content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
      bytes.writeUInt32LE(page + 1)
      fill(bytes.subarray(4), kind === 1 ? PAGE_BYTES : 40, random)
    }
  }
  return content
}

function fill(bytes: Buffer, upTo: number, random: Random): Buffer {
  const end = Math.min(upTo, bytes.length) - 3
  for (let at = 0; at < end; at += 4) bytes.writeUInt32LE(random(2 ** 32), at)
  return bytes
}

/** What is backed up one after the other: mostly neighbours, sometimes anything. */
function orderPages(files: ReadonlyMap<string, Buffer>, random: Random): [string, number][] {
  const neighbours: [string, number][] = []
  const scattered: [string, number][] = []
  for (const [path, content] of files) {
    if (path.startsWith('log/')) continue
    const oneIn = 2 + random(30)
    for (let page = 0; page * PAGE_BYTES < content.length; page++) {
      if (isZero(pageOf(content, page))) continue
      if (random(oneIn) === 0) scattered.push([path, page])
      else neighbours.push([path, page])
    }
  }
  for (let at = scattered.length - 1; at > 0; at--) {
    const other = random(at + 1)
    const moved = scattered[at] as [string, number]
    scattered[at] = scattered[other] as [string, number]
    scattered[other] = moved
  }
  return random(2) === 0 ? [...scattered, ...neighbours] : [...neighbours, ...scattered]
}

function storePages(
  files: ReadonlyMap<string, Buffer>,
  packs: Packs,
  random: Random,
): Map<string, PageLocation> {
  const places = new Map<string, PageLocation>()
  const order = orderPages(files, random)
  let pack = 0
  let maxSlots = 3
  for (let from = 0; from < order.length; ) {
    if (random(20) === 0) pack = random(packs.count)
    // Small frames come in long rows: a task of them has more frames than are read at once.
    if (random(50) === 0) maxSlots = random(2) === 0 ? 3 : PAGES_PER_FRAME
    const slots = random(4) === 0 ? 1 + random(maxSlots) : maxSlots
    const group = order.slice(from, from + slots)
    const pages = group.map(([path, page]) => pageOf(files.get(path) as Buffer, page))
    const frame = packs.add(pack, FRAME_KINDS.pages, Buffer.concat(pages), group.length)
    for (const [slot, [path, page]] of group.entries()) {
      places.set(`${path}/${page}`, { ...frame, slot })
    }
    from += group.length
  }
  return places
}

function storeMap(
  packs: Packs,
  path: string,
  content: Buffer,
  places: ReadonlyMap<string, PageLocation>,
  random: Random,
): FileEntry {
  const all = fingerprintsOf(content)
  const leaves: LeafReference[] = []
  const digests: Buffer[] = []
  for (let first = 0; first < all.length; first += LEAF_PAGES) {
    const builder = new LeafBuilder()
    const part = all.slice(first, first + LEAF_PAGES)
    for (let page = 0; page < part.length; page++) {
      const place = places.get(`${path}/${first + page}`)
      if (place === undefined) builder.addZero()
      else builder.addStored(place.pack, place.frame, place.slot)
    }
    const raw = encodeLeafFrame([encodeLeaf(builder.build(part))])
    leaves.push({ ...packs.add(random(packs.count), FRAME_KINDS.leaves, raw, 1), slot: 0 })
    digests.push(hash('sha256', new Uint8Array(part.buffer), 'buffer'))
  }
  const digest = hash('sha256', Buffer.concat(digests), 'hex')
  const size = content.length
  const seen = UNKNOWN_STATUS
  return { path, kind: 'pages', mode: 0o600, size, leaves, digest, packs: [], seen }
}

function storeContent(packs: Packs, path: string, content: Buffer, random: Random): FileEntry {
  const chunks: FrameReference[] = []
  const pack = random(packs.count)
  for (let from = 0; from < content.length; from += FRAME_BYTES) {
    const raw = content.subarray(from, from + FRAME_BYTES)
    chunks.push(packs.add(pack, FRAME_KINDS.content, raw, 1))
  }
  const sha256 = createHash('sha256').update(content).digest('hex')
  return { path, kind: 'content', mode: 0o640, size: content.length, chunks, sha256 }
}

function fingerprintsOf(content: Buffer): BigUint64Array {
  const pages = content.length / PAGE_BYTES
  const kernel = createPageKernel({ readBufferBytes: PAGE_BYTES })
  const result = new BigUint64Array(pages)
  for (let page = 0; page < pages; page++) {
    kernel.readBuffer.set(pageOf(content, page))
    kernel.fingerprint(0, 1, new Uint8Array(result.buffer, page * 8, 8))
  }
  return result
}

function pageOf(content: Buffer, page: number): Buffer {
  return content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
}

const ZEROS = Buffer.alloc(PAGE_BYTES)

function isZero(page: Buffer): boolean {
  return page.equals(ZEROS)
}
