/**
 * The first writes of a restore: the marker, the data directory, tablespace directories
 * and their links; before them, clearing what an unfinished restore left.
 *
 * Invariant: every directory outside the data directory that is written to is named in the
 * marker before it is created, so that a crash leaves nothing that the next run cannot clear.
 */
import { chown, lchown, mkdir, open, readdir, readFile, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import { makeDirectories } from '../base/make-directories.ts'
import type { Destination } from './check-destination.ts'
import { isWithin, realDirectory } from './check-destination.ts'
import type { Owner } from './file-restore/messages.ts'
import { parseRestoringMarker, RESTORING_MARKER, type RestoringMarker } from './marker-files.ts'
import type { PlacedTablespace } from './plan-tablespaces.ts'
import { syncPath } from './sync-file-systems.ts'

/** Refuses tablespace locations that are in use (TM1214). Writes nothing. */
export async function checkTablespaces(
  tablespaces: readonly PlacedTablespace[],
  destination: Destination,
): Promise<void> {
  const own = await tablespaceDirectoriesOf(destination)
  for (const tablespace of tablespaces) {
    const { location, name, isMapped } = tablespace
    const real = await realDirectory(location)
    const names = await namesIn(real)
    const ours = names.every((entry) => own.includes(join(real, entry)))
    const inside = isWithin(real, destination.directory)
    if (ours && !inside) continue
    const why = inside
      ? 'it lies inside the directory that is restored into'
      : `it exists and is not empty (${names.slice(0, 3).join(', ')})`
    throw new Failure('TM1214', {
      message: `the tablespace ${name} cannot go to ${location}`,
      because: isMapped ? why : `${why}: it may belong to a living server`,
      fix: `give it an empty place: --tablespace ${name}=/new/location`,
      details: { tablespace: name, location },
    })
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory)
    return names.filter((name) => name !== 'lost+found')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw cannotBegin(directory, error)
  }
}

/** What the unfinished restore in the destination had created outside of it. */
async function tablespaceDirectoriesOf(destination: Destination): Promise<readonly string[]> {
  return (await findMarker(destination))?.tablespaceDirectories ?? []
}

/** The id of the unfinished restore that the destination is cleared of. */
export async function findUnfinished(destination: Destination): Promise<string | undefined> {
  return (await findMarker(destination))?.restoreId
}

async function findMarker(destination: Destination): Promise<RestoringMarker | undefined> {
  if (destination.state !== 'unfinished') return undefined
  const path = join(destination.directory, RESTORING_MARKER)
  try {
    return parseRestoringMarker(await readFile(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw cannotBegin(path, error)
  }
}

export interface BeginOptions {
  readonly destination: Destination
  readonly marker: Omit<RestoringMarker, 'tablespaceDirectories'>
  readonly tablespaces: readonly PlacedTablespace[]
  /** `PG_15_202209061`. */
  readonly versionDirectory: string
  readonly mode: number
  readonly owner: Owner | undefined
}

export async function beginRestore(options: BeginOptions): Promise<void> {
  const { destination, owner, mode } = options
  const { directory } = destination
  try {
    if (destination.state === 'unfinished') await clear(destination)
    await makeDirectory(directory, mode, owner, true)
    const locations = await Promise.all(
      options.tablespaces.map(async ({ location }) => await realDirectory(location)),
    )
    const tablespaceDirectories = locations.map((path) => join(path, options.versionDirectory))
    await writeMarker(directory, { ...options.marker, tablespaceDirectories })
    if (options.tablespaces.length > 0) {
      await makeDirectory(join(directory, 'pg_tblspc'), 0o700, owner, false)
    }
    for (const [at, { oid }] of options.tablespaces.entries()) {
      const location = locations[at] as string
      await makeDirectory(location, 0o700, owner, true)
      const link = join(directory, 'pg_tblspc', String(oid))
      await symlink(location, link)
      if (owner !== undefined) await lchown(link, owner.uid, owner.gid)
    }
  } catch (error) {
    if (error instanceof Failure) throw error
    throw cannotBegin(directory, error)
  }
}

async function makeDirectory(
  path: string,
  mode: number,
  owner: Owner | undefined,
  parents: boolean,
): Promise<void> {
  if (parents) makeDirectories(path, mode)
  else await mkdir(path, { mode })
  const handle = await open(path, 'r')
  try {
    await handle.chmod(mode)
    if (owner !== undefined) await handle.chown(owner.uid, owner.gid)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await syncPath(dirname(path))
}

async function writeMarker(directory: string, marker: RestoringMarker): Promise<void> {
  const path = join(directory, RESTORING_MARKER)
  const file = await open(path, 'w', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(marker, null, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await syncPath(directory)
}

/** The marker stays until the new one replaces it: the directory stays known as unfinished. */
async function clear(destination: Destination): Promise<void> {
  const { directory } = destination
  for (const path of await tablespaceDirectoriesOf(destination)) {
    await rm(path, { recursive: true, force: true })
  }
  const names = await namesIn(directory)
  for (const name of names.filter((one) => one !== RESTORING_MARKER)) {
    await rm(join(directory, name), { recursive: true, force: true })
  }
}

/** For what other phases create: parents are there already. */
export async function giveTo(path: string, owner: Owner | undefined): Promise<void> {
  if (owner !== undefined) await chown(path, owner.uid, owner.gid)
}

function cannotBegin(path: string, error: unknown): Failure {
  return new Failure('TM1217', {
    message: `cannot restore into ${path}`,
    because: describeSystemError(error),
    fix: 'check who may write there and whether there is room, then run the restore again',
    details: { path },
    cause: error,
  })
}
