/**
 * Lists keys in order, one directory in memory at a time on each level of the tree.
 *
 * Key order is not directory order: the directory `a` holds keys that begin with `a/`,
 * which sort after `a-b` and `a.b`. So directories are sorted as if their names ended in
 * a slash.
 */
import { type Dirent, lstatSync, type Stats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { monotonicMs } from '../../base/clock.ts'
import { compareKeys, isKeySegment } from '../storage-key.ts'
import type { StoredObject } from '../storage.ts'
import { isAbsence, parentOf, type RepositoryTree } from './tree.ts'

/** Files that are given, and whose sizes are asked for, at once. */
const PORTION = 64

/** How often a directory is read again when entries vanish while it is being read. */
const READ_ATTEMPTS = 5

/** In portions, for what is yielded one by one waits once on each level of the tree. */
export async function* listTree(
  tree: RepositoryTree,
  prefix: string,
  after = '',
): AsyncGenerator<readonly StoredObject[]> {
  for await (const keys of listTreeKeys(tree, prefix, after)) yield await readSizes(tree, keys)
}

/**
 * Without a call for each file. Ends with a proof that the repository is there: a short list would
 * look like absence.
 */
export async function* listTreeKeys(
  tree: RepositoryTree,
  prefix: string,
  after = '',
): AsyncGenerator<readonly string[]> {
  const directory = parentOf(prefix)
  if (await tree.findDirectory(directory)) {
    const nameBegins = prefix.slice(directory === '' ? 0 : directory.length + 1)
    yield* listDirectory(tree, directory, nameBegins, after)
  }
  await tree.proveRoot()
}

async function* listDirectory(
  tree: RepositoryTree,
  directory: string,
  nameBegins: string,
  after: string,
): AsyncGenerator<readonly string[]> {
  const names = await readNames(tree, directory, nameBegins)
  const prefix = directory === '' ? '' : `${directory}/`
  let files: string[] = []
  for (const name of names) {
    if (isPassed(prefix + name, after)) continue
    if (!name.endsWith('/')) {
      files.push(prefix + name)
      if (files.length < PORTION) continue
    }
    if (files.length > 0) yield files
    files = []
    if (name.endsWith('/')) yield* listDirectory(tree, prefix + name.slice(0, -1), '', after)
  }
  if (files.length > 0) yield files
}

/** Nothing of this name, in a directory (with its slash) or not, comes behind `after`. */
function isPassed(name: string, after: string): boolean {
  if (name.endsWith('/') && after.startsWith(name)) return false
  return compareKeys(name, after) <= 0
}

/** Names in key order, those of directories with a slash at the end. */
async function readNames(
  tree: RepositoryTree,
  directory: string,
  nameBegins: string,
): Promise<string[]> {
  const entries = await readEntries(tree, directory)
  return entries
    .filter((entry) => isKeySegment(entry.name) && entry.name.startsWith(nameBegins))
    .map((entry) => (isTraversed(tree, directory, entry) ? `${entry.name}/` : entry.name))
    .sort(compareKeys)
}

/**
 * Where the file system tells no type, Node asks for it, and fails as a whole when an
 * entry vanishes in between: then the directory is read again.
 */
async function readEntries(tree: RepositoryTree, directory: string): Promise<Dirent[]> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await readdir(tree.path(directory), { withFileTypes: true })
    } catch (error) {
      if (!isAbsence(error)) throw error
      tree.forgetDirectories()
      if (!(await tree.findDirectory(directory))) return []
      if (attempt === READ_ATTEMPTS) throw error
    }
  }
}

/** A link or a special file under a key's name may hide an object: never passed over. */
function isTraversed(tree: RepositoryTree, directory: string, entry: Dirent): boolean {
  if (entry.isFile()) return false
  if (entry.isDirectory()) return true
  throw notAnObject(tree.path(directory === '' ? entry.name : `${directory}/${entry.name}`), entry)
}

function notAnObject(path: string, found: Dirent | Stats): Error {
  const code = found.isSymbolicLink() ? 'ELOOP' : 'EINVAL'
  return Object.assign(new Error(`${code}: neither file nor directory`), { code, path })
}

/** A file system that answers so quickly is asked file by file. */
const QUICK_MS = 0.2
/** A single slow answer tells nothing: this thread may just have had to wait for a processor. */
const SLOW_ANSWERS = 2

/**
 * To hand one question to a thread costs ten times what a local file system takes to answer
 * it. The first ones tell: a slow file system (a network, a cold disk) is asked for many at
 * once, so that neither its delay adds up nor this thread waits for it.
 */
async function readSizes(tree: RepositoryTree, keys: readonly string[]): Promise<StoredObject[]> {
  const found: (StoredObject | undefined)[] = []
  let slow = 0
  let before = monotonicMs()
  for (const key of keys) {
    found.push(readSizeNow(tree, key))
    const now = monotonicMs()
    if (now - before > QUICK_MS) slow++
    if (slow === SLOW_ANSWERS) break
    before = now
  }
  const others = keys.slice(found.length)
  found.push(...(await Promise.all(others.map((key) => readSize(tree, key)))))
  return found.filter((object) => object !== undefined)
}

function readSizeNow(tree: RepositoryTree, key: string): StoredObject | undefined {
  try {
    return sizeOf(tree, key, lstatSync(pathOf(tree, key)))
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

async function readSize(tree: RepositoryTree, key: string): Promise<StoredObject | undefined> {
  try {
    return sizeOf(tree, key, await lstat(pathOf(tree, key)))
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

/** Names that were just read need not be normalised, which took a fifth of a listing. */
function pathOf({ root }: RepositoryTree, key: string): string {
  return `${root}/${key}`
}

function sizeOf(tree: RepositoryTree, key: string, stats: Stats): StoredObject {
  if (!stats.isFile()) throw notAnObject(tree.path(key), stats)
  return { key, sizeBytes: stats.size }
}
