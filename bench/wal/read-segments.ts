/**
 * What `pg_waldump --stats` does, with Tidemark's reader: every record of the WAL segments of a
 * directory is proved, and for each resource manager records, their bytes and those of
 * page images are counted. `read-segments.mjs DIRECTORY [THREADS]`: each thread takes a part,
 * and the parts must fit together.
 */
import { closeSync, openSync, read } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { type Lsn, lsn } from '../../src/postgres/lsn.ts'
import { parseWalPageHeader } from '../../src/postgres/wal-page.ts'
import { RecordParts } from '../../src/postgres/wal-blocks.ts'
import { createWalReader, type WalRecord } from '../../src/postgres/wal-reader.ts'
import { RESOURCE_MANAGER_NAMES } from '../../src/postgres/wal-record.ts'
import { type RecordBatch, segmentBuffers } from '../../src/postgres/wal-walk.ts'

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
    await readFirst(path, bytes)
    return bytes
  }
}

/**
 * Fills `bytes` in one call to the system: whoever walks meanwhile does not come back to the loop
 * of this thread, and a second call would wait for that.
 */
async function readFirst(path: string, bytes: Buffer): Promise<void> {
  const file = openSync(path, 'r')
  try {
    for (let at = 0; at < bytes.length; ) {
      const bytesRead = await readAsync(file, bytes, at, bytes.length - at, at)
      if (bytesRead === 0) throw new Error('a segment is shorter than its header says')
      at += bytesRead
    }
  } finally {
    closeSync(file)
  }
}

/** Of fs.read(), how many bytes it read. */
const readAsync = (file: number, into: Buffer, at: number, length: number, from: number) =>
  new Promise<number>((resolve, reject) => {
    read(file, into, at, length, from, (error, bytesRead) => {
      if (error === null) resolve(bytesRead)
      else reject(error)
    })
  })

interface Range {
  readonly paths: readonly string[]
  /** How many of them are this range's; one more is there for a record that goes on in it. */
  readonly count: number
  readonly first: Lsn
  readonly systemIdentifier: bigint
  readonly walSegmentSizeBytes: number
}

interface RangeResult {
  readonly statistics: Statistics
  /** Link of the first record, and the last record: ranges must fit together. */
  readonly previous: bigint | undefined
  readonly last: bigint | undefined
}

async function readRange(range: Range): Promise<RangeResult> {
  const { walSegmentSizeBytes, systemIdentifier, first } = range
  const end = first + BigInt(range.count) * BigInt(walSegmentSizeBytes)
  const reader = createWalReader({ walSegmentSizeBytes, systemIdentifier, start: { from: first } })
  const segments = new Segments(range.paths.slice(0, range.count + 1), walSegmentSizeBytes)
  const statistics = new Statistics()
  let previous: bigint | undefined
  let last: bigint | undefined
  for (;;) {
    const result = reader.nextBatch()
    if (result.kind === 'batch') {
      if (result.batch.lsn(0) >= end) break
      statistics.add(result.batch)
    } else if (result.kind === 'record') {
      if (result.record.lsn >= end) break
      previous ??= result.record.previousLsn
      statistics.addRecord(result.record)
    } else if (result.kind === 'invalid') {
      throw new Error(`${result.reason} at ${result.lsn}`)
    } else {
      const bytes = await segments.take()
      if (bytes === undefined) break
      reader.give(result.segment, bytes)
    }
    last = reader.lastLsn()
  }
  return { statistics, previous, last }
}

async function findRanges(directory: string, threads: number): Promise<Range[]> {
  const names = (await readdir(directory)).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort()
  const paths = names.map((name) => join(directory, name))
  const head = Buffer.alloc(64)
  await readFirst(paths[0] ?? '', head)
  const page = parseWalPageHeader(head)
  if (page?.long === undefined) throw new Error(`${names[0]} is no WAL segment`)
  const { walSegmentSizeBytes, systemIdentifier } = page.long
  const share = Math.ceil(paths.length / threads)
  return Array.from({ length: threads }, (_, n) => ({
    paths: paths.slice(n * share),
    count: Math.min(share, paths.length - n * share),
    first: lsn(page.address + BigInt(n * share) * BigInt(walSegmentSizeBytes)),
    systemIdentifier,
    walSegmentSizeBytes,
  }))
}

function readInThread(range: Range): Promise<RangeResult> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: range })
    worker.on('message', resolve)
    worker.on('error', reject)
  })
}

async function main(directory: string, threads: number): Promise<void> {
  const [own, ...others] = await findRanges(directory, threads)
  const inThreads = others.map(readInThread)
  const results = [await readRange(own as Range), ...(await Promise.all(inThreads))]
  for (const [n, { previous }] of results.entries()) {
    if (n > 0 && previous !== results[n - 1]?.last) throw new Error('the parts do not fit together')
  }
  for (const [n, name] of RESOURCE_MANAGER_NAMES.entries()) {
    const sum = (pick: (all: Statistics) => Float64Array): number =>
      results.reduce((total, { statistics }) => total + (pick(statistics)[n] as number), 0)
    const imageBytes = sum((all) => all.imageBytes)
    const bytes = sum((all) => all.bytes) - imageBytes
    console.log(`${name} ${sum((all) => all.records)} ${bytes} ${imageBytes}`)
  }
}

if (isMainThread) await main(process.argv[2] ?? '', Number(process.argv[3] ?? 1))
else parentPort?.postMessage(await readRange(workerData as Range))
