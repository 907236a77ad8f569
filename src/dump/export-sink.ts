/**
 * Takes the files of a dump into plain files: one file, a directory, or a stream.
 *
 * Invariant: under the final name nothing is there before put(). A directory is written under
 * another name and renamed when all in it is durable.
 */
import { once } from 'node:events'
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import type { DumpSink } from './dump-context.ts'
import { cannotWrite } from './open-archive.ts'
import { OutputFile, type OutputShape, type PutFile } from './output-file.ts'
import { type OutputCompression, Packer } from './packer.ts'
import { isTaken, isThere, putDirectory, syncDirectory } from './put-files.ts'

export interface ExportSink extends DumpSink {
  /** The dump has come to a good end. */
  put(): Promise<readonly PutFile[]>
  discard(): Promise<void>
}

const writeObjects: DumpSink['writeObjects'] = async (objects) => {
  let count = 0
  for await (const _ of objects) count++
  return { lists: [], count }
}

/** One file, or the parts of it. */
export async function openFileSink(path: string, shape: OutputShape): Promise<ExportSink> {
  const file = await OutputFile.create(path, shape)
  return {
    writeObjects,
    openFile: async () => ({
      append: async (bytes) => await file.append(bytes),
      close: async () => {
        await file.close()
        return 0
      },
    }),
    put: async () => await file.put(),
    discard: async () => await file.discard(),
  }
}

/** What was written cannot be taken back: whoever reads must look at our exit status. */
export function openStreamSink(
  stream: Writable,
  compression: OutputCompression | undefined,
): ExportSink {
  let written = 0
  let failure: { readonly error: unknown } | undefined
  const gone = new AbortController()
  stream.on('error', (error) => {
    failure = { error }
    gone.abort()
  })
  const write = async (bytes: Uint8Array): Promise<void> => {
    written += bytes.byteLength
    // Pieces are kept until they are taken; the giver may use his again.
    if (!stream.write(Uint8Array.from(bytes)) && failure === undefined) {
      await once(stream, 'drain', { signal: gone.signal }).catch((error: unknown) => {
        failure ??= { error }
      })
    }
    if (failure !== undefined) throw cannotWrite('standard output', failure.error)
  }
  const packer = compression === undefined ? undefined : new Packer(compression, write)
  const append = async (bytes: Uint8Array): Promise<void> => {
    await (packer === undefined ? write(bytes) : packer.write(bytes))
  }
  const close = async (): Promise<number> => {
    await packer?.end()
    return 0
  }
  return {
    writeObjects,
    openFile: async () => ({ append, close }),
    put: async () => {
      await new Promise<void>((resolve) => stream.write('', () => resolve()))
      if (failure !== undefined) throw cannotWrite('standard output', failure.error)
      return [{ path: '-', bytes: written }]
    },
    discard: async () => packer?.stop(),
  }
}

/** `nameOf` gives a file's place in it. */
export async function openDirectorySink(
  path: string,
  shape: OutputShape,
  nameOf: (name: string) => string,
): Promise<ExportSink> {
  const part = `${path}.tidemark-part`
  for (const one of [path, part]) if (await isThere(one)) throw isTaken(one)
  await makeDirectory(part)
  const sink = new DirectorySink(path, part, shape, nameOf)
  return {
    writeObjects,
    openFile: async (name) => await sink.openFile(name),
    adoptFile: async (from, name) => await sink.adoptFile(from, name),
    put: async () => await sink.put(),
    discard: async () => await rm(part, { recursive: true, force: true }),
  }
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw cannotWrite(path, error)
  }
}

class DirectorySink {
  readonly #path: string
  readonly #part: string
  readonly #shape: OutputShape
  readonly #nameOf: (name: string) => string
  readonly #written: PutFile[] = []
  readonly #directories: Set<string>

  constructor(path: string, part: string, shape: OutputShape, nameOf: (name: string) => string) {
    this.#path = path
    this.#part = part
    this.#shape = shape
    this.#nameOf = nameOf
    this.#directories = new Set([part])
  }

  async openFile(name: string) {
    const file = await OutputFile.create(await this.#place(name), this.#shape)
    return {
      append: async (bytes: Uint8Array) => await file.append(bytes),
      close: async () => {
        await file.close()
        this.#written.push(...(await file.put()))
        return 0
      },
    }
  }

  /** It lies in the same file system. */
  async adoptFile(from: string, name: string): Promise<number> {
    const to = await this.#place(name)
    try {
      await rename(from, to)
      const file = await open(to, 'r')
      try {
        await file.sync()
      } finally {
        await file.close()
      }
      this.#written.push({ path: to, bytes: (await stat(to)).size })
    } catch (error) {
      throw cannotWrite(to, error)
    }
    return 0
  }

  async #place(name: string): Promise<string> {
    const path = join(this.#part, this.#nameOf(name))
    if (!this.#directories.has(dirname(path))) await makeDirectory(dirname(path))
    this.#directories.add(dirname(path))
    return path
  }

  async put(): Promise<PutFile[]> {
    for (const directory of this.#directories) await syncDirectory(directory)
    await putDirectory(this.#part, this.#path)
    await syncDirectory(dirname(this.#path))
    return this.#written.map(({ path, bytes }) => {
      return { path: join(this.#path, path.slice(this.#part.length + 1)), bytes }
    })
  }
}
