/**
 * The directory tree of a repository: proves that it is there, creates directories
 * durably, and refuses symbolic links in it.
 *
 * Invariant: nothing is answered "absent" and nothing is written unless the root holds
 * `tidemark.repository`. The directory of an unmounted file system is empty: without that
 * proof every object would look absent, and WAL would be written below the mount point.
 */
import { constants, type Stats } from 'node:fs'
import { chmod, chown, lstat, mkdir, readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Failure } from '../../base/failure.ts'
import { makeDirectories } from '../../base/make-directories.ts'
import { MARKER_KEY } from '../storage-key.ts'
import { SharedDirectorySync } from './files.ts'
import { errorCode } from './system-failure.ts'

/** Names that a root may hold before it is a repository. */
const MAY_BE_THERE = new Set(['.incoming', 'lost+found', '.snapshot', '.zfs'])

export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Modes and owner of what is created, taken from the root directory. */
export interface CreationPolicy {
  readonly directoryMode: number
  readonly fileMode: number
  /** Set when we are root and the repository belongs to somebody else. */
  readonly owner?: Owner
}

export class RepositoryTree {
  readonly root: string
  readonly url: string
  readonly #initialOwner: Owner | undefined
  readonly #sync = new SharedDirectorySync()
  /** Directories that are known to be there, to be durable and to be no links. */
  readonly #settled = new Set<string>()
  /**
   * Directories that were found, and are no links: 500 small objects took two thirds of their
   * time for looking at the same four directories. Nothing is absent because of this: whoever
   * finds no object there proves the root.
   */
  readonly #found = new Set<string>()
  #policy: CreationPolicy | undefined

  constructor(root: string, url: string, initialOwner?: Owner) {
    this.root = root
    this.url = url
    this.#initialOwner = initialOwner
  }

  path(key: string): string {
    return join(this.root, key)
  }

  syncDirectory(path: string): Promise<void> {
    return this.#sync.sync(path)
  }

  /** TM1507 unless the root is there and is a repository. */
  async proveRoot(): Promise<void> {
    const marker = this.path(MARKER_KEY)
    try {
      if ((await lstat(marker)).isFile()) return
    } catch (error) {
      if (!isAbsence(error)) throw error
    }
    throw await this.#vanished()
  }

  async #vanished(): Promise<Failure> {
    const root = await statOrAbsent(this.root)
    const because =
      root === undefined
        ? `the directory ${this.root} does not exist`
        : `${this.root} holds no ${MARKER_KEY}`
    return new Failure('TM1507', {
      message: `the repository ${this.url} is not there`,
      because: `${because}; is its file system mounted?`,
      fix: `mount the file system of ${this.root}, or correct the repository's URL`,
      details: { root: this.root },
    })
  }

  /** Creates the root for its first object; refuses one that holds anything else. */
  async prepareRoot(): Promise<void> {
    const found = await statOrAbsent(this.root)
    if (found === undefined) await this.#createRoot()
    const names = await readdir(this.root)
    const strange = names.find((name) => !MAY_BE_THERE.has(name))
    if (strange === undefined || strange === MARKER_KEY || names.includes(MARKER_KEY)) return
    throw new Failure('TM1501', {
      message: `cannot create a repository in ${this.url}`,
      because: `the directory is not empty: it holds ${strange}`,
      fix: 'choose an empty directory, or one that does not exist yet',
      details: { path: this.root },
    })
  }

  async #createRoot(): Promise<void> {
    const made = makeDirectories(this.root, 0o700)
    if (this.#initialOwner !== undefined && process.geteuid?.() === 0) {
      await chown(this.root, this.#initialOwner.uid, this.#initialOwner.gid)
    }
    for (const directory of made.reverse()) await this.syncDirectory(dirname(directory))
  }

  /** A root of mode 0750 gives its group read access to everything below, 0770 also write. */
  async policy(): Promise<CreationPolicy> {
    this.#policy ??= policyOf(await stat(this.root))
    return this.#policy
  }

  /**
   * Makes sure that the directory of a key is there and would survive a crash. A directory
   * that another process made is synced as well: it may not have come to that yet.
   */
  async ensureDirectory(relative: string): Promise<void> {
    if (relative === '' || this.#settled.has(relative)) return
    const parent = parentOf(relative)
    await this.ensureDirectory(parent)
    await this.#makeDirectory(relative)
    await this.syncDirectory(this.path(parent))
    this.#settled.add(relative)
  }

  async #makeDirectory(relative: string): Promise<void> {
    const path = this.path(relative)
    const policy = await this.policy()
    try {
      await mkdir(path, { mode: policy.directoryMode & 0o777 })
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error
      assertDirectory(await lstat(path), path)
      return
    }
    if ((policy.directoryMode & 0o070) !== 0) await chmod(path, policy.directoryMode)
    if (policy.owner !== undefined) await chown(path, policy.owner.uid, policy.owner.gid)
  }

  /** After a write met a directory that is gone. */
  forgetDirectories(): void {
    this.#settled.clear()
    this.#found.clear()
    this.#policy = undefined
  }

  /** Whether a directory is there; a link on the way to it is a failure. */
  async findDirectory(relative: string): Promise<boolean> {
    if (relative === '') return (await statOrAbsent(this.root)) !== undefined
    if (this.#settled.has(relative) || this.#found.has(relative)) return true
    if (!(await this.findDirectory(parentOf(relative)))) return false
    try {
      const found = await lstat(this.path(relative))
      if (found.isFile()) return false
      assertDirectory(found, this.path(relative))
      this.#found.add(relative)
      return true
    } catch (error) {
      if (isAbsence(error)) return false
      throw error
    }
  }
}

export function parentOf(key: string): string {
  return key.includes('/') ? key.slice(0, key.lastIndexOf('/')) : ''
}

/** What the kernel says of a path that leads nowhere. */
export function isAbsence(error: unknown): boolean {
  const code = errorCode(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** Never gives others access, whatever the root's mode is. */
function policyOf(root: Pick<Stats, 'mode' | 'uid' | 'gid'>): CreationPolicy {
  const directoryMode = 0o700 | (root.mode & (constants.S_IRWXG | 0o2000))
  const fileMode = 0o600 | (root.mode & constants.S_IRGRP)
  const foreign = process.geteuid?.() === 0 && (root.uid !== 0 || root.gid !== 0)
  if (!foreign) return { directoryMode, fileMode }
  return { directoryMode, fileMode, owner: { uid: root.uid, gid: root.gid } }
}

function assertDirectory(found: Stats, path: string): void {
  if (found.isDirectory()) return
  const code = found.isSymbolicLink() ? 'ELOOP' : 'ENOTDIR'
  throw Object.assign(new Error(`${code}: ${path}`), { code, path })
}

async function statOrAbsent(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}
