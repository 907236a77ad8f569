/**
 * Who the server runs as, and what that user can reach: archive_command runs as the owner
 * of the data directory, whoever runs init or doctor.
 */
import { existsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

export function ownerOf(path: string): Owner {
  const { uid, gid } = statSync(path)
  return { uid, gid }
}

const READ = 4
const WRITE = 2
const SEARCH = 1

/**
 * The first path on the way that the user cannot search, or the path itself when it can be
 * reached but not used; undefined when all is well. By permission bits and the user's own
 * group: supplementary groups and access lists may allow more.
 */
export function findObstacle(
  path: string,
  owner: Owner,
  need: 'read' | 'write',
): string | undefined {
  if (owner.uid === 0) return undefined
  const parents: string[] = []
  for (let at = dirname(path); ; at = dirname(at)) {
    parents.unshift(at)
    if (at === dirname(at)) break
  }
  const closed = parents.find((parent) => existsSync(parent) && !allows(parent, owner, SEARCH))
  if (closed !== undefined) return closed
  if (!existsSync(path)) return undefined
  const wanted = need === 'read' ? READ : READ | WRITE | SEARCH
  return allows(path, owner, wanted) ? undefined : path
}

function allows(path: string, owner: Owner, wanted: number): boolean {
  const { mode, uid, gid } = statSync(path)
  const shift = uid === owner.uid ? 6 : gid === owner.gid ? 3 : 0
  return ((mode >> shift) & wanted) === wanted
}

/** Both exist, or their nearest parents do, on one file system. */
export function areOnOneDevice(one: string, other: string): boolean {
  return statSync(nearestExisting(one)).dev === statSync(nearestExisting(other)).dev
}

export function nearestExisting(path: string): string {
  let at = path
  while (!existsSync(at) && at !== dirname(at)) at = dirname(at)
  return at
}
