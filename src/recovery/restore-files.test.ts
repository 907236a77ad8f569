import assert from 'node:assert/strict'
import { createHash, hash, randomBytes } from 'node:crypto'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { SILENT } from '../base/progress.ts'
import { crc32c } from '../postgres/crc32c.ts'
import { createPageKernel } from '../postgres/page-kernel.ts'
import type {
  BackupRecord,
  FileEntry,
  FrameReference,
  LeafReference,
} from '../repository/backup-record.ts'
import { encodePiece } from '../repository/file-list.ts'
import { packKey } from '../repository/keys.ts'
import { FRAME_KINDS, PAGE_BYTES } from '../repository/pack-format.ts'
import { openPack } from '../repository/pack-reader.ts'
import { PackWriter } from '../repository/pack-writer.ts'
import { encodeLeaf, encodeLeafFrame, LEAF_PAGES, LeafBuilder } from '../repository/page-map.ts'
import { createRepository } from '../repository/repository.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { type RestoredFile, restoreFiles } from './restore-files.ts'

const CLUSTER = 'main'
const STATUS = { device: 0n, inode: 0n, modifiedNs: 0n, changedNs: 0n, settled: false }
const ATTEMPT = 'a'.repeat(24)

/** A backup made by hand: pages dealt to two packs in an order that is not the files'. */
interface HandMade {
  readonly url: string
  readonly storage: Storage
  readonly record: BackupRecord
  readonly files: ReadonlyMap<string, Buffer>
  readonly packs: readonly string[]
}

function fingerprints(content: Buffer): BigUint64Array {
  const kernel = createPageKernel({ readBufferBytes: PAGE_BYTES })
  const result = new BigUint64Array(content.length / PAGE_BYTES)
  const out = new Uint8Array(8)
  for (let page = 0; page < result.length; page++) {
    kernel.readBuffer.set(content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES))
    kernel.fingerprint(0, 1, out)
    result[page] = new BigUint64Array(out.buffer)[0] as bigint
  }
  return result
}

function makePages(count: number): Buffer {
  const pages = Buffer.alloc(count * PAGE_BYTES)
  for (let page = 0; page < count; page++) {
    if (page % 5 !== 3) randomBytes(64).copy(pages, page * PAGE_BYTES + (page % 7) * 100)
  }
  return pages
}

async function makeWriter(storage: Storage, first: number): Promise<PackWriter> {
  const writer = new PackWriter({
    storage,
    cluster: CLUSTER,
    attemptId: ATTEMPT,
    firstSequence: first,
    sequenceStep: 10,
    compressionLevel: 1,
  })
  await writer.begin()
  return writer
}

async function makeBackup(wrongFingerprint = false): Promise<HandMade> {
  const url = `file://${temporaryDirectory()}/repository`
  const storage = await openStorage({ url })
  await createRepository(storage, new Date(0))
  const files = new Map<string, Buffer>([
    ['PG_VERSION', Buffer.from('15\n')],
    ['base/1/1000', makePages(2500)],
    ['base/1/1001', makePages(1)],
    ['base/1/1002', Buffer.alloc(0)],
    ['base/1/1003', Buffer.alloc(20 * PAGE_BYTES)],
    ['base/1/1004', makePages(1024)],
    ['big.log', randomBytes(300_000)],
  ])
  const writers = [await makeWriter(storage, 1), await makeWriter(storage, 2)] as const
  const entries: FileEntry[] = ['base', 'base/1'].map((path) => ({
    path,
    kind: 'directory',
    mode: 0o700,
  }))
  // Later files first, so that frames and files are in different orders.
  for (const [path, content] of [...files].reverse()) {
    if (path.startsWith('base/')) entries.push(storePages(writers, path, content, wrongFingerprint))
    else entries.push(storeContent(writers[0], path, content))
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1))
  const piece = writers[0].add(FRAME_KINDS.fileList, encodePiece(entries), 1, [])
  for (const writer of writers) await writer.finish()
  const bytes = [...files.values()].reduce((sum, content) => sum + content.length, 0)
  const pieces = [{ ...piece, firstPath: 'PG_VERSION', entries: entries.length }]
  const record = {
    id: '20261121-120000-test',
    cluster: CLUSTER,
    files: { pieces, entries: entries.length, bytes, contentHash: '' },
  } as unknown as BackupRecord
  const packs = writers.flatMap((writer) => writer.packs.map(({ id }) => id))
  return { url, storage, record, files, packs }
}

function storeContent(writer: PackWriter, path: string, content: Buffer): FileEntry {
  const chunks: FrameReference[] = []
  for (let from = 0; from < content.length; from += 131072) {
    chunks.push(writer.add(FRAME_KINDS.content, content.subarray(from, from + 131072), 1, []))
  }
  const sha256 = createHash('sha256').update(content).digest('hex')
  return { path, kind: 'content', mode: 0o600, size: content.length, chunks, sha256 }
}

/**
 * Which frames the stored pages make: groups of 16 in turn to the two packs, and for a file
 * of more than a leaf every seventh page to the second pack, as after an incremental one.
 */
function dealPages(stored: readonly number[], isLarge: boolean): { to: 0 | 1; pages: number[] }[] {
  const frames: { to: 0 | 1; pages: number[] }[] = []
  const parts = isLarge
    ? [stored.filter((page) => page % 7 !== 0), stored.filter((page) => page % 7 === 0)]
    : [stored]
  for (const [part, pages] of parts.entries()) {
    for (let at = 0; at < pages.length; at += 16) {
      const to = (isLarge ? part : (at / 16) % 2) === 0 ? 0 : 1
      frames.push({ to, pages: pages.slice(at, at + 16) })
    }
  }
  return frames
}

