/**
 * Lists the files of a data directory and its tablespaces as a base backup sees them.
 *
 * Follows basebackup.c (sendDir) for what is left out, and goes further where people do
 * by hand what it would lose with a warning: a directory below base/, global/ or an SLRU
 * that was moved away behind a symbolic link is followed.
 *
 * Invariant: what is listed was there when its directory was read; what cannot be read is
 * a failure, never left out.
 */
import { lstatSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Failure, isFailure } from '../base/failure.ts'
import { parseRelationDirectory, parseRelationPath } from '../postgres/relation-path.ts'
import type { BackupTablespace, FileStatus } from '../repository/backup-record.ts'
import { type BaseBackupExclusions, decideInclusion } from './decide-inclusion.ts'
import { FileTable, type ListedEntries } from './file-table.ts'

export interface ListedFile {
  readonly kind: 'file'
  readonly path: string
  readonly location: string
  readonly mode: number
  readonly size: number
  readonly status: Omit<FileStatus, 'settled'>
}

export interface ListedDirectory {
  readonly kind: 'directory'
  readonly path: string
  readonly mode: number
}

export interface ListedLink {
  readonly kind: 'link'
  readonly path: string
  readonly mode: number
  readonly target: string
}

export type Listed = ListedFile | ListedDirectory | ListedLink

export interface FileListing {
  /** In the order of their paths (UTF-16 code units). */
  readonly entries: ListedEntries
  readonly tablespaces: readonly Omit<BackupTablespace, 'name'>[]
  /** Sentences for the report: what was left out though it is no known exclusion. */
  readonly notes: readonly string[]
}

/** Lists everything below `dataDirectory` that belongs into a base backup. */
export function listDataDirectory(
  dataDirectory: string,
  exclusions: BaseBackupExclusions,
): FileListing {
  const walk: Walk = {
    exclusions,
    entries: new FileTable(dataDirectory),
    tablespaces: [],
    notes: [],
    tablespacesInside: findTablespacesInside(dataDirectory),
  }
  walkDirectory(walk, resolve(dataDirectory), '')
  return walk
}

interface Walk {
  readonly exclusions: BaseBackupExclusions
  readonly entries: FileTable
  readonly tablespaces: Omit<BackupTablespace, 'name'>[]
  readonly notes: string[]
  /** Real paths of tablespaces that lie within the data directory itself. */
  readonly tablespacesInside: ReadonlySet<string>
}

/** PostgreSQL warns of them and allows them: they must not be copied twice. */
function findTablespacesInside(dataDirectory: string): ReadonlySet<string> {
  const inside = new Set<string>()
  const root = realPathOf(dataDirectory)
  const links = join(dataDirectory, 'pg_tblspc')
  for (const name of readNames(links, 'pg_tblspc') ?? []) {
    const status = statusOf(join(links, name))
    if (status === undefined || !status.isSymbolicLink()) continue
    const target = realPathOf(join(links, name))
    if (root !== undefined && target?.startsWith(`${root}/`)) inside.add(target)
  }
  return inside
}

function realPathOf(location: string): string | undefined {
  try {
    return realpathSync(location)
  } catch {
    return undefined
  }
}

/**
 * Files that every database has for as long as it lives. A reading of a directory may miss
 * a name that is replaced by rename(2) meanwhile (Btrfs), so these are looked for by name.
 */
const EVERY_DATABASE_HAS = ['PG_VERSION', 'pg_filenode.map']

/**
 * Adds entries in the order of their paths, so that no list of all of them is ever sorted:
 * names ascend, and the content of a directory comes behind those of its siblings that sort
 * before its slash (`a`, `a-b`, `a.b`, then `a/…`).
 */
function walkDirectory(walk: Walk, location: string, path: string): void {
  const waiting: Waiting[] = []
  const enterUpTo = (limit: string | undefined): void => {
    for (let next = waiting.at(-1); next !== undefined; next = waiting.at(-1)) {
      if (limit !== undefined && next.prefix > limit) return
      waiting.pop()
      next.enter()
    }
  }
  const names = readNames(location, path)
  if (names === undefined) return
  const siblings = new Set(names)
  if (parseRelationDirectory(path) !== undefined) {
    for (const name of EVERY_DATABASE_HAS) siblings.add(name)
  }
  for (const name of [...siblings].sort()) {
    const childPath = path === '' ? escapeTopName(name) : `${path}/${name}`
    enterUpTo(childPath)
    const inclusion = decideInclusion(childPath, siblings, walk.exclusions)
    if (inclusion === 'leave-out') continue
    const enter = visit(walk, join(location, name), childPath, inclusion === 'directory-only')
    if (enter !== undefined) waiting.push({ prefix: `${childPath}/`, enter })
  }
  enterUpTo(undefined)
}

/** A directory whose entry was added and whose content was not yet. */
interface Waiting {
  readonly prefix: string
  readonly enter: Enter
}

type Enter = () => void

/** Names that begin with `@` are the list's own (`@config/`): a file's gets one more. */
function escapeTopName(name: string): string {
  return name.startsWith('@') ? `@${name}` : name
}

/** Gives what adds the content, where there is any. */
function visit(
  walk: Walk,
  location: string,
  path: string,
  directoryOnly: boolean,
): Enter | undefined {
  const status = statusOf(location)
  if (status === undefined) return undefined
  const mode = Number(status.mode & 0o7777n)
  if (status.isDirectory()) {
    walk.entries.add({ kind: 'directory', path, mode })
    if (isTablespaceRoot(path)) recordInPlaceTablespace(walk, path)
    if (directoryOnly || isTablespaceInside(walk, location, path)) return undefined
    return () => walkDirectory(walk, location, path)
  }
  if (status.isSymbolicLink()) return visitLink(walk, location, path, directoryOnly)
  if (!status.isFile()) {
    walk.notes.push(`${path} is neither a file, a directory nor a link: it is not backed up`)
  } else if (!directoryOnly) walk.entries.add(listedFile(location, path, mode, status))
  return undefined
}

