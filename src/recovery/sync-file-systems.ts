/**
 * Makes everything that was written to a directory durable at once: syncfs(2) by way of
 * coreutils' `sync -f`, one call for each file system, which covers files, directories and
 * links. Where that program is missing, every file and directory is fsynced by itself.
 *
 * PostgreSQL: recovery_init_sync_method = syncfs does the same at start-up.
 */
import { spawn } from 'node:child_process'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'

export async function syncFileSystems(directories: readonly string[]): Promise<void> {
  const perDevice = new Map<bigint, string>()
  for (const directory of directories) {
    const { dev } = await stat(directory, { bigint: true })
    if (!perDevice.has(dev)) perDevice.set(dev, directory)
  }
  const synced = await Promise.all([...perDevice.values()].map(runSync))
  if (synced.every((done) => done)) return
  for (const directory of directories) await syncTree(directory)
}

/** False when there is no such program; a failure of the sync itself is TM1217. */
export async function runSync(directory: string): Promise<boolean> {
  return await new Promise((resolve, reject) => {
    const child = spawn('sync', ['-f', '--', directory], { stdio: ['ignore', 'ignore', 'pipe'] })
    let output = ''
    child.stderr.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8')
    })
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'EACCES') resolve(false)
      else reject(error)
    })
    child.on('close', (status) => {
      if (status === 0) resolve(true)
      else if (/invalid option|unrecognized option/.test(output)) resolve(false)
      else reject(notDurable(directory, output.trim() || `sync ended with ${status}`))
    })
  })
}

async function syncTree(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) await syncTree(path)
    else if (entry.isFile()) await syncPath(path)
  }
  await syncPath(directory)
}

/** fsync of one file or directory; TM1217. */
export async function syncPath(path: string): Promise<void> {
  try {
    const file = await open(path, 'r')
    try {
      await file.sync()
    } finally {
      await file.close()
    }
  } catch (error) {
    throw notDurable(path, describeSystemError(error), error)
  }
}

function notDurable(path: string, because: string, cause?: unknown): Failure {
  return new Failure('TM1217', {
    message: `what was restored into ${path} could not be made durable`,
    because,
    fix: 'check the disk and the kernel log, then run the same restore again',
    details: { path },
    ...(cause === undefined ? {} : { cause }),
  })
}
