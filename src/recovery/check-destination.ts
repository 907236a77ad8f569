/**
 * Looks at the directory to restore into, and refuses what must not be written to.
 * Writes nothing.
 *
 * Invariant: what is not refused is absent, empty, or left by a restore of ours that did
 * not finish; it is no part of a living server and no part of a repository.
 */
import { lstat, readdir, readFile, realpath, stat, statfs } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, resolve, sep } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import { RESTORING_MARKER } from './marker-files.ts'

export interface Destination {
  /** Absolute, symbolic links resolved. */
  readonly directory: string
  readonly state: 'absent' | 'empty' | 'unfinished'
}

export interface DestinationRules {
  /** Directories of repositories; undefined where one is not a directory of this machine. */
  readonly repositories: readonly string[]
  /** The data directory of the server that was backed up, as the backup knows it. */
  readonly original: string
  /** Locations of the original's tablespaces. */
  readonly tablespaces: readonly string[]
}

/** A fresh ext4 file system is not empty. */
const IGNORED = new Set(['lost+found'])

/** TM1210, TM1211, TM1212; TM1217 when the directory cannot be looked at. */
export async function checkDestination(
  into: string,
  rules: DestinationRules,
): Promise<Destination> {
  const directory = await realDirectory(resolve(into))
  await refuseForbidden(directory, rules)
  const names = await listNames(directory)
  if (names === undefined) return { directory, state: 'absent' }
  const present = names.filter((name) => !IGNORED.has(name))
  if (present.length === 0) return { directory, state: 'empty' }
  await refuseRunning(directory, present)
  if (await isUnfinished(directory, present)) return { directory, state: 'unfinished' }
  throw new Failure('TM1210', {
    message: `cannot restore into ${directory}`,
    because: `it is not empty: it holds ${describeNames(present)}`,
    fix: 'name an empty or absent directory with --into, or move away what is there',
    details: { directory },
  })
}

function describeNames(names: readonly string[]): string {
  const shown = [...names].sort().slice(0, 3).join(', ')
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown
}

/** The path with the symbolic links of its existing part resolved. */
export async function realDirectory(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw cannotLook(path, error)
    const parent = dirname(path)
    return parent === path ? path : join(await realDirectory(parent), basename(path))
  }
}

async function listNames(directory: string): Promise<string[] | undefined> {
  try {
    return await readdir(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw cannotLook(directory, error)
  }
}

function cannotLook(path: string, error: unknown): Failure {
  return new Failure('TM1217', {
    message: `cannot restore into ${path}`,
    because: describeSystemError(error),
    fix: 'name a directory that can be created, or check its permissions',
    details: { path },
    cause: error,
  })
}

async function isUnfinished(directory: string, names: readonly string[]): Promise<boolean> {
  return names.includes(RESTORING_MARKER) && !(await exists(join(directory, CONTROL_FILE)))
}

const CONTROL_FILE = 'global/pg_control'

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw cannotLook(path, error)
  }
}

/** A pid alone may have been given to another program: its working directory tells. */
async function refuseRunning(directory: string, names: readonly string[]): Promise<void> {
  if (!names.includes('postmaster.pid')) return
  const text = await readFile(join(directory, 'postmaster.pid'), 'utf8')
  const pid = Number(text.split('\n')[0])
  if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid)) return
  const workingDirectory = await realpath(`/proc/${pid}/cwd`).catch(() => undefined)
  if (workingDirectory !== undefined && workingDirectory !== directory) return
  throw new Failure('TM1211', {
    message: `cannot restore into ${directory}`,
    because: `a PostgreSQL server runs in it (process ${pid})`,
    fix: 'name another directory with --into, or stop that server and move its directory away',
    details: { directory, pid },
  })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function refuseForbidden(directory: string, rules: DestinationRules): Promise<void> {
  const refuse = (because: string): never => {
    throw new Failure('TM1212', {
      message: `cannot restore into ${directory}`,
      because,
      fix: 'name a directory of its own with --into',
      details: { directory },
    })
  }
  for (const repository of rules.repositories) {
    const real = await realDirectory(repository)
    if (isWithin(directory, real)) refuse(`it lies inside the repository ${repository}`)
    if (isWithin(real, directory)) refuse(`the repository ${repository} lies inside it`)
  }
  for (const parent of parentsOf(directory)) {
    if (await exists(join(parent, 'PG_VERSION'))) refuse(`${parent} is a data directory`)
  }
  for (const tablespace of rules.tablespaces.filter((location) => isAbsolute(location))) {
    if (!(await exists(tablespace))) continue
    const real = await realDirectory(tablespace)
    if (isWithin(directory, real)) refuse(`it lies inside the tablespace ${tablespace}`)
    if (isWithin(real, directory)) refuse(`the tablespace ${tablespace} lies inside it`)
  }
}

function* parentsOf(directory: string): Generator<string> {
  for (let path = dirname(directory); ; path = dirname(path)) {
    yield path
    if (path === dirname(path)) return
  }
}

/** Is `path` the directory `parent` or below it? Both absolute and real. */
export function isWithin(path: string, parent: string): boolean {
  return path === parent || path.startsWith(parent.endsWith(sep) ? parent : `${parent}${sep}`)
}

export interface SpaceNeed {
  readonly directory: string
  readonly bytes: number
}

/** What clearing an unfinished restore will free, as a negative need; links not followed. */
export async function spaceFreedBy(destination: Destination): Promise<SpaceNeed[]> {
  const { directory, state } = destination
  if (state !== 'unfinished') return []
  let blocks = 0
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) blocks += (await lstat(join(entry.parentPath, entry.name))).blocks
  }
  return [{ directory, bytes: -blocks * 512 }]
}

/** Directories on one file system share its space. TM1213. */
export async function checkSpace(needs: readonly SpaceNeed[]): Promise<void> {
  const perDevice = new Map<bigint, { directory: string; needed: number }>()
  for (const { directory, bytes } of needs) {
    const place = await nearestExisting(directory)
    const { dev } = await stat(place, { bigint: true })
    const known = perDevice.get(dev)
    if (known === undefined) perDevice.set(dev, { directory: place, needed: bytes })
    else known.needed += bytes
  }
  for (const { directory, needed } of perDevice.values()) {
    const { bavail, bsize } = await statfs(directory)
    const free = bavail * bsize
    if (free >= needed) continue
    throw new Failure('TM1213', {
      message: `not enough space to restore on the file system of ${directory}`,
      because: `the files need ${mebibytes(needed)}, and it has ${mebibytes(free)} free`,
      fix: 'make room there, name a directory on another file system, or map tablespaces away',
      details: { directory, neededBytes: needed, freeBytes: free },
    })
  }
}

function mebibytes(bytes: number): string {
  const mib = bytes / 1024 / 1024
  return mib >= 10_240 ? `${(mib / 1024).toFixed(1)} GiB` : `${Math.ceil(mib)} MiB`
}

async function nearestExisting(path: string): Promise<string> {
  if (await exists(path)) return path
  return await nearestExisting(dirname(path))
}
