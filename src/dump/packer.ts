/** Compresses what is written, at the pace of who takes it. */
import type { Transform } from 'node:stream'
import { constants, createGzip, createZstdCompress } from 'node:zlib'

const GZIP_LEVEL = 6
const ZSTD_LEVEL = 3

export type OutputCompression = 'gzip' | 'zstd'

export class Packer {
  readonly #stream: Transform
  readonly #taking: Promise<void>
  #failure: { readonly error: unknown } | undefined

  constructor(compression: OutputCompression, take: (bytes: Uint8Array) => Promise<void>) {
    this.#stream =
      compression === 'gzip'
        ? createGzip({ level: GZIP_LEVEL })
        : createZstdCompress({
            params: {
              [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL,
              [constants.ZSTD_c_checksumFlag]: 1,
            },
          })
    this.#stream.on('error', (error) => {
      this.#failure ??= { error }
    })
    this.#taking = this.#takeAll(take)
  }

  async #takeAll(take: (bytes: Uint8Array) => Promise<void>): Promise<void> {
    try {
      for await (const bytes of this.#stream) await take(bytes as Buffer)
    } catch (error) {
      this.#failure ??= { error }
      this.#stream.destroy()
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => this.#stream.write(bytes, () => resolve()))
    if (this.#failure !== undefined) throw this.#failure.error
  }

  async end(): Promise<void> {
    this.#stream.end()
    await this.#taking
    if (this.#failure !== undefined) throw this.#failure.error
  }

  stop(): void {
    this.#stream.destroy()
  }
}
