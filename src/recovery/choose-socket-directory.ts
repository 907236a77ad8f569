/**
 * Where a copy's Unix socket lies: in its data directory, which nobody else may enter, or,
 * when that path is too long for a socket, in a private directory of the system's.
 */
import { chmod, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { giveTo } from './begin-restore.ts'
import type { Owner } from './file-restore/messages.ts'

/** sizeof(sun_path) less the terminator (UNIXSOCK_PATH_BUFLEN in pqcomm.h). */
const MAX_SOCKET_PATH_BYTES = 107
const PRIVATE = 0o700

export async function chooseSocketDirectory(
  dataDirectory: string,
  port: number,
  restoreId: string,
  owner: Owner | undefined,
): Promise<string> {
  const inside = Buffer.byteLength(join(dataDirectory, `.s.PGSQL.${port}`))
  // A comma would divide unix_socket_directories.
  if (inside <= MAX_SOCKET_PATH_BYTES && !dataDirectory.includes(',')) return dataDirectory
  const directory = join(tmpdir(), `tidemark-${restoreId}`)
  await mkdir(directory, { mode: PRIVATE })
  await chmod(directory, PRIVATE)
  await giveTo(directory, owner)
  return directory
}