function storePages(
  writers: readonly [PackWriter, PackWriter],
  path: string,
  content: Buffer,
  wrong: boolean,
): FileEntry {
  const leaves: LeafReference[] = []
  const digests: Buffer[] = []
  const all = fingerprints(content)
  if (wrong && all.length > 0) all[0] = (all[0] as bigint) ^ 1n
  for (let first = 0; first < all.length; first += LEAF_PAGES) {
    const builder = new LeafBuilder()
    const count = Math.min(LEAF_PAGES, all.length - first)
    const stored: number[] = []
    for (let page = first; page < first + count; page++) {
      const bytes = content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
      if (!bytes.every((byte) => byte === 0)) stored.push(page)
    }
    const places = new Map<number, FrameReference & { slot: number }>()
    for (const { to, pages: group } of dealPages(stored, all.length > LEAF_PAGES)) {
      const raw = Buffer.concat(
        group.map((page) => content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)),
      )
      const frame = writers[to].add(FRAME_KINDS.pages, raw, group.length, [])
      for (const [slot, page] of group.entries()) places.set(page, { ...frame, slot })
    }
    for (let page = first; page < first + count; page++) {
      const place = places.get(page)
      if (place === undefined) builder.addZero()
      else builder.addStored(place.pack, place.frame, place.slot)
    }
    const part = all.slice(first, first + count)
    digests.push(hash('sha256', part, 'buffer'))
    const leaf = encodeLeaf(builder.build(part))
    leaves.push({ ...writers[0].add(FRAME_KINDS.leaves, encodeLeafFrame([leaf]), 1, []), slot: 0 })
  }
  const size = content.length
  const digest = hash('sha256', Buffer.concat(digests), 'hex')
  return { path, kind: 'pages', mode: 0o640, size, leaves, digest, packs: [], seen: STATUS }
}

interface Restored {
  readonly directory: string
  readonly list: readonly RestoredFile[]
  /** What the progress was told, and what the call returned. */
  readonly advanced: number
  readonly bytes: number
}

async function restoreInto(backup: HandMade): Promise<Restored> {
  const directory = join(temporaryDirectory(), 'data')
  mkdirSync(directory, { mode: 0o700 })
  const list: RestoredFile[] = []
  let advanced = 0
  const bytes = await restoreFiles({
    storage: { url: backup.url },
    record: backup.record,
    dataDirectory: directory,
    owner: undefined,
    workers: 2,
    progress: { ...SILENT, advance: (done) => (advanced += done) },
    placeOf: ({ path }) => path,
    onFile: (file) => {
      list.push(file)
    },
  })
  return { directory, list, advanced, bytes }
}

test('every byte comes back, with checksums, sizes and modes', async () => {
  const backup = await makeBackup()
  const { directory, list, advanced, bytes } = await restoreInto(backup)
  const sum = [...backup.files.values()].reduce((total, { length }) => total + length, 0)
  assert.deepEqual({ advanced, bytes }, { advanced: sum, bytes: sum })
  for (const [path, content] of backup.files) {
    assert.ok(readFileSync(join(directory, path)).equals(content), path)
    const reported = list.find((file) => file.path === path)
    assert.deepEqual(reported, { path, size: content.length, crc32c: crc32c(content) })
  }
  assert.equal(list.length, backup.files.size)
  assert.equal(statSync(join(directory, 'base/1/1004')).mode & 0o777, 0o640)
  assert.deepEqual(readdirSync(join(directory, 'base')), ['1'])
})

test('a page that is not the one of the map is never written', async () => {
  const backup = await makeBackup(true)
  await assert.rejects(restoreInto(backup), (error) => {
    assert.ok(isFailure(error, 'TM1218'), String(error))
    assert.match(error.message, /page 0 of base\/1\/100/)
    return true
  })
})

test('a bit flipped in a frame of any kind names its pack', async () => {
  const backup = await makeBackup()
  for (const [number, pack] of backup.packs.entries()) {
    const key = packKey(CLUSTER, pack)
    const path = join(new URL(backup.url).pathname, key)
    const whole = readFileSync(path)
    const { frames } = await openPack(backup.storage, CLUSTER, pack)
    for (const kind of [FRAME_KINDS.pages, FRAME_KINDS.content, FRAME_KINDS.leaves]) {
      const frame = frames.findLast((entry) => entry.kind === kind)
      if (frame === undefined) continue
      const damaged = Buffer.from(whole)
      const at = frame.offset + (frame.storedLength >> 1)
      damaged[at] = (damaged[at] as number) ^ 0x10
      writeFileSync(path, damaged)
      await assert.rejects(restoreInto(backup), (error) => {
        assert.ok(isFailure(error, 'TM1601'), `pack ${number}, kind ${kind}: ${String(error)}`)
        assert.ok(error.message.includes(key), error.message)
        return true
      })
    }
    writeFileSync(path, whole)
  }
  await restoreInto(backup)
})

test('a missing and a shortened pack are named', async () => {
  const missing = await makeBackup()
  await missing.storage.remove(packKey(CLUSTER, missing.packs[1] as string))
  await assert.rejects(restoreInto(missing), (error) => isFailure(error, 'TM1602'))

  const short = await makeBackup()
  const key = packKey(CLUSTER, short.packs[1] as string)
  const path = join(new URL(short.url).pathname, key)
  truncateSync(path, statSync(path).size - 10)
  await assert.rejects(restoreInto(short), (error) => {
    assert.ok(isFailure(error, 'TM1601'), String(error))
    assert.ok(error.message.includes(key))
    return true
  })
})
