/**
 * Writes the files of a backup: directories and links here, pages and content in worker
 * threads (file-restore/). Nothing is durable before the caller's syncFileSystems().
 *
 * The file list is taken in batches of bounded size, so memory does not grow with the
 * cluster; within a batch packs are read in order, each frame once.
 */
import { chown, lchown, mkdir, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import { keepHeapSmall } from '../base/heap.ts'
import type { Progress } from '../base/progress.ts'
import type { BackupRecord, FileEntry, LeafReference } from '../repository/backup-record.ts'
import { readFileList } from '../repository/file-list.ts'
import type { Leaf } from '../repository/page-map.ts'
import { type LeafReader, makeLeafReader } from '../repository/read-leaves.ts'
import { listenToFallback, type PassedOverListener } from '../storage/fallback-storage.ts'
import { openStorage, type StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { type Batch, BatchBuilder } from './file-restore/batch.ts'
import { FileChecksums } from './file-restore/file-checksums.ts'
import type { Owner, WorkerSettings } from './file-restore/messages.ts'
import { interrupted, type RestorePool, WorkerPool } from './file-restore/worker-pool.ts'
import { runSync } from './sync-file-systems.ts'

export interface RestoreFilesOptions {
  readonly storage: StorageSpecification
  readonly record: BackupRecord
  /** Exists and holds nothing but what begin-restore.ts wrote. */
  readonly dataDirectory: string
  readonly owner: Owner | undefined
  readonly workers: number
  /** Smaller ones, for tests. */
  readonly limits?: { readonly batchPages: number; readonly writeBackBytes: number }
  /** In place of worker threads, for measurements of what is left. */
  readonly openPool?: () => RestorePool
  readonly progress: Progress
  readonly signal?: AbortSignal
  /** Where an entry goes, relative to the data directory; undefined: not restored. */
  readonly placeOf: (entry: FileEntry) => string | undefined
  /** Every regular file that was written, in order of the file list. */
  readonly onFile: (file: RestoredFile) => void | Promise<void>
  /** Objects, and frames of them, that had to be taken from another repository. */
  readonly onPassedOver?: PassedOverListener
}

export interface RestoredFile {
  /** As it will be called in the data directory in the end. */
  readonly path: string
  readonly size: number
  readonly crc32c: number
}

/** Written back while more is decoded, in portions of this size: no wait at the end. */
const WRITE_BACK_BYTES = 1024 * 1024 * 1024
/** Small, so that the workers begin soon: 256 MiB. */
const FIRST_BATCH_PAGES = 32_768

function openWorkers(
  settings: WorkerSettings,
  { workers, onPassedOver }: RestoreFilesOptions,
): RestorePool {
  const pool = new WorkerPool(settings, workers)
  if (onPassedOver !== undefined) pool.onPassedOver = onPassedOver
  return pool
}

/** Returns the bytes of all files. Failures: TM1217, TM1218, TM1601, TM1602, TM15xx. */
export async function restoreFiles(options: RestoreFilesOptions): Promise<number> {
  const storage = await openStorage(options.storage)
  const { record, dataDirectory, owner } = options
  const settings = {
    storage: options.storage,
    cluster: record.cluster,
    backup: record.id,
    dataDirectory,
    owner,
  }
  const pool = options.openPool?.() ?? openWorkers(settings, options)
  if (options.onPassedOver !== undefined) listenToFallback(storage, options.onPassedOver)
  const interrupt = (): void => {
    pool.fail(interrupted())
  }
  try {
    options.signal?.addEventListener('abort', interrupt)
    if (options.signal?.aborted === true) interrupt()
    keepHeapSmall(record.files.entries)
    options.progress.phase('restoring data files', record.files.bytes)
    return await new FileRestore(options, storage, pool).run()
  } finally {
    options.signal?.removeEventListener('abort', interrupt)
    await pool.close()
    await storage.close()
  }
}

class FileRestore {
  readonly #options: RestoreFilesOptions
  readonly #storage: Storage
  readonly #pool: RestorePool
  readonly #leaves: LeafReader
  #bytes = 0
  #sinceWriteBack = 0
  #writeBack: Promise<unknown> | undefined

  constructor(options: RestoreFilesOptions, storage: Storage, pool: RestorePool) {
    this.#options = options
    this.#storage = storage
    this.#pool = pool
    const { cluster, id } = options.record
    this.#leaves = makeLeafReader(storage, cluster, `backup ${id}`)
  }

  /** While one batch is restored the next one is planned. */
  async run(): Promise<number> {
    const batchPages = this.#options.limits?.batchPages
    let builder = new BatchBuilder(batchPages ?? FIRST_BATCH_PAGES)
    let restoring = Promise.resolve()
    const restore = async (): Promise<void> => {
      await restoring
      restoring = this.#restore(builder.build())
      // Seen where it is awaited; until then it is no unhandled rejection.
      restoring.catch(() => {})
      builder = new BatchBuilder(batchPages)
    }
    for await (const entry of readFileList(this.#storage, this.#options.record)) {
      const place = this.#options.placeOf(entry)
      if (place === undefined) continue
      await this.#add(builder, entry, place)
      if (builder.isFull) await restore()
    }
    await restore()
    await restoring
    await this.#writeBack
    // It may have failed after the last task: no other sync would be told of that.
    this.#pool.throwFailure()
    return this.#bytes
  }

  async #add(builder: BatchBuilder, entry: FileEntry, place: string): Promise<void> {
    switch (entry.kind) {
      case 'directory':
        return await this.#makeDirectory(place, entry.mode)
      case 'link':
        return await this.#makeLink(place, entry.target)
      case 'empty':
        return builder.addEmpty(entry, place)
      case 'content':
        return builder.addContent(entry, place)
      case 'pages':
        return builder.addPages(entry, await this.#readLeaves(entry.leaves))
    }
  }

  async #readLeaves(references: readonly LeafReference[]): Promise<Leaf[]> {
    const leaves: Leaf[] = []
    for (const reference of references) leaves.push(await this.#leaves.read(reference))
    return leaves
  }

  async #restore(batch: Batch): Promise<void> {
    const checksums = new FileChecksums(batch)
    let written = 0
    await this.#pool.run(batch, ({ bytes, pieces, contents }) => {
      checksums.add(pieces, contents)
      written += bytes
      this.#options.progress.advance(bytes)
      this.#beginWriteBack(bytes)
    })
    // Zero pages are holes that nobody writes.
    this.#options.progress.advance(batch.bytes - written)
    this.#bytes += batch.bytes
    for (const [number, { path, size }] of batch.files.entries()) {
      await this.#options.onFile({ path, size, crc32c: checksums.of(number) })
    }
  }

  /**
   * Begins early what syncFileSystems() completes. A write error that the kernel tells to
   * this sync is not told again to the last one, so it ends the restore.
   */
  #beginWriteBack(bytes: number): void {
    this.#sinceWriteBack += bytes
    const limit = this.#options.limits?.writeBackBytes ?? WRITE_BACK_BYTES
    if (this.#writeBack !== undefined || this.#sinceWriteBack < limit) return
    this.#sinceWriteBack = 0
    this.#writeBack = runSync(this.#options.dataDirectory)
      .catch((error: unknown) => {
        this.#pool.fail(error instanceof Error ? error : new Error(String(error)))
      })
      .finally(() => {
        this.#writeBack = undefined
      })
  }

  async #makeDirectory(place: string, mode: number): Promise<void> {
    const path = join(this.#options.dataDirectory, place)
    const { owner } = this.#options
    try {
      await mkdir(path, { mode })
      if (owner !== undefined) await chown(path, owner.uid, owner.gid)
    } catch (error) {
      // Tablespace directories and their links were made before (begin-restore.ts).
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return
      throw cannotMake(path, error)
    }
  }

  async #makeLink(place: string, target: string): Promise<void> {
    const path = join(this.#options.dataDirectory, place)
    const { owner } = this.#options
    try {
      await symlink(target, path)
      if (owner !== undefined) await lchown(path, owner.uid, owner.gid)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return
      throw cannotMake(path, error)
    }
  }
}

function cannotMake(path: string, error: unknown): Failure {
  return new Failure('TM1217', {
    message: `cannot create ${path}`,
    because: describeSystemError(error),
    fix: `check who may write to ${dirname(path)}, then run the same restore again`,
    details: { path },
    cause: error,
  })
}