function isTablespaceInside(walk: Walk, location: string, path: string): boolean {
  if (walk.tablespacesInside.size === 0 || path.startsWith('pg_tblspc/')) return false
  if (!walk.tablespacesInside.has(realPathOf(location) ?? '')) return false
  walk.notes.push(`${path} is a tablespace within the data directory: it is backed up once`)
  return true
}

type BigStats = NonNullable<ReturnType<typeof statusOf>>

function listedFile(location: string, path: string, mode: number, status: BigStats): ListedFile {
  return {
    kind: 'file',
    path,
    location,
    mode,
    size: Number(status.size),
    status: {
      device: status.dev,
      inode: status.ino,
      modifiedNs: status.mtimeNs,
      changedNs: status.ctimeNs,
    },
  }
}

function visitLink(
  walk: Walk,
  location: string,
  path: string,
  directoryOnly: boolean,
): Enter | undefined {
  const target = readLink(location)
  if (target === undefined) return undefined
  if (isTablespaceRoot(path)) return visitTablespace(walk, location, path, target)
  const followed = statOf(location)
  if (followed?.isDirectory() && path === 'pg_wal') {
    // initdb --waldir: a copy with this link would write into the WAL of the living server.
    walk.entries.add({ kind: 'directory', path, mode: Number(followed.mode & 0o7777n) })
    return () => walkDirectory(walk, location, path)
  }
  if (followed?.isDirectory() && (directoryOnly || isDatabaseArea(path))) {
    walk.entries.add({ kind: 'directory', path, mode: Number(followed.mode & 0o7777n) })
    if (directoryOnly) return undefined
    walk.notes.push(`${path} is a link to ${target}: its content is backed up, the link is not`)
    return () => walkDirectory(walk, location, path)
  }
  if (followed?.isFile() && isDatabaseArea(path)) {
    walk.entries.add(listedFile(location, path, Number(followed.mode & 0o7777n), followed))
    return undefined
  }
  walk.entries.add({ kind: 'link', path, mode: 0o777, target })
  walk.notes.push(`${path} is a link to ${target}: the link is backed up, its target is not`)
  return undefined
}

/** A tablespace is its link and the version directory behind it (do_pg_backup_start). */
function visitTablespace(
  walk: Walk,
  location: string,
  path: string,
  target: string,
): Enter | undefined {
  const oid = Number(path.slice('pg_tblspc/'.length))
  walk.tablespaces.push({ oid, location: target, kind: 'link' })
  walk.entries.add({ kind: 'link', path, mode: 0o777, target })
  const versionDirectory = walk.exclusions.tablespaceVersionDirectory
  const below = `${path}/${versionDirectory}`
  const status = statOf(join(location, versionDirectory))
  if (status === undefined) return undefined
  return () => {
    walk.entries.add({ kind: 'directory', path: below, mode: Number(status.mode & 0o7777n) })
    walkDirectory(walk, join(location, versionDirectory), below)
  }
}

function recordInPlaceTablespace(walk: Walk, path: string): void {
  const oid = Number(path.slice('pg_tblspc/'.length))
  walk.tablespaces.push({ oid, location: path, kind: 'in-place' })
}

function isTablespaceRoot(path: string): boolean {
  return /^pg_tblspc\/\d+$/.test(path)
}

/** Where a link may hide data: base/, global/, tablespaces, and the SLRU directories. */
function isDatabaseArea(path: string): boolean {
  if (parseRelationPath(path) !== undefined) return true
  return /^(base|global|pg_tblspc|pg_xact|pg_multixact|pg_commit_ts|pg_twophase)(\/|$)/.test(path)
}

function readNames(location: string, path: string): string[] | undefined {
  try {
    const names = readdirSync(location)
    if (!names.some((name) => name.includes(REPLACEMENT))) return names
    return requireUtf8(location, readdirSync(location, { encoding: 'buffer' }))
  } catch (cause) {
    if (path !== '' && (cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw isFailure(cause) ? cause : unreadableDirectory(location, cause)
  }
}

/** What bytes that are not UTF-8 are read as; a name may also hold it. */
const REPLACEMENT = '\ufffd'

function requireUtf8(location: string, names: readonly Buffer[]): string[] {
  return names.map((bytes) => {
    const name = bytes.toString('utf8')
    if (Buffer.from(name).equals(bytes)) return name
    throw new Failure('TM1306', {
      message: `a file name in ${location} is not UTF-8`,
      because: `its bytes are ${bytes.toString('hex')}`,
      fix: 'no file of PostgreSQL has such a name: move it out of the data directory',
    })
  })
}

function statusOf(location: string) {
  try {
    return lstatSync(location, { bigint: true })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unreadableDirectory(location, cause)
  }
}

function readLink(location: string): string | undefined {
  try {
    return readlinkSync(location)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unreadableDirectory(location, cause)
  }
}

function statOf(location: string) {
  try {
    return statSync(location, { bigint: true })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unreadableDirectory(location, cause)
  }
}

function unreadableDirectory(location: string, cause: unknown): Failure {
  const code = (cause as NodeJS.ErrnoException).code
  return new Failure('TM1304', {
    message: `${location} cannot be read`,
    because: code === 'EACCES' ? 'permission denied' : String((cause as Error).message),
    fix:
      code === 'EACCES'
        ? 'run the backup as the owner of the data directory, or mend its permissions'
        : 'check that the data directory is mounted and the disk is sound',
    cause,
  })
}
