/**
 * Reads the files of a dump, and proves dumps.
 *
 * Invariant: every chunk is proved before a byte of it is handed on, and the end of a file is
 * told only when its length and SHA-256 are those of the record. A failure names the object and the
 * dump.
 */
import { createHash } from 'node:crypto'
import { Failure } from '../base/failure.ts'
import type { FrameReference } from '../repository/backup-record.ts'
import { type ChunkList, decodeChunkList } from '../repository/chunk-list.ts'
import { type DumpObject, decodeObjectList } from '../repository/dump-objects.ts'
import type { DumpedFile, DumpRecord } from '../repository/dump-record.ts'
import { dumpKey, dumpPackKey } from '../repository/keys.ts'
import { PackCache } from '../repository/pack-cache.ts'
import { FRAME_KINDS } from '../repository/pack-format.ts'
import type { Storage } from '../storage/storage.ts'
import { ChunkIndex } from './chunk-index.ts'
import { mapInOrder } from './map-in-order.ts'
import { ChunkReader, type ChunkRun, isDamage, planRuns, RUNS_AT_ONCE } from './read-chunks.ts'
import { readDumpFrame } from './read-dump-frame.ts'

/** Some 150 MB; others are read again for every dump that needs them. */
const REMEMBERED_CHUNKS = 4_000_000

type OnDamage = (failure: Failure) => void

/** TM1601, TM1602: a chunk is damaged or missing, and no copy that `storage` reads has it. */
export async function* readDumpFile(
  storage: Storage,
  record: DumpRecord,
  fileNumber: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const source = openSource(storage, record)
  yield* readFile(source, fileAt(record, fileNumber))
}

/** In the order of the table of contents. */
export async function* readDumpObjects(
  storage: Storage,
  record: DumpRecord,
  databaseNumber: number,
): AsyncGenerator<DumpObject, void, undefined> {
  const database = record.databases[databaseNumber]
  if (database === undefined) throw new Error(`dump ${record.id} has no database ${databaseNumber}`)
  const source = openSource(storage, record)
  let count = 0
  for (const reference of database.objectLists) {
    const objects = await naming(record, async () => await readObjectList(source, reference))
    count += objects.length
    yield* objects
  }
  if (count !== database.objects) throw contradiction(record, `the objects of ${database.name}`)
}

/** Chunks that were proved in one storage, for proveDump() of several dumps that share them. */
export class ProvedChunks {
  readonly #index = new ChunkIndex(REMEMBERED_CHUNKS)

