/**
 * Who the restored files shall belong to. Only root can give files away, and PostgreSQL
 * refuses a data directory of root (checkDataDir() in miscinit.c).
 */
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Failure } from '../base/failure.ts'
import type { Owner } from './file-restore/messages.ts'

/**
 * `requested`: a user's name or number. Undefined when files are left to the caller.
 * Without a request root takes the owner of the directory (or of its nearest parent that
 * exists), else the user postgres. TM1222.
 */
export async function resolveOwner(
  requested: string | undefined,
  into: string,
  uid: number,
): Promise<Owner | undefined> {
  if (requested !== undefined) {
    const owner = await findUser(requested)
    if (owner === undefined || owner.uid === 0) throw unknownOwner(requested)
    if (uid !== 0 && owner.uid !== uid) throw notRoot(requested)
    return uid === 0 ? owner : undefined
  }
  if (uid !== 0) return undefined
  const nearest = await ownerOfNearest(into)
  if (nearest.uid !== 0) return nearest
  const postgres = await findUser('postgres')
  if (postgres !== undefined) return postgres
  throw unknownOwner(undefined)
}

async function ownerOfNearest(path: string): Promise<Owner> {
  try {
    const { uid, gid } = await stat(path)
    return { uid, gid }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return await ownerOfNearest(dirname(path))
  }
}

async function findUser(name: string): Promise<Owner | undefined> {
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n')
  for (const line of lines) {
    const [user, , uid, gid] = line.split(':')
    if (user === name || uid === name) return { uid: Number(uid), gid: Number(gid) }
  }
  return undefined
}

function unknownOwner(requested: string | undefined): Failure {
  return new Failure('TM1222', {
    message: 'the restored files need an owner other than root',
    because:
      requested === undefined
        ? 'PostgreSQL does not start as root, and there is no user postgres here'
        : `'${requested}' is no user of this machine, or is root`,
    fix: 'name the user that PostgreSQL is to run as: --owner NAME',
  })
}

function notRoot(requested: string): Failure {
  return new Failure('TM1222', {
    message: `files cannot be given to ${requested}`,
    because: 'only root can give files to another user',
    fix: `run the restore as ${requested} or as root, or leave --owner out`,
  })
}
