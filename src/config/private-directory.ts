/**
 * A directory of this user for things that only save time: compiled code, and what was
 * learnt from the configuration.
 *
 * Invariant: what lies in it was written by this user. Others could plant code or
 * repositories there otherwise, so a directory that another user owns or may write to is
 * not used.
 */
import { lstatSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Its path, or undefined where there can be none. */
export function findPrivateDirectory(): string | undefined {
  const uid = process.getuid?.()
  if (uid === undefined) return undefined
  const path = join(tmpdir(), `tidemark-cache-${uid}`)
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return undefined
  }
  try {
    const stats = lstatSync(path)
    const isOurs = stats.isDirectory() && stats.uid === uid && (stats.mode & 0o077) === 0
    return isOurs ? path : undefined
  } catch {
    return undefined
  }
}
