/**
 * Gives the files of a dump back as the tools wrote them, byte for byte.
 *
 * Invariant: a name appears only when everything under it is whole and durable, and what is
 * there already is never touched: files are linked into place, which fails where the name is
 * taken; a directory is renamed onto a name that does not exist.
 *
 * Crash: before the link or the rename a `….tidemark-part` is left, which the message of the
 * next run names.
 */
import { mkdir, open, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { DumpRecord } from '../repository/dump-record.ts'
import type { Storage } from '../storage/storage.ts'
import { cannotWrite, writeAll } from './open-archive.ts'
import { isTaken, isThere, putDirectory, putFile, syncDirectory } from './put-files.ts'
import { readDumpFile } from './read-dump.ts'

export interface WriteOutOptions {
  readonly storage: Storage
  readonly record: DumpRecord
  /** Numbers of files of the record. */
  readonly files: readonly number[]
  readonly output: string
  /** Bytes written. */
  readonly onBytes: (bytes: number) => void
  readonly signal: AbortSignal
}

export interface WrittenFile {
  /** Absolute. */
  readonly path: string
  readonly name: string
  readonly bytes: number
  readonly sha256: string
}

/** TM2036; one file becomes a file, several or those of a directory dump a directory. */
export async function writeOut(options: WriteOutOptions): Promise<WrittenFile[]> {
  const output = resolve(options.output)
  const part = `${output}.tidemark-part`
  for (const path of [output, part]) {
    if (await isThere(path)) throw isTaken(path)
  }
  const { record, files } = options
  const [first] = files
  const isOne = files.length === 1 && record.files[first as number]?.name.includes('/') === false
  const written: WrittenFile[] = []
  try {
    if (isOne) {
      written.push(await writeOne(options, first as number, part, output))
      await putFile(part, output)
    } else {
      written.push(...(await writeDirectory(options, part, output)))
      await putDirectory(part, output)
    }
  } catch (error) {
    await rm(part, { recursive: true, force: true })
    throw error
  }
  await syncDirectory(dirname(output))
  return written
}

async function writeDirectory(
  options: WriteOutOptions,
  part: string,
  output: string,
): Promise<WrittenFile[]> {
  const { record, files } = options
  const names = planNames(files.map((number) => record.files[number]?.name ?? ''))
  const directories = new Set([part, ...names.map((name) => dirname(join(part, name)))])
  const written: WrittenFile[] = []
  for (const directory of directories) {
    await mkdir(directory, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
      throw cannotWrite(directory, error)
    })
  }
  for (const [index, number] of files.entries()) {
    const name = names[index] as string
    written.push(await writeOne(options, number, join(part, name), join(output, name)))
  }
  for (const directory of directories) await syncDirectory(directory)
  return written
}

/** One directory dump alone is what pg_restore takes: its number falls away. Pure. */
export function planNames(names: readonly string[]): string[] {
  const folders = new Set(names.map((name) => (name.includes('/') ? dirname(name) : '')))
  const [folder] = folders
  if (folders.size > 1 || folder === undefined || folder === '') return [...names]
  return names.map((name) => name.slice(folder.length + 1))
}

async function writeOne(
  { storage, record, onBytes, signal }: WriteOutOptions,
  number: number,
  path: string,
  final: string,
): Promise<WrittenFile> {
  const recorded = record.files[number]
  if (recorded === undefined) throw new Error(`dump ${record.id} has no file ${number}`)
  const file = await open(path, 'wx', 0o600).catch((error: unknown) => {
    throw cannotWrite(path, error)
  })
  try {
    for await (const chunk of readDumpFile(storage, record, number)) {
      signal.throwIfAborted()
      await writeAll(file, chunk, path)
      onBytes(chunk.byteLength)
    }
    await file.sync().catch((error: unknown) => {
      throw cannotWrite(path, error)
    })
  } finally {
    await file.close()
  }
  return { path: final, name: recorded.name, bytes: recorded.bytes, sha256: recorded.sha256 }
}
