/**
 * A file of a dump outside of any repository: as it is or compressed, whole or in parts of a size.
 *
 * Invariant: nothing is there under a final name before put(), which is called when all of the dump
 * has come to a good end. Of parts the first, `.000`, comes last and, where old ones are replaced,
 * goes first: where it is, all others of its run are.
 *
 * Crash: before put() `….tidemark-part` is left, which the failure of the next run names; within
 * put() of parts some have their names, and no `.000`.
 */
import { open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isFailure } from '../base/failure.ts'
import { type OutputCompression, Packer } from './packer.ts'
import { cannotWrite, writeAll } from './open-archive.ts'
import { isTaken, isThere, putFile, syncDirectory } from './put-files.ts'

export interface OutputShape {
  /** Bytes of a part; undefined: one file. */
  readonly splitBytes: number | undefined
  readonly compression: OutputCompression | undefined
  readonly overwrite: boolean
}

export interface PutFile {
  readonly path: string
  readonly bytes: number
}

type OpenFile = Awaited<ReturnType<typeof open>>

export class OutputFile {
  readonly #path: string
  readonly #shape: OutputShape
  readonly #packer: Packer | undefined
  /** Of those that are complete; the last may be open. */
  readonly #sizes: number[] = []
  #file: OpenFile | undefined
  #written = 0
  readonly #created: string[] = []

  constructor(path: string, shape: OutputShape) {
    this.#path = path
    this.#shape = shape
    const { compression } = shape
    if (compression === undefined) return
    this.#packer = new Packer(compression, async (bytes) => await this.#write(bytes))
  }

  /** TM2036 where the name is taken. */
  static async create(path: string, shape: OutputShape): Promise<OutputFile> {
    const file = new OutputFile(path, shape)
    if (!shape.overwrite && (await isThere(file.#finalName(0)))) throw isTaken(file.#finalName(0))
    await file.#openPart()
    return file
  }

  async append(bytes: Uint8Array): Promise<void> {
    if (this.#packer === undefined) await this.#write(bytes)
    else await this.#packer.write(bytes)
  }

  /** All of it is durable, under other names. */
  async close(): Promise<void> {
    await this.#packer?.end()
    await this.#closePart()
  }

  /** After close(). */
  async put(): Promise<PutFile[]> {
    if (this.#shape.overwrite) await this.#replace()
    else await this.#link()
    await syncDirectory(dirname(this.#path))
    return this.#sizes.map((bytes, number) => ({ path: this.#finalName(number), bytes }))
  }

  /** What was not put goes. */
  async discard(): Promise<void> {
    this.#packer?.stop()
    await this.#file?.close()
    this.#file = undefined
    for (const path of this.#created) await rm(path, { force: true })
  }

  #finalName(number: number): string {
    return this.#shape.splitBytes === undefined ? this.#path : partName(this.#path, number)
  }

  #partName(number: number): string {
    const path = `${this.#path}.tidemark-part`
    return this.#shape.splitBytes === undefined ? path : partName(path, number)
  }

  async #openPart(): Promise<void> {
    const path = this.#partName(this.#sizes.length)
    try {
      this.#file = await open(path, 'wx', 0o600)
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'EEXIST'
        ? isTaken(path)
        : cannotWrite(path, error)
    }
    this.#created.push(path)
    this.#written = 0
  }

  async #closePart(): Promise<void> {
    const path = this.#partName(this.#sizes.length)
    try {
      await this.#file?.sync()
      await this.#file?.close()
    } catch (error) {
      throw cannotWrite(path, error)
    }
    this.#file = undefined
    this.#sizes.push(this.#written)
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; ) {
      const room = (this.#shape.splitBytes ?? Number.POSITIVE_INFINITY) - this.#written
      if (room === 0) {
        await this.#closePart()
        await this.#openPart()
        continue
      }
      const piece = bytes.subarray(at, at + Math.min(room, bytes.byteLength - at))
      const file = this.#file
      if (file === undefined) throw new Error('a file that is closed is written to')
      await writeAll(file, piece, this.#partName(this.#sizes.length))
      this.#written += piece.byteLength
      at += piece.byteLength
    }
  }

  async #link(): Promise<void> {
    const put: string[] = []
    try {
      for (const number of [...this.#sizes.keys()].reverse()) {
        await putFile(this.#partName(number), this.#finalName(number))
        put.push(this.#finalName(number))
      }
    } catch (error) {
      for (const path of put) await rm(path, { force: true })
      throw error
    }
  }

  async #replace(): Promise<void> {
    try {
      if (this.#shape.splitBytes !== undefined) await this.#removeOldParts()
      for (const number of [...this.#sizes.keys()].reverse()) {
        await rename(this.#partName(number), this.#finalName(number))
      }
    } catch (error) {
      throw isFailure(error) ? error : cannotWrite(this.#path, error)
    }
  }

  async #removeOldParts(): Promise<void> {
    const directory = dirname(this.#path)
    await rm(this.#finalName(0), { force: true })
    await syncDirectory(directory)
    for (const name of await readdir(directory)) {
      if (parsePartName(name)?.base !== basename(this.#path)) continue
      await rm(join(directory, name), { force: true })
    }
  }
}

const DIGITS = 3

/** `shop.dump.000` */
export function partName(path: string, number: number): string {
  return `${path}.${String(number).padStart(DIGITS, '0')}`
}

export function parsePartName(path: string): { base: string; number: number } | undefined {
  const match = /^(.+)\.(\d{3}|[1-9]\d{3,5})$/s.exec(path)
  return match === null ? undefined : { base: match[1] as string, number: Number(match[2]) }
}
