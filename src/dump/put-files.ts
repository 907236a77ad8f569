/**
 * Gives files and directories that are whole their final names.
 *
 * Invariant: what has a name already is not touched: files are linked into place, which fails where
 * the name is taken; a directory is renamed onto a name that does not exist.
 */
import { link, lstat, open, rename, rm } from 'node:fs/promises'
import { Failure } from '../base/failure.ts'
import { cannotWrite } from './open-archive.ts'

export async function putFile(part: string, output: string): Promise<void> {
  try {
    await link(part, output)
  } catch (error) {
    const isTakenNow = (error as NodeJS.ErrnoException).code === 'EEXIST'
    throw isTakenNow ? isTaken(output) : cannotWrite(output, error)
  }
  await rm(part)
}

/** rename(2) would replace an empty directory, which loses nothing. */
export async function putDirectory(part: string, output: string): Promise<void> {
  try {
    await rename(part, output)
  } catch (error) {
    throw cannotWrite(output, error)
  }
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

export async function isThere(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw cannotWrite(path, error)
    },
  )
}

export function isTaken(path: string): Failure {
  return new Failure('TM2036', {
    message: `${path} is there already`,
    because: 'a file that exists is never overwritten',
    fix: 'name another one, or move it away',
    details: { path },
  })
}
