/**
 * The file list of a backup: pieces of sorted entries, shared between backups where they
 * are unchanged (docs/design/repository-format.md, section 5).
 */
import { crc32 } from 'node:zlib'
import { Failure, isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import type {
  BackupRecord,
  FileEntry,
  FileStatus,
  FrameReference,
  LeafReference,
} from './backup-record.ts'
import { damagedObject } from './envelope.ts'
import { packKey } from './keys.ts'
import { FRAME_BYTES, PAGE_BYTES } from './pack-format.ts'
import { openPack, type PackReader } from './pack-reader.ts'
import { LEAF_PAGES } from './page-map.ts'

const MAX_PIECE_ENTRIES = 1024

/** True where a piece ends after the entry of this path: content decides, so pieces align. */
export function endsPiece(path: string, entriesSoFar: number): boolean {
  return entriesSoFar >= MAX_PIECE_ENTRIES || (crc32(path) & 0xff) === 0
}

interface StoredEntry {
  path: string
  kind: FileEntry['kind']
  mode: number
  size?: number
  leaves?: number[]
  chunks?: number[]
  sha256?: string
  digest?: string
  packs?: number[]
  target?: string
  seen?: [string, string, string, string, 0 | 1]
}

export function encodePiece(entries: readonly FileEntry[]): Uint8Array {
  const packs = new Map<string, number>()
  const numberOf = (pack: string): number => {
    let number = packs.get(pack)
    if (number === undefined) {
      number = packs.size
      packs.set(pack, number)
    }
    return number
  }
  const stored = entries.map((entry) => storeEntry(entry, numberOf))
  return Buffer.from(JSON.stringify({ packs: [...packs.keys()], entries: stored }))
}

function storeEntry(entry: FileEntry, numberOf: (pack: string) => number): StoredEntry {
  const base = { path: entry.path, kind: entry.kind, mode: entry.mode }
  switch (entry.kind) {
    case 'directory':
    case 'empty':
      return base
    case 'link':
      return { ...base, target: entry.target }
    case 'content': {
      const chunks = entry.chunks.flatMap(({ pack, frame }) => [numberOf(pack), frame])
      return { ...base, size: entry.size, chunks, sha256: entry.sha256 }
    }
    case 'pages': {
      const leaves = entry.leaves.flatMap(({ pack, frame, slot }) => [numberOf(pack), frame, slot])
      const packs = entry.packs.map(numberOf)
      const { size, digest } = entry
      return { ...base, size, leaves, digest, packs, seen: storeStatus(entry.seen) }
    }
  }
}

function storeStatus(seen: FileStatus): [string, string, string, string, 0 | 1] {
  return [
    String(seen.device),
    String(seen.inode),
    String(seen.modifiedNs),
    String(seen.changedNs),
    seen.settled ? 1 : 0,
  ]
}

/** TM1601 when the piece is not one; TM1504 for a kind of entry that is not known here. */
export function decodePiece(key: string, bytes: Uint8Array): FileEntry[] {
  try {
    const piece = JSON.parse(Buffer.from(bytes).toString('utf8')) as {
      packs: string[]
      entries: StoredEntry[]
    }
    return piece.entries.map((entry) => loadEntry(key, entry, piece.packs))
  } catch (cause) {
    if (isFailure(cause)) throw cause
    throw damagedObject(key, 'a piece of its file list cannot be read', cause)
  }
}

function loadEntry(key: string, stored: StoredEntry, packs: readonly string[]): FileEntry {
  const { kind } = stored
  const base = { path: given(stored.path), mode: given(stored.mode) }
  switch (kind) {
    case 'directory':
    case 'empty':
      return { kind, ...base }
    case 'link':
      return { kind, ...base, target: given(stored.target) }
    case 'content': {
      const size = given(stored.size)
      const chunks = loadChunks(given(stored.chunks), packs)
      requireCount(chunks.length, size, FRAME_BYTES)
      return { kind, ...base, size, chunks, sha256: given(stored.sha256) }
    }
    case 'pages': {
      const size = given(stored.size)
      const leaves = loadLeaves(given(stored.leaves), packs)
      requireCount(leaves.length, size, LEAF_PAGES * PAGE_BYTES)
      const used = given(stored.packs).map((number) => packAt(packs, number))
      const digest = given(stored.digest)
      return { kind, ...base, size, leaves, digest, packs: used, seen: loadStatus(stored.seen) }
    }
    default:
      throw unknownKind(key, kind, base.path)
  }
}

function given<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a field is missing')
  return value
}

