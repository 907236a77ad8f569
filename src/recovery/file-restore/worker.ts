/**
 * A worker of the file restore: takes tasks in the order in which they come, reads frames
 * of a pack, decodes each once, writes pages and content files.
 *
 * It never fsyncs: the main thread does, for whole file systems (restore-files.ts).
 */
import { createHash } from 'node:crypto'
import { writeSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { Failure, toFailureMessage } from '../../base/failure.ts'
import { createPageKernel, type PageKernel } from '../../postgres/page-kernel.ts'
import { damagedObject } from '../../repository/envelope.ts'
import { packKey } from '../../repository/keys.ts'
import { PAGE_BYTES } from '../../repository/pack-format.ts'
import { openPack, type PackReader } from '../../repository/pack-reader.ts'
import { openStorage } from '../../storage/open-storage.ts'
import type { Storage } from '../../storage/storage.ts'
import { cannotWrite, FileHandles } from './file-handles.ts'
import {
  type BatchFile,
  type FromWorker,
  RUN_FIELDS,
  type ToWorker,
  type WorkerSettings,
} from './messages.ts'
import { PageWriter, STAGE_PAGES } from './page-writer.ts'

const KEPT_PACKS = 4
/** Frames that lie between two needed ones are read along rather than sought over. */
const MAX_SKIPPED_FRAMES = 3
const MAX_READ_FRAMES = 64

class RestoreWorker {
  readonly #settings: WorkerSettings
  readonly #storage: Storage
  readonly #kernel: PageKernel
  readonly #handles: FileHandles
  readonly #pages: PageWriter
  readonly #packs = new Map<string, Promise<PackReader>>()
  #files: readonly BatchFile[] = []

  constructor(settings: WorkerSettings, storage: Storage) {
    this.#settings = settings
    this.#storage = storage
    this.#kernel = createPageKernel({ readBufferBytes: STAGE_PAGES * PAGE_BYTES })
    this.#handles = new FileHandles(settings.dataDirectory, settings.owner)
    this.#pages = new PageWriter(this.#kernel, this.#handles)
  }

  async run(task: ToWorker): Promise<FromWorker | undefined> {
    switch (task.kind) {
      case 'batch':
        this.#files = task.files
        this.#pages.beginBatch(task.files, task.fingerprints)
        return undefined
      case 'pages':
        return done(await this.#restorePages(task.pack, task.runs), this.#pages.takePieces())
      case 'content':
        return await this.#restoreContents(task.files)
      case 'create':
        for (const file of task.files) this.#handles.handle(this.#file(file))
        return done(task.files.reduce((sum, file) => sum + this.#file(file).size, 0))
      case 'end':
        this.#handles.closeAll()
        return { kind: 'ended' }
    }
  }

  async #restorePages(packId: string, runs: Uint32Array): Promise<number> {
    const pack = await this.#pack(packId)
    let bytes = 0
    for (const group of groupFrames(runs)) {
      const stored = await pack.readStored(group.first, group.count)
      bytes += this.#restoreGroup(pack, group, stored, runs)
    }
    this.#pages.flush()
    return bytes
  }

  #restoreGroup(
    pack: PackReader,
    group: FrameGroup,
    stored: Uint8Array,
    runs: Uint32Array,
  ): number {
    let decoded = -1
    let raw = new Uint8Array(0)
    let bytes = 0
    for (let at = group.from; at < group.to; at += RUN_FIELDS) {
      const frame = runs[at] as number
      if (frame !== decoded) {
        raw = pack.decodeStored(frame, group.first, stored) as Uint8Array<ArrayBuffer>
        decoded = frame
      }
      const from = (runs[at + 1] as number) * PAGE_BYTES
      const to = from + (runs[at + 2] as number) * PAGE_BYTES
      if (to > raw.length) throw damagedObject(pack.key, `frame ${frame} has too few pages`)
      const piece = raw.subarray(from, to)
      this.#pages.add(runs[at + 3] as number, runs[at + 4] as number, runs[at + 5] as number, piece)
      bytes += piece.length
    }
    return bytes
  }

  async #restoreContents(files: readonly number[]): Promise<FromWorker> {
    const contents: number[] = []
    let bytes = 0
    for (const file of files) {
      contents.push(file, await this.#restoreContent(this.#file(file)))
      bytes += this.#file(file).size
    }
    return { ...done(bytes), contents: Uint32Array.from(contents) }
  }

  async #restoreContent(file: BatchFile): Promise<number> {
    const fd = this.#handles.handle(file)
    const hash = createHash('sha256')
    let crc = 0
    let position = 0
    for (const { pack: packId, frame } of file.chunks ?? []) {
      const raw = await (await this.#pack(packId)).readFrame(frame)
      hash.update(raw)
      crc = this.#crc(raw, crc)
      writeContent(fd, file.path, raw, position)
      position += raw.length
    }
    if (position !== file.size || hash.digest('hex') !== file.sha256) {
      throw new Failure('TM1218', {
        message: `${file.path} is not as it was backed up`,
        because: 'its SHA-256 differs from the one in the file list',
        fix: 'restore from another backup or repository, and keep this one for inspection',
        details: { path: file.path },
      })
    }
    return crc
  }

  #crc(raw: Uint8Array, seed: number): number {
    const room = this.#kernel.readBuffer.length
    let crc = seed
    for (let from = 0; from < raw.length; from += room) {
      const part = raw.subarray(from, from + room)
      this.#kernel.readBuffer.set(part)
      crc = this.#kernel.crc32c(0, part.length, crc)
    }
    return crc
  }

  #file(number: number): BatchFile {
    return this.#files[number] as BatchFile
  }

  async #pack(packId: string): Promise<PackReader> {
    const known = this.#packs.get(packId)
    if (known !== undefined) return await known
    const { cluster, backup } = this.#settings
    const opened = openPack(this.#storage, cluster, packId, `backup ${backup}`)
    this.#packs.set(packId, opened)
    if (this.#packs.size > KEPT_PACKS) {
      this.#packs.delete(this.#packs.keys().next().value as string)
    }
    const pack = await opened
    if (pack.frames.length === 0) throw damagedObject(packKey(cluster, packId), 'it has no frames')
    return pack
  }
}

