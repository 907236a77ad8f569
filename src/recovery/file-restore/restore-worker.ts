/**
 * A worker of the file restore: takes tasks in the order in which they come, and makes
 * steps of them. The next step reads its frames while this one decodes and writes.
 *
 * It never fsyncs: the main thread does, for whole file systems (restore-files.ts).
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { Failure, isFailure, toFailureMessage } from '../../base/failure.ts'
import { createPageKernel } from '../../postgres/page-kernel.ts'
import { damagedObject } from '../../repository/envelope.ts'
import { packKey } from '../../repository/keys.ts'
import { PackCache } from '../../repository/pack-cache.ts'
import { PAGE_BYTES } from '../../repository/pack-format.ts'
import { copiesOf, listenToFallback } from '../../storage/fallback-storage.ts'
import { openStorage } from '../../storage/open-storage.ts'
import type { Storage } from '../../storage/storage.ts'
import { ContentWriter } from './content-writer.ts'
import { FileHandles } from './file-handles.ts'
import { FrameMemory, type FrameUse, MAX_FRAMES, Portion } from './frame-source.ts'
import {
  type BatchFile,
  type FromWorker,
  RUN_FIELDS,
  type ToWorker,
  type WorkerSettings,
} from './messages.ts'
import { type Mark, PageWriter, STAGE_PAGES } from './page-writer.ts'

/** Reads first, in its turn, while others run; then runs without waiting for anything. */
interface Step {
  readonly load?: () => Promise<void>
  /** The answer to the task, from its last step. */
  readonly run: () => FromWorker | undefined
  /**
   * After load() or run() failed with TM1601: true when a pack was replaced meanwhile, and all
   * is read again, so that run() may be called once more.
   */
  readonly reload?: () => Promise<boolean>
  /**
   * After any failure of the repository: true when all was read again, frame by frame, from
   * whichever repository has it. Only where there are several.
   */
  readonly copy?: () => Promise<boolean>
}

class RestoreWorker {
  readonly #settings: WorkerSettings
  readonly #handles: FileHandles
  readonly #pages: PageWriter
  readonly #contents: ContentWriter
  readonly #packs: PackCache
  readonly #hasCopies: boolean
  readonly #memory = new FrameMemory()
  #files: readonly BatchFile[] = []

  constructor(settings: WorkerSettings, storage: Storage) {
    this.#settings = settings
    const kernel = createPageKernel({ readBufferBytes: STAGE_PAGES * PAGE_BYTES })
    this.#handles = new FileHandles(settings.dataDirectory, settings.owner)
    this.#pages = new PageWriter(kernel, this.#handles)
    this.#contents = new ContentWriter(kernel, this.#handles)
    this.#packs = new PackCache(storage, settings.cluster, `backup ${settings.backup}`)
    this.#hasCopies = copiesOf(storage).length > 1
  }

