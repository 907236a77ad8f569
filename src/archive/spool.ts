/**
 * The spool of a recovery: `pg_wal/tidemark.spool/` of the directory that recovers, from where the
 * restore_command takes segments by rename (docs/design/wal-archive.md, section 7).
 *
 * Invariants: it is of one start of one server, which a hard link to `postmaster.pid` in it proves.
 * A file stands under a segment's name only when it is whole, verified and synced.
 */
import { link, lstat, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { randomHex } from '../base/random.ts'
import { isAbsence } from './read-wal-file.ts'

/** From the data directory. */
export const SPOOL_DIRECTORY = 'pg_wal/tidemark.spool'
export const COMING_SUFFIX = '.coming'
export const PART_SUFFIX = '.part'
const SERVER_LINK = 'server'
const AIM_FILE = 'aim'
export const FILLER_FILE = 'filler'
const POSTMASTER_FILE = 'postmaster.pid'

export interface Spool {
  readonly dataDirectory: string
  readonly directory: string
}

export function spoolOf(dataDirectory: string): Spool {
  return { dataDirectory, directory: join(dataDirectory, SPOOL_DIRECTORY) }
}

/** Is there one, of the server's present start? */
export async function isSpoolValid({ dataDirectory, directory }: Spool): Promise<boolean> {
  const [own, present] = await Promise.all([
    inodeOf(join(directory, SERVER_LINK)),
    inodeOf(join(dataDirectory, POSTMASTER_FILE)),
  ])
  return own !== undefined && own === present
}

/** False: no server runs here, or there can be no links; then nothing is spooled. */
export async function ensureSpool(spool: Spool): Promise<boolean> {
  try {
    if (await isSpoolValid(spool)) return true
    await removeSpool(spool)
    await mkdir(spool.directory, { mode: 0o700 })
    await link(join(spool.dataDirectory, POSTMASTER_FILE), join(spool.directory, SERVER_LINK))
    if (await isSpoolValid(spool)) return true
  } catch {
    // Only speed is lost: the program fetches each file.
  }
  await removeSpool(spool).catch(() => {})
  return false
}

/** Taken away in one step, so that nobody takes from it while it goes. */
export async function removeSpool({ directory }: Spool): Promise<void> {
  const aside = `${directory}-${randomHex(4)}`
  try {
    await rename(directory, aside)
  } catch (error) {
    if (isAbsence(error)) return
    throw error
  }
  await rm(aside, { recursive: true, force: true })
}

/** True when the file was in it and is at the destination now. */
export async function takeFromSpool(
  spool: Spool,
  name: string,
  destination: string,
): Promise<boolean> {
  if (!(await isSpoolValid(spool))) return false
  try {
    await rename(join(spool.directory, name), destination)
    return true
  } catch {
    return false
  }
}

/** When the filler last said that it is at work on this file; undefined: it is not. */
export async function findComingMs(
  { directory }: Spool,
  name: string,
): Promise<number | undefined> {
  try {
    return (await lstat(join(directory, `${name}${COMING_SUFFIX}`))).mtimeMs
  } catch {
    return undefined
  }
}

/** Tells the filler what was handed out last. */
export async function aimSpool({ directory }: Spool, name: string): Promise<void> {
  const unfinished = join(directory, `${AIM_FILE}-${randomHex(4)}`)
  await writeFile(unfinished, name, { mode: 0o600, flag: 'wx' })
  await rename(unfinished, join(directory, AIM_FILE))
}

export async function readAim({ directory }: Spool): Promise<string | undefined> {
  return await readText(join(directory, AIM_FILE))
}

/** The filler's process id in the first line, for the shell; its identity in the second. */
export async function readFiller({ directory }: Spool): Promise<string | undefined> {
  return await readText(join(directory, FILLER_FILE))
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'latin1')
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

async function inodeOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await lstat(path, { bigint: true })
    return `${dev}:${ino}`
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}