/** Every part of a file is there, or a restore would leave a hole. */
function requireCount(parts: number, size: number, partBytes: number): void {
  if (parts !== Math.ceil(size / partBytes)) throw new Error(`${parts} parts of ${size} bytes`)
}

function unknownKind(key: string, kind: never, path: string): Failure {
  return new Failure('TM1504', {
    message: `the file list in ${key} has an entry of kind '${String(kind)}', for ${path}`,
    because: `this version of Tidemark does not know what to do with it`,
    fix: 'use the version of Tidemark that wrote the backup, or a later one',
    details: { key, path },
  })
}

function loadChunks(flat: readonly number[], packs: readonly string[]): FrameReference[] {
  const chunks: FrameReference[] = []
  for (let at = 0; at < flat.length; at += 2) {
    chunks.push({ pack: packAt(packs, flat[at]), frame: given(flat[at + 1]) })
  }
  return chunks
}

function loadLeaves(flat: readonly number[], packs: readonly string[]): LeafReference[] {
  const leaves: LeafReference[] = []
  for (let at = 0; at < flat.length; at += 3) {
    leaves.push({
      pack: packAt(packs, flat[at]),
      frame: given(flat[at + 1]),
      slot: given(flat[at + 2]),
    })
  }
  return leaves
}

function packAt(packs: readonly string[], number: number | undefined): string {
  const pack = packs[number ?? -1]
  if (pack === undefined) throw new Error(`no pack ${number}`)
  return pack
}

/** Only ever a reason to read a file or not: what is missing is one to read it. */
function loadStatus(stored: StoredEntry['seen']): FileStatus {
  if (stored === undefined) {
    return { device: 0n, inode: 0n, modifiedNs: 0n, changedNs: 0n, settled: false }
  }
  return {
    device: BigInt(stored[0]),
    inode: BigInt(stored[1]),
    modifiedNs: BigInt(stored[2]),
    changedNs: BigInt(stored[3]),
    settled: stored[4] === 1,
  }
}

/** Index entries in memory: about 12 MB. */
const KEPT_FRAMES = 32_768
/** What an opened pack takes besides, counted as so many entries. */
const FRAMES_OF_A_PACK = 16

/** Opens packs, and keeps the last used ones: of a large backup's leaves they are thousands. */
export function makePackCache(
  storage: Storage,
  cluster: string,
  neededBy: string,
): (packId: string) => Promise<PackReader> {
  const readers = new Map<string, Promise<PackReader>>()
  const costs = new Map<string, number>()
  let cost = 0
  const forget = (packId: string): void => {
    readers.delete(packId)
    cost -= costs.get(packId) ?? 0
    costs.delete(packId)
  }
  const open = async (packId: string): Promise<PackReader> => {
    const reader = await openPack(storage, cluster, packId, neededBy)
    // Forgotten while it was opened.
    if (!readers.has(packId)) return reader
    const own = reader.frames.length + FRAMES_OF_A_PACK
    costs.set(packId, own)
    cost += own
    for (const oldest of readers.keys()) {
      if (cost <= KEPT_FRAMES || oldest === packId) break
      forget(oldest)
    }
    return reader
  }
  return (packId) => {
    const reader = readers.get(packId) ?? open(packId)
    readers.delete(packId)
    readers.set(packId, reader)
    return reader
  }
}

/** All entries of a backup in path order, piece by piece. */
export async function* readFileList(
  storage: Storage,
  record: BackupRecord,
): AsyncGenerator<FileEntry> {
  const pack = makePackCache(storage, record.cluster, `backup ${record.id}`)
  for (const piece of record.files.pieces) {
    const reader = await pack(piece.pack)
    const entries = decodePiece(reader.key, await reader.readFrame(piece.frame))
    if (entries.length !== piece.entries || entries[0]?.path !== piece.firstPath) {
      throw damagedObject(packKey(record.cluster, piece.pack), 'a piece of its file list differs')
    }
    yield* entries
  }
}
