/**
 * Names of relation files. PostgreSQL: common/relpath.c (GetRelationPath), storage/
 * reinit.c (parse_filename_for_nontemp_relation), storage/fd.c (looks_like_temp_rel_name).
 *
 * Paths are relative to the data directory, with `/`. Below a tablespace they begin with
 * `pg_tblspc/<oid>/PG_<major>_<catalog version>/`, whether `pg_tblspc/<oid>` is a link or,
 * for an in-place tablespace, a directory.
 */
export type RelationFork = 'main' | 'fsm' | 'vm' | 'init'

export interface RelationPath {
  readonly tablespaceOid: number
  /** 0 for shared relations. */
  readonly databaseOid: number
  readonly filenode: number
  readonly fork: RelationFork
  /** Number of the 1 GiB segment; the file without a suffix is segment 0. */
  readonly segment: number
}

export const DEFAULT_TABLESPACE_OID = 1663
export const GLOBAL_TABLESPACE_OID = 1664

const OID = '[1-9][0-9]{0,9}'
const RELATION_NAME = new RegExp(`^(${OID})(?:_(fsm|vm|init))?(?:\\.([1-9][0-9]{0,9}))?$`)
const TEMPORARY_NAME = /^t[0-9]+_[0-9]+(?:_(?:fsm|vm|init))?(?:\.[0-9]+)?$/
const BASE = new RegExp(`^base/(${OID})$`)
const TABLESPACE = new RegExp(`^pg_tblspc/(${OID})/PG_[0-9]+_[0-9]+/(${OID})$`)
const MAX_OID = 0xffffffff

/**
 * The relation fork that a file is part of; undefined for every other file. Temporary
 * relations are not stored, and have no path here.
 */
export function parseRelationPath(path: string): RelationPath | undefined {
  const slash = path.lastIndexOf('/')
  const directory = parseRelationDirectory(path.slice(0, Math.max(slash, 0)))
  const name = parseRelationName(path.slice(slash + 1))
  return directory === undefined || name === undefined ? undefined : { ...directory, ...name }
}

export interface RelationDirectory {
  readonly tablespaceOid: number
  readonly databaseOid: number
}

/** The tablespace and database of a directory that holds relation files. */
export function parseRelationDirectory(path: string): RelationDirectory | undefined {
  if (path === 'global') return { tablespaceOid: GLOBAL_TABLESPACE_OID, databaseOid: 0 }
  const base = BASE.exec(path)
  if (base !== null) return directoryOf(DEFAULT_TABLESPACE_OID, Number(base[1]))
  const tablespace = TABLESPACE.exec(path)
  if (tablespace === null) return undefined
  return directoryOf(Number(tablespace[1]), Number(tablespace[2]))
}

function directoryOf(tablespaceOid: number, databaseOid: number): RelationDirectory | undefined {
  const isPossible = tablespaceOid <= MAX_OID && databaseOid <= MAX_OID
  return isPossible ? { tablespaceOid, databaseOid } : undefined
}

export interface RelationFileName {
  readonly filenode: number
  readonly fork: RelationFork
  readonly segment: number
}

/** `16385_vm.2`; undefined for names of anything but a permanent relation's file. */
export function parseRelationName(name: string): RelationFileName | undefined {
  const match = RELATION_NAME.exec(name)
  if (match === null) return undefined
  const filenode = Number(match[1])
  const segment = Number(match[3] ?? 0)
  if (filenode > MAX_OID || segment > MAX_OID) return undefined
  return { filenode, fork: (match[2] as RelationFork | undefined) ?? 'main', segment }
}

/** Files of temporary relations, `t3_16390`: left out of every backup. */
export function isTemporaryRelationName(name: string): boolean {
  return TEMPORARY_NAME.test(name)
}

export function formatRelationName(name: RelationFileName): string {
  const fork = name.fork === 'main' ? '' : `_${name.fork}`
  const segment = name.segment === 0 ? '' : `.${name.segment}`
  return `${name.filenode}${fork}${segment}`
}
