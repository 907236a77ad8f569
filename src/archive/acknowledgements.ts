/**
 * What was archived before PostgreSQL asked for it, said so that a shell can read it: hard links to
 * `postmaster.pid` under the names of the files (docs/design/wal-archive.md, section 6).
 *
 * Invariant: a link is made from an anchor that was made before any file was looked at, and
 * after the file is durable. So it says nothing of another start of the server, whoever
 * runs, stops or is left over.
 */
import { link, lstat, mkdir, readdir, readFile, rename, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomHex } from '../base/random.ts'
import { isAbsence } from './read-wal-file.ts'

/** In the data directory: pg_wal may be another file system. */
export const ACKNOWLEDGEMENTS_DIRECTORY = 'tidemark.acks'
/** Of segments that have no index yet (src/events/index-todo.ts). */
export const INDEX_TODO_DIRECTORY = 'index'
const POSTMASTER_FILE = 'postmaster.pid'
/** In which repositories the files are that are acknowledged. */
const PLACES_FILE = '.for'
const ANCHOR = /^\.run-(\d+)-[0-9a-f]{8}$/

export interface Acknowledgements {
  /** Of this start of the server, when they were read. */
  readonly names: ReadonlySet<string>
  /** The file is durable wherever it must be. False: it could not be said. */
  acknowledge(name: string): Promise<boolean>
  /** Removes what `isWaiting` does not want, and what other starts of the server left. */
  tidy(isWaiting: (name: string) => boolean): Promise<void>
  close(): Promise<void>
}

/**
 * Undefined: no server runs here, or its file system has no hard links. What was said for other
 * `places` is taken back: the file is not known to be in these.
 */
export async function openAcknowledgements(
  dataDirectory: string,
  places: string,
): Promise<Acknowledgements | undefined> {
  const directory = join(dataDirectory, ACKNOWLEDGEMENTS_DIRECTORY)
  const anchor = join(directory, `.run-${process.pid}-${randomHex(4)}`)
  try {
    await mkdir(directory, { mode: 0o700 }).catch(ignoreExisting)
    await link(join(dataDirectory, POSTMASTER_FILE), anchor)
  } catch {
    // Only speed is lost: every file is asked for by itself.
    return undefined
  }
  const run = await inodeOf(anchor)
  const isSame = run !== undefined && run === (await inodeOf(join(dataDirectory, POSTMASTER_FILE)))
  if (isSame && (await settlePlaces(directory, anchor, places))) {
    return await open(directory, anchor, run)
  }
  await unlinkQuietly(anchor)
  return undefined
}

/**
 * Links go before the places change: a crash in between leaves none. Anchors of other calls go as
 * well, so that one with the configuration before says nothing more. False: it cannot be done.
 */
async function settlePlaces(directory: string, anchor: string, places: string): Promise<boolean> {
  const path = join(directory, PLACES_FILE)
  try {
    const known = await readFile(path, 'utf8').catch(ignoreAbsence)
    if (known === places) return true
    for (const name of await readdir(directory)) {
      const isKept = known === undefined && ANCHOR.test(name)
      if (name === PLACES_FILE || join(directory, name) === anchor || isKept) continue
      await unlink(join(directory, name)).catch(ignoreAbsence)
    }
    await writeFile(`${anchor}.for`, places, { mode: 0o600 })
    await rename(`${anchor}.for`, path)
    return true
  } catch {
    return false
  }
}

async function open(directory: string, anchor: string, run: string): Promise<Acknowledgements> {
  const names = new Set<string>()
  const others: string[] = []
  for (const name of await readdir(directory)) {
    if (name === INDEX_TODO_DIRECTORY || name === PLACES_FILE) continue
    const own = (await inodeOf(join(directory, name))) === run
    const [, pid] = ANCHOR.exec(name) ?? []
    if (pid === undefined && own) names.add(name)
    else if (pid === undefined || !own || !isAlive(Number(pid))) others.push(name)
  }
  return {
    names,
    async acknowledge(name) {
      try {
        await link(anchor, join(directory, name))
        return true
      } catch (error) {
        // Another call has said it; or the anchor was taken away, and nothing is said.
        return (error as NodeJS.ErrnoException).code === 'EEXIST'
      }
    },
    async tidy(isWaiting) {
      const done = [...names].filter((name) => !isWaiting(name))
      for (const name of [...others, ...done]) await unlinkQuietly(join(directory, name))
    },
    close: async () => {
      await unlinkQuietly(anchor)
    },
  }
}

function ignoreExisting(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
}

function ignoreAbsence(error: unknown): undefined {
  if (!isAbsence(error)) throw error
}

/** Device and inode, as `-ef` compares them; undefined: it is not there. */
export async function inodeOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await lstat(path, { bigint: true })
    return `${dev}:${ino}`
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

async function unlinkQuietly(path: string): Promise<void> {
  await unlink(path).catch(() => undefined)
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