  has(list: ChunkList, chunk: number): boolean {
    const entry = this.#index.find(list.hashOf(chunk), list.rawLengthOf(chunk))
    if (entry < 0 || this.#index.frameOf(entry) !== list.frameOf(chunk)) return false
    return this.#index.packOf(entry) === list.packOf(chunk)
  }

  add({ list, first, count }: ChunkRun): void {
    for (let chunk = first; chunk < first + count; chunk++) {
      const hash = list.hashOf(chunk)
      this.#index.add(hash, list.rawLengthOf(chunk), list.packOf(chunk), list.frameOf(chunk))
    }
  }
}

/**
 * Reads the dump to its end: every list, every chunk, every file's hash. What is wrong, each
 * object once; nothing when all holds. `onBytes` hears how much was read since it was last called.
 * What keeps from looking (a repository that does not answer) is thrown.
 *
 * With `proved` a chunk that was proved for an earlier dump is not read again: the lists name it by
 * its hash, so that a file is whole when its lists and chunks are. The hash of a file is looked at
 * where all of its chunks were read.
 */
export async function proveDump(
  storage: Storage,
  record: DumpRecord,
  onBytes: (bytes: number) => void = () => {},
  proved?: ProvedChunks,
): Promise<Failure[]> {
  const found = new Map<string, Failure>()
  const onDamage = (failure: Failure): void => {
    found.set(`${failure.message}: ${failure.because}`, failure)
  }
  const source = openSource(storage, record)
  for (const file of record.files) {
    try {
      for await (const bytes of readFile(source, file, { onDamage, proved })) onBytes(bytes.length)
    } catch (error) {
      if (!isDamage(error)) throw error
      onDamage(error)
    }
  }
  for (const number of record.databases.keys()) {
    try {
      for await (const _ of readDumpObjects(storage, record, number));
    } catch (error) {
      if (!isDamage(error)) throw error
      onDamage(error)
    }
  }
  return [...found.values()]
}

interface DumpSource {
  readonly record: DumpRecord
  readonly packs: PackCache
  readonly chunks: ChunkReader
}

function openSource(storage: Storage, record: DumpRecord): DumpSource {
  const packs = new PackCache(storage, record.cluster, `dump ${record.id}`, dumpPackKey)
  return { record, packs, chunks: new ChunkReader(storage, packs) }
}

function fileAt(record: DumpRecord, fileNumber: number): DumpedFile {
  const file = record.files[fileNumber]
  if (file === undefined) throw new Error(`dump ${record.id} has no file ${fileNumber}`)
  return file
}

interface Proving {
  readonly onDamage: OnDamage
  readonly proved: ProvedChunks | undefined
}

/** With `proving` it goes on behind what is damaged, and gives what was read and holds. */
async function* readFile(
  source: DumpSource,
  file: DumpedFile,
  proving?: Proving,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { record } = source
  const digest = createHash('sha256')
  let bytes = 0
  let isDamaged = false
  const tell = (failure: Failure): void => {
    if (proving === undefined) throw inDump(record, failure)
    isDamaged = true
    proving.onDamage(inDump(record, failure))
  }
  let skippedBytes = 0
  const isSkipped = (list: ChunkList, chunk: number): boolean => {
    if (proving?.proved?.has(list, chunk) !== true) return false
    skippedBytes += list.rawLengthOf(chunk)
    return true
  }
  for (const reference of file.chunkLists) {
    for await (const raw of readList(source, reference, { tell, isSkipped, proving })) {
      digest.update(raw)
      bytes += raw.length
      yield raw
    }
  }
  if (isDamaged) return
  const isRight = skippedBytes > 0 || digest.digest('hex') === file.sha256
  if (!isRight || bytes + skippedBytes !== file.bytes) throw contradiction(record, file.name)
}

interface ListReading {
  /** Hears of damage; throws where nothing may be missing. */
  readonly tell: OnDamage
  /** Asked once for each chunk. */
  readonly isSkipped: (list: ChunkList, chunk: number) => boolean
  readonly proving: Proving | undefined
}

async function* readList(
  { packs, chunks }: DumpSource,
  reference: FrameReference,
  { tell, isSkipped, proving }: ListReading,
): AsyncGenerator<Uint8Array, void, undefined> {
  let list: ChunkList
  try {
    const { key, raw } = await readDumpFrame(packs, reference, FRAME_KINDS.chunkList)
    list = decodeChunkList(key, reference.frame, raw)
  } catch (error) {
    if (!isDamage(error)) throw error
    return tell(error)
  }
  const wanted = Array.from({ length: list.count }, (_, chunk) => !isSkipped(list, chunk))
  const runs = planRuns(list, (chunk) => wanted[chunk] === true)
  for await (const run of mapInOrder(runs, RUNS_AT_ONCE, (one) => chunks.load(one))) {
    const raw = await chunks.prove(run, tell)
    if (raw === undefined) continue
    proving?.proved?.add(run)
    yield raw
  }
}

async function readObjectList({ packs }: DumpSource, reference: FrameReference) {
  const { key, raw } = await readDumpFrame(packs, reference, FRAME_KINDS.objectList)
  return decodeObjectList(key, reference.frame, raw)
}

async function naming<T>(record: DumpRecord, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    throw isDamage(error) ? inDump(record, error) : error
  }
}

/** The same failure, naming the dump. */
function inDump({ id, cluster }: DumpRecord, failure: Failure): Failure {
  const { code, message, because, details, cause } = failure
  const whose = `dump ${id} of ${cluster} needs it`
  return new Failure(code, {
    message,
    because: because === undefined || because.startsWith(whose) ? whose : `${because}; ${whose}`,
    fix: 'load another dump, or this one from another repository; keep the damaged object for inspection',
    details: { ...details, dump: id },
    cause: cause ?? failure,
  })
}

/** Everything was as it was written, and still it is not what the record says. */
function contradiction({ id, cluster }: DumpRecord, what: string): Failure {
  const key = dumpKey(cluster, id)
  return new Failure('TM1601', {
    message: `the object ${key} is damaged`,
    because: `what dump ${id} of ${cluster} holds of ${what} is not what its record says`,
    fix: 'load another dump; please report this',
    details: { key, dump: id },
  })
}
