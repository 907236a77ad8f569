/**
 * Whom test servers run as. PostgreSQL refuses to run as root (main(), check_root() in
 * src/backend/main/main.c), so root runs them as Debian's `postgres`, or as `nobody` where
 * that user is missing; everybody else runs them as himself.
 */
import { readFileSync } from 'node:fs'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

export function serverUser(): Owner | undefined {
  if (process.getuid?.() !== 0) return undefined
  const found = findUser('postgres') ?? findUser('nobody')
  if (found === undefined) throw new Error('root needs a user postgres or nobody to run servers as')
  return found
}

function findUser(name: string): Owner | undefined {
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [user, , uid, gid] = line.split(':')
    if (user === name) return { uid: Number(uid), gid: Number(gid) }
  }
  return undefined
}
