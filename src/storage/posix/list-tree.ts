/**
 * Lists keys in order, one directory in memory at a time on each level of the tree.
 *
 * Key order is not directory order: the directory `a` holds keys that begin with `a/`,
 * which sort after `a-b` and `a.b`. So directories are sorted as if their names ended in
 * a slash.
 */
import type { Dirent, Stats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { compareKeys, isKeySegment } from '../storage-key.ts'
import type { StoredObject } from '../storage.ts'
import { isAbsence, parentOf, type RepositoryTree } from './tree.ts'

/** Files whose sizes are asked for at once. */
const STAT_BATCH = 64

/** How often a directory is read again when entries vanish while it is being read. */
const READ_ATTEMPTS = 5

/** Ends with a proof that the repository is there: a short list would look like absence. */
export async function* listTree(
  tree: RepositoryTree,
  prefix: string,
): AsyncGenerator<StoredObject> {
  const directory = parentOf(prefix)
  if (await tree.findDirectory(directory)) {
    yield* listDirectory(tree, directory, prefix.slice(directory === '' ? 0 : directory.length + 1))
  }
  await tree.proveRoot()
}

async function* listDirectory(
  tree: RepositoryTree,
  directory: string,
  nameBegins: string,
): AsyncGenerator<StoredObject> {
  const names = await readNames(tree, directory, nameBegins)
  const prefix = directory === '' ? '' : `${directory}/`
  let files: string[] = []
  for (const name of names) {
    if (!name.endsWith('/')) {
      files.push(prefix + name)
      if (files.length < STAT_BATCH) continue
    }
    yield* await readSizes(tree, files)
    files = []
    if (name.endsWith('/')) yield* listDirectory(tree, prefix + name.slice(0, -1), '')
  }
  yield* await readSizes(tree, files)
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

async function readSizes(tree: RepositoryTree, keys: readonly string[]): Promise<StoredObject[]> {
  const found = await Promise.all(keys.map((key) => readSize(tree, key)))
  return found.filter((object) => object !== undefined)
}

async function readSize(tree: RepositoryTree, key: string): Promise<StoredObject | undefined> {
  try {
    const stats = await lstat(tree.path(key))
    if (!stats.isFile()) throw notAnObject(tree.path(key), stats)
    return { key, sizeBytes: stats.size }
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}
