/**
 * The files of a data directory as they were listed, in the order of their paths. So many as
 * most clusters have are kept as objects; when there are more, all of them are kept in columns,
 * and an entry is an object only while it is looked at.
 */
import { resolve } from 'node:path'
import { BigColumn, BytesColumn, NumberColumn } from '../base/columns.ts'
import type { Listed } from './list-files.ts'

/** What was listed; an array is one too. */
export interface ListedEntries extends Iterable<Listed> {
  readonly length: number
  at(index: number): Listed | undefined
}

/** Some 15 MB of objects. */
const KEPT_OBJECTS = 32_768

const KINDS = ['file', 'directory', 'link'] as const

export class FileTable implements ListedEntries {
  readonly #dataDirectory: string
  readonly #keptObjects: number
  #objects: Listed[] | undefined = []
  readonly #kinds = new NumberColumn(Uint8Array)
  readonly #modes = new NumberColumn(Uint16Array)
  readonly #paths = new BytesColumn()
  readonly #sizes = new NumberColumn(Float64Array)
  // Signed, as Node.js reads them.
  readonly #devices = new BigColumn(BigInt64Array)
  readonly #inodes = new BigColumn(BigInt64Array)
  readonly #modified = new BigColumn(BigInt64Array)
  readonly #changed = new BigColumn(BigInt64Array)
  readonly #targets = new Map<number, string>()

  constructor(dataDirectory: string, keptObjects = KEPT_OBJECTS) {
    this.#dataDirectory = resolve(dataDirectory)
    this.#keptObjects = keptObjects
  }

  get length(): number {
    return this.#objects?.length ?? this.#kinds.length
  }

  /** Paths ascend. A file lies where its path says. */
  add(entry: Listed): void {
    if (this.#objects === undefined) {
      this.#addToColumns(entry)
      return
    }
    this.#objects.push(entry)
    if (this.#objects.length <= this.#keptObjects) return
    for (const one of this.#objects) this.#addToColumns(one)
    this.#objects = undefined
  }

  #addToColumns(entry: Listed): void {
    if (entry.kind === 'link') this.#targets.set(this.#kinds.length, entry.target)
    const file = entry.kind === 'file' ? entry : undefined
    if (file !== undefined && file.location !== this.#locate(file.path)) {
      throw new Error(`${file.path} lies in ${file.location}`)
    }
    this.#kinds.push(KINDS.indexOf(entry.kind))
    this.#modes.push(entry.mode)
    this.#paths.pushText(entry.path)
    this.#sizes.push(file?.size ?? 0)
    this.#devices.push(file?.status.device ?? 0n)
    this.#inodes.push(file?.status.inode ?? 0n)
    this.#modified.push(file?.status.modifiedNs ?? 0n)
    this.#changed.push(file?.status.changedNs ?? 0n)
  }

  at(index: number): Listed | undefined {
    if (this.#objects !== undefined) return this.#objects[index]
    return index >= 0 && index < this.length ? this.#inColumns(index) : undefined
  }

  #inColumns(index: number): Listed {
    const kind = KINDS[this.#kinds.get(index)] as (typeof KINDS)[number]
    const path = this.#paths.getText(index)
    const mode = this.#modes.get(index)
    if (kind === 'directory') return { kind, path, mode }
    if (kind === 'link') return { kind, path, mode, target: this.#targets.get(index) as string }
    return {
      kind,
      path,
      location: this.#locate(path),
      mode,
      size: this.#sizes.get(index),
      status: {
        device: this.#devices.get(index),
        inode: this.#inodes.get(index),
        modifiedNs: this.#modified.get(index),
        changedNs: this.#changed.get(index),
      },
    }
  }

  *[Symbol.iterator](): Generator<Listed> {
    for (let index = 0; index < this.length; index++) yield this.at(index) as Listed
  }

  /** The second @ is that of the list (list-files.ts). */
  #locate(path: string): string {
    return `${this.#dataDirectory}/${path.startsWith('@@') ? path.slice(1) : path}`
  }
}