  stepsOf(task: ToWorker): Iterable<Step> {
    switch (task.kind) {
      case 'batch':
        // The one before has ended: nothing of it is waiting.
        this.#files = task.files
        this.#pages.beginBatch(task.files, task.fingerprints)
        return []
      case 'pages':
        return this.#pageSteps(task.packs, task.runs)
      case 'content':
        return this.#contentSteps(task.files)
      case 'create':
        return [{ run: () => this.#create(task.files) }]
      case 'end':
        return [{ run: () => this.#end() }]
    }
  }

  *#pageSteps(packs: readonly string[], runs: Uint32Array): Generator<Step> {
    let bytes = 0
    for (let from = 0; from < runs.length; ) {
      const uses: FrameUse[] = []
      const frames = new Set<string>()
      let to = from
      for (; to < runs.length; to += RUN_FIELDS) {
        const pack = packs[runs[to] as number] as string
        const ordinal = runs[to + 1] as number
        frames.add(`${pack}/${ordinal}`)
        if (frames.size > MAX_FRAMES) break
        uses.push({ pack, ordinal })
      }
      let portion = new Portion(uses, this.#memory, 'pages')
      const part = runs.subarray(from, to)
      const isLast = to >= runs.length
      let mark: Mark | undefined
      const run = (): FromWorker | undefined => {
        mark ??= this.#pages.mark()
        bytes += using(portion, () => this.#writePages(portion, uses, part))
        return isLast ? done(bytes, this.#pages.takePieces()) : undefined
      }
      const begin = (): Portion => {
        if (mark !== undefined) this.#pages.rewind(mark)
        portion = new Portion(uses, this.#memory, 'pages')
        return portion
      }
      const reload = async (): Promise<boolean> => {
        if (!(await this.#packs.refresh(portion.readers))) return false
        await this.#load(begin())
        return true
      }
      const copy = async (): Promise<boolean> => await this.#loadCopies(begin())
      yield { load: async () => await this.#load(portion), run, reload, copy }
      from = to
    }
  }

  async #load(portion: Portion): Promise<void> {
    await portion.load(async (id) => await this.#packs.open(id))
  }

  /** False where there is one repository alone. */
  async #loadCopies(portion: Portion): Promise<boolean> {
    if (!this.#hasCopies) return false
    await portion.loadCopies(async (id) => await this.#packs.open(id))
    return true
  }

  #writePages(portion: Portion, uses: readonly FrameUse[], runs: Uint32Array): number {
    let bytes = 0
    for (const [number, use] of uses.entries()) {
      const [, , slot = 0, count = 0, file = 0, page = 0, fingerprint = 0] = runs.subarray(
        number * RUN_FIELDS,
        (number + 1) * RUN_FIELDS,
      )
      const raw = portion.next(use)
      const pages = raw.subarray(slot * PAGE_BYTES, (slot + count) * PAGE_BYTES)
      if (pages.length !== count * PAGE_BYTES) {
        const key = packKey(this.#settings.cluster, use.pack)
        throw damagedObject(key, `frame ${use.ordinal} has too few pages`)
      }
      this.#pages.add(file, page, fingerprint, pages)
      bytes += pages.length
    }
    this.#pages.flush()
    return bytes
  }

  *#contentSteps(files: readonly number[]): Generator<Step> {
    const chunks = files.flatMap((number) => {
      return (this.#file(number).chunks ?? []).map(({ pack, frame }) => ({ pack, ordinal: frame }))
    })
    const writing = this.#writeContents(files)
    // Runs to the first frame that it wants.
    yield { run: () => writing.next(EMPTY_FRAME).value ?? undefined }
    for (let from = 0; from < chunks.length; from += MAX_FRAMES) {
      const uses = chunks.slice(from, from + MAX_FRAMES)
      let portion = new Portion(uses, this.#memory, 'frames')
      // Proved before it is written: what failed was not taken yet.
      let taken = 0
      let isWriting = false
      const run = (): FromWorker | undefined => {
        let answer: FromWorker | undefined
        using(portion, () => {
          for (const use of uses.slice(taken)) {
            const raw = portion.next(use)
            taken++
            isWriting = true
            answer = writing.next(raw).value ?? undefined
            isWriting = false
          }
        })
        return answer
      }
      const reload = async (): Promise<boolean> => {
        if (isWriting || !(await this.#packs.refresh(portion.readers))) return false
        portion = new Portion(uses.slice(taken), this.#memory, 'frames')
        await this.#load(portion)
        return true
      }
      const copy = async (): Promise<boolean> => {
        // A file that is wrong although each of its frames was proved is wrong everywhere.
        if (isWriting) return false
        portion = new Portion(uses.slice(taken), this.#memory, 'frames')
        return await this.#loadCopies(portion)
      }
      yield { load: async () => await this.#load(portion), run, reload, copy }
    }
  }

  /** Takes the frames of all files one by one; the answer after the last one. */
  *#writeContents(files: readonly number[]): Generator<undefined, FromWorker, Uint8Array> {
    const contents: number[] = []
    let bytes = 0
    for (const number of files) {
      const file = this.#file(number)
      this.#contents.begin(file)
      for (const _ of file.chunks ?? []) this.#contents.add(file, yield undefined)
      contents.push(number, this.#contents.finish(file))
      bytes += file.size
    }
    return { ...done(bytes), contents: Uint32Array.from(contents) }
  }

  /** Files that hold nothing, or nothing but zeros. */
  #create(files: readonly number[]): FromWorker {
    for (const number of files) this.#handles.handle(this.#file(number))
    return done(files.reduce((sum, number) => sum + this.#file(number).size, 0))
  }

  #end(): FromWorker {
    this.#handles.closeAll()
    return { kind: 'ended' }
  }

  #file(number: number): BatchFile {
    return this.#files[number] as BatchFile
  }
}

/** A page or file that is not the right one is the damage of a pack, if there is such. */
function using<T>(portion: Portion, write: () => T): T {
  try {
    return write()
  } catch (error) {
    portion.findDamage()
    throw error
  } finally {
    portion.release()
  }
}

const NOTHING = new Uint32Array(0)
const EMPTY_FRAME = new Uint8Array(0)

function done(bytes: number, pieces: Uint32Array = NOTHING) {
  return { kind: 'done', bytes, pieces, contents: NOTHING } as const
}

function describe(error: unknown): FromWorker {
  if (error instanceof Failure) return { kind: 'failed', failure: toFailureMessage(error) }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { kind: 'crashed', error: text }
}

interface Loading {
  readonly step: Step
  readonly loaded: Promise<void>
}

/**
 * What does not hold may be of a pack that was replaced: it is read once more. What is missing,
 * damaged or out of reach here is looked for in the other repositories.
 */
async function runStep({ step, loaded }: Loading): Promise<FromWorker | undefined> {
  try {
    return await runOrReload(step, loaded)
  } catch (error) {
    if (!isOfRepository(error) || (await step.copy?.()) !== true) throw error
    return step.run()
  }
}

async function runOrReload(step: Step, loaded: Promise<void>): Promise<FromWorker | undefined> {
  try {
    await loaded
    return step.run()
  } catch (error) {
    if (!isFailure(error, 'TM1601') || (await step.reload?.()) !== true) throw error
    return step.run()
  }
}

/** Not that a file cannot be written here. */
function isOfRepository(error: unknown): boolean {
  return error instanceof Failure && error.code !== 'TM1217'
}

/** Steps in the order of their tasks. A message waits in the port until it is taken. */
class Pipeline {
  readonly #port: MessagePort
  readonly #worker: RestoreWorker
  readonly #tasks: Iterator<Step>[] = []
  #wake: (() => void) | undefined

  constructor(port: MessagePort, worker: RestoreWorker) {
    this.#port = port
    this.#worker = worker
    port.on('message', (task: ToWorker) => {
      this.#take(task)
      this.#wake?.()
    })
  }

  async run(): Promise<never> {
    let next: Loading | undefined
    for (;;) {
      const current = next ?? this.#begin()
      if (current === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        continue
      }
      await current.loaded.catch(() => {})
      next = this.#begin()
      const answer = await runStep(current)
      if (answer !== undefined) this.#port.postMessage(answer)
    }
  }

  #begin(): Loading | undefined {
    const step = this.#nextStep()
    if (step === undefined) return undefined
    const loaded = step.load?.() ?? Promise.resolve()
    // Seen when it is awaited, in its turn; until then it is no unhandled rejection.
    loaded.catch(() => {})
    return { step, loaded }
  }

  #nextStep(): Step | undefined {
    for (;;) {
      const { done: isDone = true, value } = this.#tasks[0]?.next() ?? {}
      if (!isDone) return value as Step
      this.#tasks.shift()
      if (this.#tasks.length === 0 && !this.#receive()) return undefined
    }
  }

  /** Takes what has come since this thread last waited. */
  #receive(): boolean {
    const received = receiveMessageOnPort(this.#port) as { message: ToWorker } | undefined
    if (received !== undefined) this.#take(received.message)
    return received !== undefined
  }

  #take(task: ToWorker): void {
    this.#tasks.push(this.#worker.stepsOf(task)[Symbol.iterator]())
  }
}

async function main(): Promise<void> {
  const port = parentPort
  if (port === null) throw new Error('not a worker thread')
  const settings = workerData as WorkerSettings
  const storage = await openStorage(settings.storage)
  listenToFallback(storage, (event) => {
    port.postMessage({ kind: 'passed-over', event } satisfies FromWorker)
  })
  const worker = new RestoreWorker(settings, storage)
  await new Pipeline(port, worker).run().catch((error: unknown) => {
    port.postMessage(describe(error))
  })
}

await main()
