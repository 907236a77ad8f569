/**
 * Remembers for a minute that a repository did not answer in time, so that an archiver does not
 * wait for it with every segment.
 *
 * Invariant: it only saves time. A memory that cannot be read or written, or that lies further
 * ahead than it may (a clock that was set), is none.
 */
import { createHash } from 'node:crypto'
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { now } from '../base/clock.ts'
import { randomHex } from '../base/random.ts'
import { findPrivateDirectory } from './private-directory.ts'

const PAUSE_MS = 60_000

export interface AwayMemory {
  /** When it was last asked in vain; undefined: ask it. */
  lastAskedAt(url: string): Date | undefined
  remember(url: string): void
  forget(url: string): void
}

export function openAwayMemory(directory = findPrivateDirectory()): AwayMemory {
  const pathOf = (url: string): string | undefined => {
    const hash = createHash('sha256').update(url).digest('hex').slice(0, 32)
    return directory === undefined ? undefined : join(directory, `away-${hash}`)
  }
  return {
    lastAskedAt: (url) => readTime(pathOf(url)),
    remember: (url) => writeTime(pathOf(url)),
    forget: (url) => removeQuietly(pathOf(url)),
  }
}

function readTime(path: string | undefined): Date | undefined {
  if (path === undefined) return undefined
  try {
    const at = new Date(readFileSync(path, 'utf8').trim())
    const age = now().getTime() - at.getTime()
    return age >= 0 && age < PAUSE_MS ? at : undefined
  } catch {
    return undefined
  }
}

/** Whole or not at all: several archivers may do this at once. */
function writeTime(path: string | undefined): void {
  if (path === undefined) return
  try {
    const unfinished = `${path}.${randomHex(6)}`
    writeFileSync(unfinished, `${now().toISOString()}\n`, { mode: 0o600, flag: 'wx' })
    renameSync(unfinished, path)
  } catch {
    // Only time is lost.
  }
}

function removeQuietly(path: string | undefined): void {
  try {
    if (path !== undefined) rmSync(path, { force: true })
  } catch {
    // It is asked again in a minute.
  }
}
