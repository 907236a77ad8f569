/** Runs tasks of verify, on whichever thread it is made. */
import type { Storage } from '../../storage/storage.ts'
import type {
  Answer,
  ContentAnswer,
  Knowledge,
  LeafAnswer,
  Task,
  VerifySettings,
} from './messages.ts'
import { PagePrinter } from './page-prints.ts'
import { PrintSource } from './print-source.ts'
import { proveContent } from './prove-content.ts'
import { LeafProver } from './prove-leaves.ts'
import { provePack } from './prove-pack.ts'
import { checkRange, proveWalObject, scanRange } from './prove-wal.ts'

export class TaskRunner {
  readonly #storage: Storage
  readonly #cluster: string
  readonly #printer: PagePrinter
  readonly #source: PrintSource
  readonly #leaves: LeafProver

  constructor(storage: Storage, { cluster, segmentBlocks }: VerifySettings) {
    this.#storage = storage
    this.#cluster = cluster
    this.#printer = new PagePrinter(segmentBlocks)
    this.#source = new PrintSource(storage, cluster, this.#printer)
    this.#leaves = new LeafProver(this.#source, this.#printer.zeroFingerprint)
  }

  take(knowledge: Knowledge): void {
    this.#source.take(knowledge)
    this.#leaves.forget()
  }

  async run(task: Task): Promise<Answer<Task>> {
    switch (task.kind) {
      case 'pack':
        return await provePack(this.#storage, this.#cluster, task.pack, this.#printer)
      case 'leaves': {
        const answers: LeafAnswer[] = []
        for (const leaf of task.leaves) answers.push(await this.#leaves.prove(leaf, task.checksums))
        return answers
      }
      case 'content': {
        const answers: ContentAnswer[] = []
        for (const file of task.files) answers.push(await proveContent(this.#source, file))
        return answers
      }
      case 'check':
        return await checkRange(this.#storage, this.#cluster, task)
      case 'scan':
        return await scanRange(this.#storage, this.#cluster, task)
      case 'object':
        return await proveWalObject(this.#storage, task)
    }
  }
}
