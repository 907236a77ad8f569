/**
 * A directory that pg_dump has written: its table of contents, and that every file is there which
 * that and the lists of large objects name.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../base/failure.ts'
import { type ArchiveEntry, type ArchiveToc, ArchiveTocReader } from '../postgres/archive-toc.ts'

const TOC = 'toc.dat'

export interface DirectoryArchive {
  readonly toc: ArchiveToc
  /** Of all files, the table of contents first. */
  readonly names: readonly string[]
}

/** TM2005, TM2008 */
export async function readDirectoryArchive(directory: string): Promise<DirectoryArchive> {
  // A tool that has made no directory has left no table of contents either.
  const names = await readdir(directory).catch(() => [])
  requireFiles([[TOC, 'the table of contents']], names)
  const reader = new ArchiveTocReader({ format: 'directory' })
  reader.push(await readFile(join(directory, TOC)))
  const toc = reader.finish()
  const wanted = [...namesOfData(toc.entries)]
  for (const name of names.filter((one) => LARGE_OBJECTS.test(one))) {
    wanted.push(...parseLargeObjects(await readFile(join(directory, name), 'latin1')))
  }
  requireFiles(wanted, names)
  return { toc, names: [TOC, ...names.filter((name) => name !== TOC).sort()] }
}

type Wanted = readonly [name: string, purpose: string]

function namesOfData(entries: readonly ArchiveEntry[]): Wanted[] {
  const withData = entries.filter(({ hasData }) => hasData)
  return withData.map(({ fileName, dumpId, kind, schema, name }) => {
    return [fileName ?? `${dumpId}.dat`, `${kind} ${schema} ${name}`]
  })
}

/** `blobs.toc`, since 17 several `blobs_<dump id>.toc`: lines of an OID and the name of a file. */
const LARGE_OBJECTS = /^blobs(_\d+)?\.toc$/

function parseLargeObjects(text: string): Wanted[] {
  return text.split('\n').flatMap((line) => {
    const [oid, name] = line.split(' ')
    return name === undefined ? [] : [[name, `large object ${oid}`] as const]
  })
}

/** What names a file has no ending of its compression, since pg_dump 16. */
const COMPRESSED = /\.(gz|lz4|zst)$/

function requireFiles(wanted: readonly Wanted[], names: readonly string[]): void {
  const there = new Set(names.map((name) => name.replace(COMPRESSED, '')))
  const missing = wanted.find(([name]) => !there.has(name.replace(COMPRESSED, '')))
  if (missing === undefined) return
  throw new Failure('TM2008', {
    message: `pg_dump has left no file ${missing[0]}`,
    because: `there is to be one for ${missing[1]}`,
    fix: 'see that nothing cleans up the temporary directory meanwhile, then run the dump again',
  })
}
