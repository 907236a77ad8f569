/**
 * The work of one copy worker, without its thread: batches of pieces in, results out,
 * packs of its own into a storage. Runs in a worker thread (copy-worker.ts), or in the
 * caller's own thread where a simulation wants to see every storage call.
 *
 * Invariant: a result is given only when every frame it refers to was added to a pack; the
 * packs are durable when finish() is fulfilled, and nothing may be published before that.
 */
import { Failure } from '../../base/failure.ts'
import { PackWriter, type PackSummary } from '../../repository/pack-writer.ts'
import { makeLeafReader } from '../../repository/read-leaves.ts'
import type { WriteGroup } from '../../storage/write-group.ts'
import { openComparedStorage } from '../compared-storage.ts'
import { closeQuietly, copyContent, openForCopy, unreadableFile } from './content-copier.ts'
import { LeafStore } from './leaf-store.ts'
import { PageCopier } from './page-copier.ts'
import type { CopyPiece, CopyResult, WorkerSetup } from './protocol.ts'

export class CopyEngine {
  readonly #packs: PackWriter
  readonly #leaves: LeafStore
  readonly #copier: PageCopier
  #results: CopyResult[] = []

  constructor(group: WriteGroup, setup: WorkerSetup) {
    this.#packs = new PackWriter({
      storage: group.writers,
      cluster: setup.cluster,
      attemptId: setup.attemptId,
      firstSequence: setup.firstSequence,
      sequenceStep: setup.sequenceStep,
      compressionLevel: setup.compressionLevel,
    })
    this.#leaves = new LeafStore(this.#packs)
    const compared = openComparedStorage(group, setup.comparedIn)
    const baseLeaves = makeLeafReader(compared, setup.cluster, 'the backup compared with')
    this.#copier = new PageCopier(this.#packs, this.#leaves, baseLeaves, {
      verifyChecksums: setup.verifyChecksums,
      oldPacks: setup.oldPacks,
    })
  }

  /** Bytes read. `shouldStop` is asked between pieces; AbortError when it says so. */
  async copyBatch(pieces: readonly CopyPiece[], shouldStop: () => boolean): Promise<number> {
    let bytes = 0
    for (const piece of pieces) {
      if (shouldStop()) throw new DOMException('the copy was stopped', 'AbortError')
      bytes += await this.#copyPiece(piece)
    }
    await this.#copier.flushFrame()
    if (this.#leaves.isFull) await this.#leaves.flush()
    return bytes
  }

  /** Results whose leaves wait for their frame come later. */
  takeResults(): readonly CopyResult[] {
    const results = this.#results
    this.#results = []
    return results
  }

  async finish(): Promise<readonly PackSummary[]> {
    await this.#leaves.flush()
    await this.#packs.finish()
    return this.#packs.packs
  }

  async abort(): Promise<void> {
    await this.#packs.abort()
  }

  async #copyPiece(piece: CopyPiece): Promise<number> {
    const fd = openForCopy(piece.location, piece.path)
    if (fd === undefined) {
      this.#results.push({ form: 'vanished', file: piece.file })
      return 0
    }
    try {
      if (piece.form === 'content') {
        const result = await copyContent(piece, fd, this.#packs)
        this.#results.push(result)
        return result.form === 'content' ? result.size : 0
      }
      return await this.#copier.copy(piece, fd, (result) => this.#results.push(result))
    } catch (error) {
      // System calls on the file itself; what the storage says comes as a Failure.
      if ((error as NodeJS.ErrnoException).syscall === undefined) throw error
      if (error instanceof Failure) throw error
      throw unreadableFile(piece.location, piece.path, error)
    } finally {
      closeQuietly(fd)
    }
  }
}
