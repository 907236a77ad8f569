/**
 * The temporary directory that pg_dump writes a dump of the directory format into. The files
 * are stored when pg_dump has ended, since it says of none of them earlier that it is whole;
 * each is removed once it is stored.
 *
 * Invariant: nobody else may read it (0700), and it goes whatever happens. What a process
 * leaves that was killed is removed by the next dump that uses the same parent: its name
 * says whose it is.
 */
import { lstat, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import {
  formatProcessIdentity,
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  readProcessIdentity,
} from '../storage/process-identity.ts'

const NAME = /^tidemark-dump-(.+)-[0-9a-f]{8}$/

export async function withToolDirectory<T>(
  parent: string,
  action: (directory: string) => Promise<T>,
): Promise<T> {
  await removeLeftovers(parent)
  const identity = formatProcessIdentity(readProcessIdentity())
  const directory = join(parent, `tidemark-dump-${identity}-${randomHex(4)}`)
  try {
    await mkdir(directory, { mode: 0o700 })
  } catch (error) {
    throw new Failure('TM2008', {
      message: `no directory for the dump can be made in ${parent}`,
      because: describeSystemError(error),
      fix: 'name another place with --temporary-directory, or use --format custom, which needs none',
      cause: error,
    })
  }
  try {
    return await action(directory)
  } finally {
    // Workers of a tool that was killed may still be about to end.
    await rm(directory, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Of processes of this machine that are proved dead. */
async function removeLeftovers(parent: string): Promise<void> {
  const self = readProcessIdentity()
  // A parent that cannot be read is told of when the directory is made.
  const names = await readdir(parent).catch(() => [])
  for (const name of names) {
    const other = parseProcessIdentity(NAME.exec(name)?.[1] ?? '')
    if (other === undefined || judgeLiveness(other, self, lookUpStartTicks) !== 'dead') continue
    // Only our own: in a directory that all may write to, anybody can make such a name.
    const status = await lstat(join(parent, name)).catch(() => undefined)
    if (status?.isDirectory() !== true || status.uid !== process.getuid?.()) continue
    // What cannot be removed now is not worth failing over.
    await rm(join(parent, name), { recursive: true, force: true }).catch(() => undefined)
  }
}
