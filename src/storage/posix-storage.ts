/**
 * Objects as files of a local or network file system, below one root directory.
 *
 * Invariant: a file under a key's name is whole and durable. Content is written to
 * `.incoming/`, synced, given its name by link(2) or rename(2), and the directory is synced,
 * before anything is acknowledged (docs/design/storage.md has the crash windows). Journals alone
 * grow under their name, chunk by chunk (posix/journal.ts).
 */
import { constants } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { closeFile, openFile, readFully, statFile, writeFully } from './posix/files.ts'
import { createIncomingFile, removeDeadIncoming, removeFile } from './posix/incoming.ts'
import { openPosixJournal } from './posix/journal.ts'
import { listTree, listTreeKeys } from './posix/list-tree.ts'
import { publish } from './posix/publish.ts'
import { errorCode, translateSystemError } from './posix/system-failure.ts'
import { isAbsence, type Owner, parentOf, RepositoryTree } from './posix/tree.ts'
import { discardQuietly, openIncomingWriter, syncAndClose } from './posix/writer.ts'
import { assertListing, assertStorageKey, MARKER_KEY } from './storage-key.ts'
import type { Journal, ObjectWriter, Storage, StoredObject, WriteOptions } from './storage.ts'

export interface PosixStorageOptions {
  /** Absolute path. It need not exist before the first object, `tidemark.repository`. */
  readonly root: string
  /** For messages; `file://` and the root unless given. */
  readonly url?: string
  /** Who a root that is created shall belong to; only root can give directories away. */
  readonly owner?: Owner
}

/** O_NONBLOCK: opening a pipe that lies under a key's name must not wait for a writer. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** Unlinks that wait at once. */
const REMOVED_AT_ONCE = 64

/** A network file system loses handles when an object is replaced by another client. */
const STALE_ATTEMPTS = 3

export function openPosixStorage(options: PosixStorageOptions): Storage {
  const root = options.root.replace(/(?!^)\/+$/, '')
  if (!root.startsWith('/')) throw new Error(`not an absolute path: ${root}`)
  return new PosixStorage(new RepositoryTree(root, options.url ?? `file://${root}`, options.owner))
}

class PosixStorage implements Storage {
  readonly url: string
  readonly #tree: RepositoryTree

  constructor(tree: RepositoryTree) {
    this.#tree = tree
    this.url = tree.url
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    return await this.#open(key, async (fd, sizeBytes) => await this.#fill(key, fd, 0, sizeBytes))
  }

