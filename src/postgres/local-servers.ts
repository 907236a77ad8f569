/**
 * Finds PostgreSQL servers that run on this machine by their Unix sockets, to name them
 * when a connection names none that answers. PostgreSQL: miscinit.c (CreateSocketLockFile:
 * the lock file beside a socket has pid, data directory, start time, port, directory).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface LocalServer {
  readonly socketDirectory: string
  readonly port: number
  /** Undefined where we may not read the lock file. */
  readonly dataDirectory: string | undefined
}

const SOCKET_DIRECTORIES: readonly string[] = ['/var/run/postgresql', '/tmp']

export function findLocalServers(directories = SOCKET_DIRECTORIES): LocalServer[] {
  return directories.flatMap((socketDirectory) =>
    listPorts(socketDirectory).flatMap((port) => {
      const lock = readLock(join(socketDirectory, `.s.PGSQL.${port}.lock`))
      return lock.isDead ? [] : [{ socketDirectory, port, dataDirectory: lock.dataDirectory }]
    }),
  )
}

/** The directory whose socket libpq would take for this port. */
export function defaultSocketDirectory(port: number, directories = SOCKET_DIRECTORIES): string {
  const found = directories.find((directory) => existsSync(join(directory, `.s.PGSQL.${port}`)))
  return found ?? directories[0] ?? '/tmp'
}

export function describeLocalServers(servers: readonly LocalServer[]): string {
  if (servers.length === 0) return 'no running server was found on this machine'
  const each = servers.map(({ socketDirectory, port, dataDirectory }) => {
    const directory = dataDirectory === undefined ? '' : ` (data directory ${dataDirectory})`
    return `port ${port} in ${socketDirectory}${directory}`
  })
  return `running on this machine: ${each.join(', ')}`
}

function listPorts(directory: string): number[] {
  let names: string[]
  try {
    names = readdirSync(directory)
  } catch {
    // Only a hint is lost: no such directory, or none that we may list.
    return []
  }
  return names.flatMap((name) => {
    const port = /^\.s\.PGSQL\.([0-9]+)$/.exec(name)?.[1]
    return port === undefined ? [] : [Number(port)]
  })
}

function readLock(path: string): { dataDirectory: string | undefined; isDead: boolean } {
  try {
    const [pid, dataDirectory] = readFileSync(path, 'utf8').split('\n')
    return { dataDirectory, isDead: !isProcess(Number(pid)) }
  } catch {
    // Readable by the server's owner only: the socket is all that is known.
    return { dataDirectory: undefined, isDead: false }
  }
}

function isProcess(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
