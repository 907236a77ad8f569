/**
 * An archive that comes once and cannot be asked to come again: a pipe, or a server that is being
 * dumped. Its table of contents is kept, so that it can be judged before anything is written.
 *
 * Invariant: the bytes end only when the archive was seen to be whole, to its last block.
 */
import { CustomArchiveReader } from '../postgres/archive-blocks.ts'
import { TarArchiveReader } from '../postgres/archive-tar.ts'
import type { ArchiveToc } from '../postgres/archive-toc.ts'
import type { OpenArchive } from './open-archive.ts'

export type StreamedFormat = 'custom' | 'tar'

export class HeadedArchive {
  readonly #format: StreamedFormat
  readonly #rest: AsyncIterator<Uint8Array>
  readonly #reader: CustomArchiveReader | TarArchiveReader
  readonly #head: Uint8Array[] = []
  #isWhole = false

  constructor(format: StreamedFormat, bytes: AsyncIterable<Uint8Array>) {
    this.#format = format
    this.#rest = bytes[Symbol.asyncIterator]()
    this.#reader = format === 'custom' ? new CustomArchiveReader() : new TarArchiveReader()
  }

  /** Was all of it handed on, and whole? */
  get isWhole(): boolean {
    return this.#isWhole
  }

  /** TM2005 where it ends before its table does. */
  async readToc(): Promise<ArchiveToc> {
    for (;;) {
      const { toc } = this.#reader
      if (toc !== undefined) return toc
      const { done, value } = await this.#rest.next()
      if (done === true) return this.#reader.finish()
      this.#head.push(value)
      this.#reader.push(value)
    }
  }

  /** Once, after readToc(). */
  async *whole(): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#head.splice(0)
      for (;;) {
        const { done, value } = await this.#rest.next()
        if (done === true) break
        this.#reader.push(value)
        yield value
      }
      this.#reader.finish()
      this.#isWhole = true
    } finally {
      await this.close()
    }
  }

  /** Whoever gives the bytes is told that no more are wanted. */
  async close(): Promise<void> {
    await this.#rest.return?.()
  }

  open(): OpenArchive {
    const args = [`--format=${this.#format}`]
    return {
      stagedBytes: 0,
      head: async () => ({ args, input: handOver(this.#head) }),
      findProblem: async () => undefined,
      whole: async () => ({ args, input: this.whole() }),
      close: async () => {},
    }
  }
}

async function* handOver(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces
}
