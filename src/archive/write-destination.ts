/**
 * Puts a fetched file where PostgreSQL asked for it, or another where its readers look for it.
 *
 * Invariant: the destination's name shows the whole content or what was there before.
 * The temporary file lies beside it and is created exclusively: a `wal get` that outlived
 * its server cannot write into the file of the next one.
 */
import { type FileHandle, open, readdir, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'

export async function writeDestination(
  destination: string,
  content: Uint8Array,
  durable: boolean,
): Promise<void> {
  try {
    await replaceFile(destination, content, { durable, mode: 0o600 })
  } catch (error) {
    throw cannotWrite(destination, error)
  }
}

/** The errors are those of the system. `mode` is had whatever the umask. */
export async function replaceFile(
  destination: string,
  content: Uint8Array,
  { durable, mode }: { readonly durable: boolean; readonly mode: number },
): Promise<void> {
  const directory = dirname(destination)
  const temporary = join(directory, `${basename(destination)}${suffix(process.pid)}`)
  try {
    await removeLeftovers(directory, basename(destination))
    await writeFile(temporary, content, durable, mode)
    await rename(temporary, destination)
    if (durable) await syncDirectory(directory)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
}

function suffix(pid: number): string {
  return `.tidemark-${pid}-${randomHex(4)}`
}

async function writeFile(
  path: string,
  content: Uint8Array,
  durable: boolean,
  mode: number,
): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    if (mode !== 0o600) await file.chmod(mode)
    await writeAll(file, content)
    if (durable) await file.sync()
  } finally {
    await file.close()
  }
}

async function writeAll(file: FileHandle, content: Uint8Array): Promise<void> {
  let written = 0
  while (written < content.length) {
    written += (await file.write(content, written)).bytesWritten
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** What killed fetches to the same destination left behind. */
async function removeLeftovers(directory: string, name: string): Promise<void> {
  for (const entry of await readdir(directory)) {
    if (!entry.startsWith(`${name}.tidemark-`)) continue
    const pid = Number(/\.tidemark-(\d+)-[0-9a-f]{8}$/.exec(entry)?.[1] ?? Number.NaN)
    if (Number.isInteger(pid) && !isAlive(pid)) {
      await unlink(join(directory, entry)).catch(() => {})
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

export function cannotWrite(destination: string, error: unknown): Failure {
  return new Failure('TM1411', {
    message: `the WAL file cannot be written to ${destination}`,
    because: describeSystemError(error),
    fix: 'make room, or let the user that recovers write there; recovery can then go on',
    details: { destination },
    cause: error,
  })
}
