/**
 * Rebuilds the files of a backup with nothing but the readers of the repository format.
 */
import { hash } from 'node:crypto'
import type { BackupRecord, FileEntry } from '../../src/repository/backup-record.ts'
import { makePackCache, readFileList } from '../../src/repository/file-list.ts'
import { PAGE_BYTES } from '../../src/repository/pack-format.ts'
import { pageLocations } from '../../src/repository/page-map.ts'
import type { PackReader } from '../../src/repository/pack-reader.ts'
import { type LeafReader, makeLeafReader } from '../../src/repository/read-leaves.ts'
import type { Storage } from '../../src/storage/storage.ts'

export interface RebuiltFile {
  readonly entry: FileEntry
  /** Undefined for directories and links. */
  readonly bytes: Buffer | undefined
}

/** Files by path; what damages or misses anything rejects. */
export async function rebuildBackup(
  storage: Storage,
  record: BackupRecord,
  wanted: (entry: FileEntry) => boolean = () => true,
): Promise<Map<string, RebuiltFile>> {
  const rebuild = makeRebuilder(storage, record)
  const files = new Map<string, RebuiltFile>()
  for await (const entry of readFileList(storage, record)) {
    if (wanted(entry)) files.set(entry.path, { entry, bytes: await rebuild(entry) })
  }
  return files
}

export async function readEntries(storage: Storage, record: BackupRecord): Promise<FileEntry[]> {
  const entries: FileEntry[] = []
  for await (const entry of readFileList(storage, record)) entries.push(entry)
  return entries
}

export function makeRebuilder(
  storage: Storage,
  record: BackupRecord,
): (entry: FileEntry) => Promise<Buffer | undefined> {
  const pack = makePackCache(storage, record.cluster, 'a test')
  const leaves = makeLeafReader(storage, record.cluster, 'a test')
  return async (entry) => {
    switch (entry.kind) {
      case 'directory':
      case 'link':
        return undefined
      case 'empty':
        return Buffer.alloc(0)
      case 'content':
        return await rebuildContent(entry, pack)
      case 'pages':
        return await rebuildPages(entry, pack, leaves)
    }
  }
}

type OpenPack = (id: string) => Promise<PackReader>

async function rebuildContent(
  entry: Extract<FileEntry, { kind: 'content' }>,
  pack: OpenPack,
): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for (const chunk of entry.chunks) {
    chunks.push(await (await pack(chunk.pack)).readFrame(chunk.frame))
  }
  const bytes = Buffer.concat(chunks)
  if (hash('sha256', bytes) !== entry.sha256) throw new Error(`${entry.path}: another SHA-256`)
  if (bytes.length !== entry.size) throw new Error(`${entry.path}: another length`)
  return bytes
}

async function rebuildPages(
  entry: Extract<FileEntry, { kind: 'pages' }>,
  pack: OpenPack,
  leaves: LeafReader,
): Promise<Buffer> {
  const out = Buffer.alloc(entry.size)
  const fingerprints: string[] = []
  let page = 0
  for (const reference of entry.leaves) {
    const leaf = await leaves.read(reference)
    const raw = new Uint8Array(leaf.fingerprints.buffer, 0, leaf.pageCount * 8)
    fingerprints.push(hash('sha256', raw))
    for (const location of pageLocations(leaf)) {
      if (location !== undefined) {
        if (!entry.packs.includes(location.pack)) throw new Error(`${entry.path}: unnamed pack`)
        const frame = await (await pack(location.pack)).readFrame(location.frame)
        const at = location.slot * PAGE_BYTES
        out.set(frame.subarray(at, at + PAGE_BYTES), page * PAGE_BYTES)
      }
      page++
    }
  }
  if (page * PAGE_BYTES !== entry.size) throw new Error(`${entry.path}: ${page} pages`)
  const digest = hash('sha256', Buffer.from(fingerprints.join(''), 'hex'))
  if (digest !== entry.digest) throw new Error(`${entry.path}: another digest`)
  return out
}
