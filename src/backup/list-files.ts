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
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import { parseRelationDirectory, parseRelationPath } from '../postgres/relation-path.ts'
import type { BackupTablespace, FileStatus } from '../repository/backup-record.ts'
import { type BaseBackupExclusions, decideInclusion } from './decide-inclusion.ts'

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
  /** Sorted by path. */
  readonly entries: readonly Listed[]
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
    entries: [],
    tablespaces: [],
    notes: [],
    tablespacesInside: findTablespacesInside(dataDirectory),
  }
  walkDirectory(walk, dataDirectory, '')
  walk.entries.sort((a, b) => (a.path < b.path ? -1 : 1))
  return walk
}

interface Walk {
  readonly exclusions: BaseBackupExclusions
  readonly entries: Listed[]
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

function walkDirectory(walk: Walk, location: string, path: string): void {
  const names = readNames(location, path)
  if (names === undefined) return
  const siblings = new Set(names)
  if (parseRelationDirectory(path) !== undefined) {
    for (const name of EVERY_DATABASE_HAS) siblings.add(name)
  }
  for (const name of siblings) {
    const childPath = path === '' ? escapeTopName(name) : `${path}/${name}`
    const inclusion = decideInclusion(childPath, siblings, walk.exclusions)
    if (inclusion === 'leave-out') continue
    visit(walk, join(location, name), childPath, inclusion === 'directory-only')
  }
}

/** Names that begin with `@` are the list's own (`@config/`): a file's gets one more. */
function escapeTopName(name: string): string {
  return name.startsWith('@') ? `@${name}` : name
}

function visit(walk: Walk, location: string, path: string, directoryOnly: boolean): void {
  const status = statusOf(location)
  if (status === undefined) return
  const mode = Number(status.mode & 0o7777n)
  if (status.isDirectory()) {
    walk.entries.push({ kind: 'directory', path, mode })
    if (isTablespaceRoot(path)) recordInPlaceTablespace(walk, path)
    if (directoryOnly || isTablespaceInside(walk, location, path)) return
    walkDirectory(walk, location, path)
  } else if (status.isSymbolicLink()) {
    visitLink(walk, location, path, directoryOnly)
  } else if (status.isFile()) {
    if (!directoryOnly) walk.entries.push(listedFile(location, path, mode, status))
  } else {
    walk.notes.push(`${path} is neither a file, a directory nor a link: it is not backed up`)
  }
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

function visitLink(walk: Walk, location: string, path: string, directoryOnly: boolean): void {
  const target = readLink(location)
  if (target === undefined) return
  if (isTablespaceRoot(path)) {
    visitTablespace(walk, location, path, target)
    return
  }
  const followed = statOf(location)
  if (followed?.isDirectory() && path === 'pg_wal') {
    // initdb --waldir: a copy with this link would write into the WAL of the living server.
    walk.entries.push({ kind: 'directory', path, mode: Number(followed.mode & 0o7777n) })
    walkDirectory(walk, location, path)
    return
  }
  if (followed?.isDirectory() && (directoryOnly || isDatabaseArea(path))) {
    walk.entries.push({ kind: 'directory', path, mode: Number(followed.mode & 0o7777n) })
    if (!directoryOnly) {
      walk.notes.push(`${path} is a link to ${target}: its content is backed up, the link is not`)
      walkDirectory(walk, location, path)
    }
    return
  }
  if (followed?.isFile() && isDatabaseArea(path)) {
    walk.entries.push(listedFile(location, path, Number(followed.mode & 0o7777n), followed))
    return
  }
  walk.entries.push({ kind: 'link', path, mode: 0o777, target })
  walk.notes.push(`${path} is a link to ${target}: the link is backed up, its target is not`)
}

/** A tablespace is its link and the version directory behind it (do_pg_backup_start). */
function visitTablespace(walk: Walk, location: string, path: string, target: string): void {
  const oid = Number(path.slice('pg_tblspc/'.length))
  walk.tablespaces.push({ oid, location: target, kind: 'link' })
  walk.entries.push({ kind: 'link', path, mode: 0o777, target })
  const versionDirectory = walk.exclusions.tablespaceVersionDirectory
  const below = `${path}/${versionDirectory}`
  const status = statOf(join(location, versionDirectory))
  if (status === undefined) return
  walk.entries.push({ kind: 'directory', path: below, mode: Number(status.mode & 0o7777n) })
  walkDirectory(walk, join(location, versionDirectory), below)
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
  let names: Buffer[]
  try {
    names = readdirSync(location, { encoding: 'buffer' })
  } catch (cause) {
    if (path !== '' && (cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unreadableDirectory(location, cause)
  }
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