/** Runs [from, to) of a task, whose frames are read in one go. */
interface FrameGroup {
  readonly from: number
  to: number
  readonly first: number
  count: number
}

function groupFrames(runs: Uint32Array): FrameGroup[] {
  const groups: FrameGroup[] = []
  for (let at = 0; at < runs.length; at += RUN_FIELDS) {
    const frame = runs[at] as number
    const last = groups.at(-1)
    const next = last === undefined ? 0 : last.first + last.count
    const near = last !== undefined && frame <= next + MAX_SKIPPED_FRAMES
    if (last !== undefined && near && frame - last.first < MAX_READ_FRAMES) {
      last.to = at + RUN_FIELDS
      last.count = Math.max(last.count, frame - last.first + 1)
    } else {
      groups.push({ from: at, to: at + RUN_FIELDS, first: frame, count: 1 })
    }
  }
  return groups
}

function writeContent(fd: number, path: string, raw: Uint8Array, position: number): void {
  try {
    let written = 0
    while (written < raw.length) {
      written += writeSync(fd, raw, written, raw.length - written, position + written)
    }
  } catch (error) {
    throw cannotWrite(path, error)
  }
}

const NOTHING = new Uint32Array(0)

function done(bytes: number, pieces: Uint32Array = NOTHING) {
  return { kind: 'done', bytes, pieces, contents: NOTHING } as const
}

function describe(error: unknown): FromWorker {
  if (error instanceof Failure) return { kind: 'failed', failure: toFailureMessage(error) }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { kind: 'crashed', error: text }
}

async function main(): Promise<void> {
  const port = parentPort
  if (port === null) throw new Error('not a worker thread')
  const settings = workerData as WorkerSettings
  const worker = new RestoreWorker(settings, await openStorage(settings.storage))
  let last: Promise<void> = Promise.resolve()
  port.on('message', (task: ToWorker) => {
    last = last
      .then(async () => {
        const answer = await worker.run(task)
        if (answer !== undefined) port.postMessage(answer)
      })
      .catch((error: unknown) => {
        port.postMessage(describe(error))
      })
  })
}

await main()
