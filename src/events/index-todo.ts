/**
 * What was pushed and has no index yet: empty files named as segments, in a directory beside the
 * acknowledgements of the server (docs/design/event-index.md, section 8).
 *
 * Invariants: nothing here fails or holds up a push. A claim is worth nothing for another start
 * of the server, nor when its process is gone. A lost name costs an index, which is computed
 * while reading.
 */
import { link, lstat, mkdir, readdir, readFile, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  ACKNOWLEDGEMENTS_DIRECTORY,
  INDEX_TODO_DIRECTORY,
  inodeOf,
  isAlive,
} from '../archive/acknowledgements.ts'
import { isAbsence } from '../archive/read-wal-file.ts'
import { now } from '../base/clock.ts'
import {
  formatProcessIdentity,
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  readProcessIdentity,
} from '../storage/process-identity.ts'

/** Of more the oldest are dropped. */
export const MOST_NOTED = 256
/** A hard link to postmaster.pid: `worker` is of this start of the server. */
const SERVER_LINK = 'server'
/** The identity of the process that writes indexes, or nothing while it is being started. */
const WORKER_FILE = 'worker'
const POSTMASTER_FILE = 'postmaster.pid'
const SEGMENT = /^[0-9A-F]{24}$/
/** A process that has not said its name by then did not start. */
const STARTING_MS = 10_000

export interface IndexTodo {
  readonly dataDirectory: string
  readonly directory: string
}

export function indexTodoOf(dataDirectory: string): IndexTodo {
  const directory = join(dataDirectory, ACKNOWLEDGEMENTS_DIRECTORY, INDEX_TODO_DIRECTORY)
  return { dataDirectory, directory }
}

/** True: the caller has to start the process that takes the names. */
export async function noteForIndex(todo: IndexTodo, names: readonly string[]): Promise<boolean> {
  try {
    if (!(await ensureTodo(todo))) return false
    for (const name of names) await writeFile(join(todo.directory, name), '', { mode: 0o600 })
    const noted = await listNoted(todo)
    const dropped = noted.slice(0, Math.max(0, noted.length - MOST_NOTED))
    for (const name of dropped) await takeNote(todo, name)
    return await reserveStart(todo)
  } catch {
    return false
  }
}

/** False: no server runs here, or nothing was ever acknowledged here. */
async function ensureTodo(todo: IndexTodo): Promise<boolean> {
  const { directory, dataDirectory } = todo
  await mkdir(directory, { mode: 0o700 }).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  })
  if (await isOfThisStart(todo)) return true
  // Whoever claimed it for another start is gone, or ends.
  await remove(join(directory, SERVER_LINK))
  await remove(join(directory, WORKER_FILE))
  await link(join(dataDirectory, POSTMASTER_FILE), join(directory, SERVER_LINK))
  return await isOfThisStart(todo)
}

async function isOfThisStart({ directory, dataDirectory }: IndexTodo): Promise<boolean> {
  const own = await inodeOf(join(directory, SERVER_LINK))
  return own !== undefined && own === (await inodeOf(join(dataDirectory, POSTMASTER_FILE)))
}

/** By name: the oldest first, which PostgreSQL removes first. */
export async function listNoted({ directory }: IndexTodo): Promise<string[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isAbsence(error)) return []
    throw error
  })
  return names.filter((name) => SEGMENT.test(name)).sort()
}

/** True for one caller only: it makes the index. */
export async function takeNote({ directory }: IndexTodo, name: string): Promise<boolean> {
  return await remove(join(directory, name))
}

/** The server that the names were noted for runs. */
export async function isServerThere(todo: IndexTodo): Promise<boolean> {
  if (!(await isOfThisStart(todo))) return false
  const text = (await readText(join(todo.dataDirectory, POSTMASTER_FILE))) ?? ''
  const pid = Math.abs(Number.parseInt(text, 10))
  return Number.isInteger(pid) && pid > 0 && isAlive(pid)
}

/** One of several that ask at once gets true, save when all take over from one that is gone. */
async function reserveStart(todo: IndexTodo): Promise<boolean> {
  const path = join(todo.directory, WORKER_FILE)
  if (await isWorkerAlive(todo)) return false
  await remove(path)
  try {
    await writeFile(path, '', { mode: 0o600, flag: 'wx' })
    return true
  } catch {
    return false
  }
}

async function isWorkerAlive({ directory }: IndexTodo): Promise<boolean> {
  const path = join(directory, WORKER_FILE)
  const text = await readText(path)
  if (text === undefined) return false
  const worker = parseProcessIdentity(text)
  // Where nothing can be looked up it counts as alive, until the server is started again.
  if (worker !== undefined)
    return judgeLiveness(worker, readProcessIdentity(), lookUpStartTicks) !== 'dead'
  const since = await lstat(path).then(
    ({ mtimeMs }) => now().getTime() - mtimeMs,
    () => STARTING_MS,
  )
  return Math.abs(since) < STARTING_MS
}

/** False: another process is at it. */
export async function claimTodo(todo: IndexTodo): Promise<boolean> {
  const path = join(todo.directory, WORKER_FILE)
  const text = (await readText(path)) ?? ''
  if (text !== '' && !(await isClaimed(todo)) && (await isWorkerAlive(todo))) return false
  await writeFile(path, ownIdentity(), { mode: 0o600 })
  return true
}

/** False: another one has taken over. */
export async function isClaimed({ directory }: IndexTodo): Promise<boolean> {
  return (await readText(join(directory, WORKER_FILE))) === ownIdentity()
}

export async function releaseTodo(todo: IndexTodo): Promise<void> {
  if (await isClaimed(todo)) await remove(join(todo.directory, WORKER_FILE))
}

function ownIdentity(): string {
  return formatProcessIdentity(readProcessIdentity())
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'latin1')
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

/** False: it was not there. */
async function remove(path: string): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (error) {
    if (isAbsence(error)) return false
    throw error
  }
}
