/** What the kernel keeps of files in memory, as fincore (util-linux) tells it. */
import { spawnSync } from 'node:child_process'
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryDirectory } from './temporary-directory.ts'

export function keptBytes(path: string): number {
  const { stdout, status } = spawnSync('fincore', ['-bnr', '-o', 'RES', path], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`fincore ended with ${status}`)
  return Number(stdout)
}

/** On the disk, and in memory. */
export function writeSynced(path: string, bytes: Uint8Array): void {
  const fd = openSync(path, 'w')
  writeSync(fd, bytes)
  fsyncSync(fd)
  closeSync(fd)
}

/** Why it cannot be told here, for `skip`: no fincore, or files that lie in memory only. */
export function pageCacheUntold(): string | false {
  const path = join(temporaryDirectory(), 'file')
  writeSynced(path, Buffer.alloc(65_536))
  if (spawnSync('fincore', [path]).status !== 0) return 'no fincore here'
  spawnSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0'])
  return keptBytes(path) === 0 ? false : 'temporary files are not on a disk'
}