  async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    if (offset < 0 || length < 0) throw new Error(`not a range: ${offset}, ${length}`)
    return await this.#open(key, async (fd, sizeBytes) => {
      const count = Math.min(length, Math.max(0, sizeBytes - offset))
      return await this.#fill(key, fd, offset, count, into)
    })
  }

  async size(key: string): Promise<number | undefined> {
    return await this.#open(key, async (_fd, sizeBytes) => sizeBytes)
  }

  list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    assertListing(prefix, after)
    return this.#list(prefix, after)
  }

  listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    assertListing(prefix, after)
    return this.#listKeys(prefix, after)
  }

  async *#list(prefix: string, after: string | undefined): AsyncGenerator<StoredObject> {
    try {
      for await (const portion of listTree(this.#tree, prefix, after)) yield* portion
    } catch (error) {
      throw this.#translateListing(error, prefix)
    }
  }

  async *#listKeys(prefix: string, after: string | undefined): AsyncGenerator<readonly string[]> {
    try {
      yield* listTreeKeys(this.#tree, prefix, after)
    } catch (error) {
      throw this.#translateListing(error, prefix)
    }
  }

  async write(key: string, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    assertStorageKey(key)
    await this.#translating(`write ${key}`, key, bytes.length, async () => {
      await this.#prepare(key)
      const file = await createIncomingFile(this.#tree)
      try {
        try {
          await writeFully(file.fd, bytes)
        } catch (error) {
          await closeFile(file.fd)
          throw error
        }
        await syncAndClose(file.fd)
        await publish(this.#tree, file.path, key, options.createOnly === true)
      } catch (error) {
        await discardQuietly(file.path)
        throw error
      }
    })
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    assertStorageKey(key)
    return await this.#translating(`write ${key}`, key, undefined, async () => {
      await this.#prepare(key)
      return await openIncomingWriter(this.#tree, key)
    })
  }

  async openJournal(key: string, head: Uint8Array): Promise<Journal> {
    assertStorageKey(key)
    return await this.#translating(`write ${key}`, key, head.length, async () => {
      await this.#prepare(key)
      return await openPosixJournal(this.#tree, key, head)
    })
  }

  async confirmDurable(keys: readonly string[]): Promise<void> {
    for (const directory of new Set(keys.map(parentOf))) {
      await this.#translating('sync directories', directory, undefined, async () => {
        await this.#tree.proveRoot()
        if (!(await this.#tree.findDirectory(directory))) return
        await this.#tree.ensureDirectory(directory)
        await this.#tree.syncDirectory(this.#tree.path(directory))
      })
    }
  }

  async remove(key: string): Promise<void> {
    assertStorageKey(key)
    await this.#translating(`remove ${key}`, key, undefined, async () => {
      await this.#tree.proveRoot()
      if (!(await this.#tree.findDirectory(parentOf(key)))) return
      await this.#unlinkObject(key)
      await this.#tree.syncDirectory(this.#tree.path(parentOf(key)))
    })
  }

  /** A directory is synced once, behind the last that is removed from it. */
  async removeMany(keys: readonly string[]): Promise<void> {
    for (const key of keys) assertStorageKey(key)
    for (const [directory, own] of Map.groupBy(keys, parentOf)) {
      const doing = `remove ${own.length} objects of ${directory}`
      await this.#translating(doing, directory, undefined, async () => {
        await this.#tree.proveRoot()
        if (!(await this.#tree.findDirectory(directory))) return
        for (let from = 0; from < own.length; from += REMOVED_AT_ONCE) {
          const some = own.slice(from, from + REMOVED_AT_ONCE)
          await Promise.all(some.map(async (key) => await this.#unlinkObject(key)))
        }
        await this.#tree.syncDirectory(this.#tree.path(directory))
      })
    }
  }

  async removeLeftovers(): Promise<number> {
    const doing = 'remove unfinished objects'
    return await this.#translating(doing, '.incoming', undefined, async () => {
      await this.#tree.proveRoot()
      return await removeDeadIncoming(this.#tree)
    })
  }

  async freeBytes(): Promise<number | undefined> {
    return await this.#translating('measure free space', '', undefined, async () => {
      await this.#tree.proveRoot()
      const { bavail, bsize } = await statfs(this.#tree.root)
      return bavail * bsize
    })
  }

  async close(): Promise<void> {}

  /** Every write proves the root first: WAL must not go below an empty mount point. */
  async #prepare(key: string): Promise<void> {
    if (key === MARKER_KEY) await this.#tree.prepareRoot()
    else await this.#tree.proveRoot()
  }

  async #unlinkObject(key: string): Promise<void> {
    try {
      await removeFile(this.#tree.path(key))
    } catch (error) {
      // A directory of that name: there is no such object.
      if (errorCode(error) === 'EISDIR') return
      throw error
    }
  }

  /** Opens the file of a key; undefined is answered only when the repository is there. */
  async #open<T>(
    key: string,
    use: (fd: number, sizeBytes: number) => Promise<T>,
  ): Promise<T | undefined> {
    assertStorageKey(key)
    return await this.#translating(`read ${key}`, key, undefined, async () => {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await this.#openOnce(key, use)
        } catch (error) {
          if (errorCode(error) !== 'ESTALE' || attempt === STALE_ATTEMPTS) throw error
        }
      }
    })
  }

  async #openOnce<T>(
    key: string,
    use: (fd: number, sizeBytes: number) => Promise<T>,
  ): Promise<T | undefined> {
    const fd = await this.#openFile(key)
    if (fd === undefined) {
      // The marker's own absence is the answer that tells an empty place from a repository.
      if (key !== MARKER_KEY) await this.#tree.proveRoot()
      return undefined
    }
    try {
      const stats = await statFile(fd)
      if (stats.isFile()) return await use(fd, stats.size)
      if (stats.isDirectory()) return undefined
      throw Object.assign(new Error('EINVAL: not a file'), { code: 'EINVAL' })
    } finally {
      await closeFile(fd)
    }
  }

  async #openFile(key: string): Promise<number | undefined> {
    try {
      if (!(await this.#tree.findDirectory(parentOf(key)))) return undefined
      return await openFile(this.#tree.path(key), READ_FLAGS)
    } catch (error) {
      if (isAbsence(error)) return undefined
      throw error
    }
  }

  /** Objects never shrink: a short read is an error of the medium, not an end. */
  async #fill(
    key: string,
    fd: number,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array> {
    const buffer = into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length)
    const count = await readFully(fd, buffer, offset)
    if (count === length) return buffer
    const error = new Error(`EIO: ${count} of ${length} bytes of ${key}`)
    throw Object.assign(error, { code: 'EIO' })
  }

  async #translating<T>(
    doing: string,
    key: string,
    neededBytes: number | undefined,
    action: () => Promise<T>,
  ): Promise<T> {
    try {
      return await action()
    } catch (error) {
      throw this.#translate(error, doing, key, neededBytes)
    }
  }

  #translateListing(error: unknown, prefix: string): unknown {
    return this.#translate(error, `list ${prefix === '' ? 'objects' : prefix}`, parentOf(prefix))
  }

  #translate(error: unknown, doing: string, key: string, neededBytes?: number): unknown {
    const { root, url } = this.#tree
    const named = (error as NodeJS.ErrnoException).path
    return translateSystemError(error, {
      doing,
      path: named ?? this.#tree.path(key),
      root,
      url,
      ...(neededBytes === undefined ? {} : { neededBytes }),
    })
  }
}
