/**
 * A worker of the file restore: takes tasks in the order in which they come, and makes
 * steps of them. The next step reads its frames while this one decodes and writes.
 *
 * It never fsyncs: the main thread does, for whole file systems (restore-files.ts).
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { Failure, toFailureMessage } from '../../base/failure.ts'
import { createPageKernel } from '../../postgres/page-kernel.ts'
import { damagedObject } from '../../repository/envelope.ts'
import { packKey } from '../../repository/keys.ts'
import { PAGE_BYTES } from '../../repository/pack-format.ts'
import { copiesOf, listenToFallback } from '../../storage/fallback-storage.ts'
import { openStorage } from '../../storage/open-storage.ts'
import type { Storage } from '../../storage/storage.ts'
import { ContentWriter } from './content-writer.ts'
import { FileHandles } from './file-handles.ts'
import { FrameMemory, type FrameUse, MAX_FRAMES, Portion, type Proof } from './frame-source.ts'
import {
  type BatchFile,
  type FromWorker,
  RUN_FIELDS,
  type ToWorker,
  type WorkerSettings,
} from './messages.ts'
import { PackCache } from './pack-cache.ts'
import { PageWriter, STAGE_PAGES } from './page-writer.ts'

/** Reads first, in its turn, while others run; then runs without waiting for anything. */
interface Step {
  readonly load?: () => Promise<void>
  /** The answer to the task, from its last step. */
  readonly run: () => FromWorker | undefined
  /** The same from copies in other repositories, where these can mend the error. */
  readonly again?: (error: unknown) => Step | undefined
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
      const part = runs.subarray(from, to)
      const isLast = to >= runs.length
      const write = (portion: Portion): FromWorker | undefined => {
        bytes += using(portion, () => this.#writePages(portion, uses, part))
        return isLast ? done(bytes, this.#pages.takePieces()) : undefined
      }
      yield this.#makeStep('pages', () => uses, write)
      from = to
    }
  }

  /** `rest`: the uses that are still to come when it is asked. */
  #makeStep(
    proof: Proof,
    rest: () => readonly FrameUse[],
    run: (portion: Portion) => FromWorker | undefined,
  ): Step {
    const open = async (id: string) => await this.#packs.open(id)
    const portion = new Portion(rest(), this.#memory, proof)
    const step = { load: async () => await portion.load(open), run: () => run(portion) }
    if (!this.#hasCopies) return step
    const again = (error: unknown): Step | undefined => {
      if (!isOfRepository(error, proof)) return undefined
      const copies = new Portion(rest(), this.#memory, proof)
      return { load: async () => await copies.loadCopies(open), run: () => run(copies) }
    }
    return { ...step, again }
  }

  #writePages(portion: Portion, uses: readonly FrameUse[], runs: Uint32Array): number {
    const mark = this.#pages.mark()
    try {
      return this.#writeUses(portion, uses, runs)
    } catch (error) {
      this.#pages.rollback(mark)
      throw error
    }
  }

  #writeUses(portion: Portion, uses: readonly FrameUse[], runs: Uint32Array): number {
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
      let written = 0
      const write = (portion: Portion): FromWorker | undefined => {
        let answer: FromWorker | undefined
        using(portion, () => {
          for (const use of uses.slice(written)) {
            const raw = portion.next(use)
            written++
            answer = writing.next(raw).value ?? undefined
          }
        })
        return answer
      }
      yield this.#makeStep('frames', () => uses.slice(written), write)
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

/** `failed`: how its load ended badly. What cannot be read or proved is looked for elsewhere. */
async function finish(
  step: Step,
  failed: { readonly error: unknown } | undefined,
): Promise<FromWorker | undefined> {
  let error = failed?.error
  if (failed === undefined) {
    try {
      return step.run()
    } catch (thrown) {
      error = thrown
    }
  }
  const again = step.again?.(error)
  if (again === undefined) throw error
  await again.load?.()
  return again.run()
}

/**
 * Missing, damaged or unreachable; not that a file cannot be written here, nor one that is
 * wrong although each of its frames was proved.
 */
function isOfRepository(error: unknown, proof: Proof): boolean {
  if (!(error instanceof Failure) || error.code === 'TM1217') return false
  return proof === 'pages' || error.code !== 'TM1218'
}

interface Loading {
  readonly step: Step
  readonly loaded: Promise<void>
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
      const loaded = await current.loaded.then(
        () => undefined,
        (error: unknown) => ({ error }),
      )
      next = this.#begin()
      const answer = await finish(current.step, loaded)
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
