/**
 * What `pg_waldump --stats` does, with Tidemark's reader: every record of the WAL segments of a
 * directory is proved, and for each resource manager records, their bytes and those of
 * page images are counted. `read-segments.js DIRECTORY`.
 */
import { type FileHandle, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { lsn } from '../../src/postgres/lsn.ts'
import { parseWalPageHeader } from '../../src/postgres/wal-page.ts'
import { RecordParts } from '../../src/postgres/wal-blocks.ts'
import { createWalReader, type WalRecord } from '../../src/postgres/wal-reader.ts'
import { RESOURCE_MANAGER_NAMES } from '../../src/postgres/wal-record.ts'
import { type RecordBatch, segmentBuffers } from '../../src/postgres/wal-walk.ts'

const MB = 1024 * 1024
const PARTS = new RecordParts()

class Statistics {
  readonly records = new Float64Array(256)
  readonly bytes = new Float64Array(256)
  readonly imageBytes = new Float64Array(256)

  add(batch: RecordBatch): void {
    for (let n = 0; n < batch.count; n++) {
      this.one(batch.resourceManager(n), batch.totalLength(n), batch.imageBytes(n))
    }
  }

  addRecord(record: WalRecord): void {
    if (!PARTS.read(record)) throw new Error(`the record at ${record.lsn} does not add up`)
    let imageBytes = 0
    for (let n = 0; n < PARTS.blocks; n++) imageBytes += PARTS.imageLengths[n] as number
    this.one(record.resourceManager, record.totalLength, imageBytes)
  }

  one(resourceManager: number, bytes: number, imageBytes: number): void {
    this.records[resourceManager] = (this.records[resourceManager] as number) + 1
    this.bytes[resourceManager] = (this.bytes[resourceManager] as number) + bytes
    this.imageBytes[resourceManager] = (this.imageBytes[resourceManager] as number) + imageBytes
  }
}

/** Reads one segment ahead of the one that is walked over. */
class Segments {
  readonly #paths: readonly string[]
  readonly #buffers: readonly Buffer[]
  #next = 0
  #coming: Promise<Buffer | undefined>

  constructor(paths: readonly string[], sizeBytes: number) {
    this.#paths = paths
    this.#buffers = segmentBuffers(sizeBytes)
    this.#coming = this.#read()
  }

  async take(): Promise<Buffer | undefined> {
    const bytes = await this.#coming
    this.#coming = this.#read()
    return bytes
  }

  async #read(): Promise<Buffer | undefined> {
    const path = this.#paths[this.#next]
    const bytes = this.#buffers[this.#next % 2] as Buffer
    this.#next++
    if (path === undefined) return undefined
    await withFile(path, async (file) => await readWhole(file, bytes))
    return bytes
  }
}

async function withFile(path: string, act: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path)
  try {
    await act(file)
  } finally {
    await file.close()
  }
}

async function readWhole(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, at, Math.min(4 * MB, bytes.length - at), at)
    if (bytesRead === 0) throw new Error('a segment is shorter than its header says')
    at += bytesRead
  }
}

async function main(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort()
  const paths = names.map((name) => join(directory, name))
  const head = Buffer.alloc(64)
  await withFile(paths[0] ?? '', async (file) => await readWhole(file, head))
  const page = parseWalPageHeader(head)
  if (page?.long === undefined) throw new Error(`${names[0]} is no WAL segment`)
  const { walSegmentSizeBytes, systemIdentifier } = page.long
  const start = { from: lsn(page.address) }
  const reader = createWalReader({ walSegmentSizeBytes, systemIdentifier, start })
  const segments = new Segments(paths, walSegmentSizeBytes)
  const statistics = new Statistics()
  for (;;) {
    const result = reader.nextBatch()
    if (result.kind === 'batch') statistics.add(result.batch)
    else if (result.kind === 'record') {
      statistics.addRecord(result.record)
    } else if (result.kind === 'invalid') {
      throw new Error(`${result.reason} at ${result.lsn}`)
    } else {
      const bytes = await segments.take()
      if (bytes === undefined) break
      reader.give(result.segment, bytes)
    }
  }
  for (const [n, name] of RESOURCE_MANAGER_NAMES.entries()) {
    const [records, bytes, images] = [statistics.records, statistics.bytes, statistics.imageBytes]
    console.log(`${name} ${records[n]} ${(bytes[n] ?? 0) - (images[n] ?? 0)} ${images[n]}`)
  }
}

await main(process.argv[2] ?? '')
