/**
 * Gives a finished file in `.incoming/` its key. The caller has synced its content.
 *
 * Crash windows: before link or rename nothing is visible; after it the object is whole;
 * it is acknowledged only after its directory is synced. A crash between link and unlink
 * leaves a second name in `.incoming/`, which removeLeftovers() takes away.
 */
import { link, lstat, rename } from 'node:fs/promises'
import { Failure } from '../../base/failure.ts'
import { MARKER_KEY } from '../storage-key.ts'
import { removeFile } from './incoming.ts'
import { errorCode } from './system-failure.ts'
import { isAbsence, parentOf, type RepositoryTree } from './tree.ts'

export async function publish(
  tree: RepositoryTree,
  temporaryPath: string,
  key: string,
  createOnly: boolean,
): Promise<void> {
  const directory = parentOf(key)
  const giveName = async () => {
    await tree.ensureDirectory(directory)
    await (createOnly ? linkOnce : renameOver)(tree, temporaryPath, key)
  }
  try {
    await giveName()
  } catch (error) {
    if (!isAbsence(error)) throw error
    tree.forgetDirectories()
    await tree.proveRoot()
    await giveName()
  }
  await tree.syncDirectory(tree.path(directory))
  if (key !== MARKER_KEY) await tree.proveRoot()
}

/**
 * rename(2) replaces in one step. An NFS server that got the request twice answers the
 * second one with ENOENT although the first has done it: the inode tells.
 */
async function renameOver(tree: RepositoryTree, from: string, key: string): Promise<void> {
  const { ino } = await lstat(from)
  try {
    await rename(from, tree.path(key))
  } catch (error) {
    if (errorCode(error) !== 'ENOENT' || (await inodeOf(tree.path(key))) !== ino) throw error
  }
}

/** link(2) fails when the name is there: exactly one of several creators wins. */
async function linkOnce(tree: RepositoryTree, from: string, key: string): Promise<void> {
  const path = tree.path(key)
  try {
    await link(from, path)
  } catch (error) {
    if (NO_LINKS.has(errorCode(error))) throw noHardLinks(tree, error)
    if (errorCode(error) !== 'EEXIST') throw error
    // NFS again: a repeated request meets the link that the first one made.
    if ((await inodeOf(path)) !== (await lstat(from)).ino) await refuseExisting(tree, key)
  }
  await removeFile(from)
}

const NO_LINKS: ReadonlySet<string> = new Set([
  'EPERM',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EMLINK',
])

/**
 * The one that won may not have synced the directory yet. Whoever learns here that the
 * object exists may acknowledge on that ground, so it is made durable first.
 */
async function refuseExisting(tree: RepositoryTree, key: string): Promise<never> {
  const found = await lstat(tree.path(key))
  if (!found.isFile()) {
    throw new Failure('TM1501', {
      message: `cannot create ${key} in ${tree.url}`,
      because: `${tree.path(key)} is there and is not a file`,
      fix: `move ${tree.path(key)} away: it is none of Tidemark's`,
      details: { path: tree.path(key) },
    })
  }
  await tree.syncDirectory(tree.path(parentOf(key)))
  throw new Failure('TM1502', {
    message: `${key} exists already in ${tree.url}`,
    because: 'another run created it first; it was not overwritten',
    fix: 'compare the two runs; when both did the same work, nothing is to be done',
    details: { key },
  })
}

async function inodeOf(path: string): Promise<number | undefined> {
  try {
    return (await lstat(path)).ino
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

function noHardLinks(tree: RepositoryTree, cause: unknown): Failure {
  const code = errorCode(cause)
  return new Failure('TM1501', {
    message: `the file system of ${tree.url} cannot hold a repository`,
    because: `it refuses hard links (${code}), without which two runs could overwrite each other`,
    fix: 'choose a file system with hard links, such as ext4, XFS, Btrfs, ZFS or NFS',
    details: { path: tree.root, systemError: code },
    cause,
  })
}
