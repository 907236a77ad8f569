/**
 * A directory of pg_dump as a source of loads; pg_restore reads it where it lies.
 *
 * Invariant: every file that the table of contents names was there and whole before the load:
 * pg_restore itself takes the end of a file that was cut for the end of its rows.
 */
import { join, resolve } from 'node:path'
import type { Progress } from '../base/progress.ts'
import { readDirectoryArchive } from './directory-archive.ts'
import { damagedImport, openImportFile } from './import-bytes.ts'
import { describeArchive, naming } from './import-source.ts'
import type { LoadSource } from './load-source.ts'

/** TM2110, TM2112 */
export async function openDirectorySource(
  path: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<LoadSource> {
  const directory = resolve(path)
  const { toc, names } = await naming({ label: path }, async () => {
    return await readDirectoryArchive(directory)
  })
  progress.phase('proving the files')
  for (const name of names) {
    signal.throwIfAborted()
    if (/^\d+\.dat(\.gz|\.zst)?$/.test(name)) await proveRows(join(directory, name), progress)
    else if (/\.(gz|zst)$/.test(name)) await readToEnd(join(directory, name), progress)
  }
  const source = { args: ['--format=directory', directory] }
  return {
    ...describeArchive(path, 'directory', toc),
    bytes: undefined,
    openArchive: async () => ({
      stagedBytes: 0,
      head: async () => source,
      findProblem: async () => undefined,
      whole: async () => source,
      close: async () => {},
    }),
  }
}

const COPY_END = '\\.\n\n\n'
const KEPT_BYTES = 64

/** Rows of COPY end with a line of their own, those of INSERT with a statement. */
async function proveRows(path: string, progress: Progress): Promise<void> {
  const tail = await readToEnd(path, progress)
  if (tail.endsWith(COPY_END) || /(^|;)\n*$/.test(tail)) return
  throw damagedImport(path, 'it ends within its rows')
}

async function readToEnd(path: string, progress: Progress): Promise<string> {
  let tail = Buffer.alloc(0)
  for await (const bytes of (await openImportFile(path)).read()) {
    progress.advance(bytes.byteLength)
    const kept = Buffer.concat([tail, bytes.subarray(-KEPT_BYTES)])
    tail = Buffer.from(kept.subarray(-KEPT_BYTES))
  }
  return tail.toString('latin1')
}
