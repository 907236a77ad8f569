/**
 * Gives pg_restore an archive out of the repository: on its standard input, or as files in a
 * private temporary directory where it must be able to seek (several jobs, a list of its own
 * order) or wants a directory.
 *
 * Invariant: what is staged is readable by this user only, and gone when the load has ended,
 * however; what a killed process left is removed by the next load of the same user.
 */
import { mkdir, mkdtemp, open, readdir, rm, stat, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import type { DumpedDatabase, DumpRecord } from '../repository/dump-record.ts'
import {
  formatProcessIdentity,
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  readProcessIdentity,
} from '../storage/process-identity.ts'
import type { Storage } from '../storage/storage.ts'
import type { LoadProblem } from './judge-load.ts'
import { readDumpFile } from './read-dump.ts'

/** What names the archive to the tool. */
export interface ArchiveSource {
  readonly args: readonly string[]
  readonly input?: AsyncIterable<Uint8Array>
}

export interface OpenArchive {
  /** Enough for the table of contents. */
  head(): Promise<ArchiveSource>
  /** Is there room for what must be staged? */
  findProblem(): Promise<LoadProblem | undefined>
  /** Bytes that whole() stages; 0: it is streamed. */
  readonly stagedBytes: number
  whole(onStaged: (bytes: number) => void): Promise<ArchiveSource>
  close(): Promise<void>
}

export interface ArchiveWish {
  readonly storage: Storage
  readonly record: DumpRecord
  readonly database: DumpedDatabase
  /** The tool must be able to seek. */
  readonly seeks: boolean
}

export async function openArchive(wish: ArchiveWish): Promise<OpenArchive> {
  const isDirectory = wish.record.format === 'directory'
  if (!isDirectory && !wish.seeks) return streamed(wish)
  const directory = await makeStage()
  return new StagedArchive(wish, directory)
}

function streamed({ storage, record, database }: ArchiveWish): OpenArchive {
  const number = database.files[0]
  if (number === undefined) throw new Error(`no file of database ${database.name}`)
  const source = (): ArchiveSource => ({
    args: [`--format=${record.format}`],
    input: readDumpFile(storage, record, number),
  })
  return {
    stagedBytes: 0,
    head: async () => source(),
    findProblem: async () => undefined,
    whole: async () => source(),
    close: async () => {},
  }
}

class StagedArchive implements OpenArchive {
  readonly #wish: ArchiveWish
  readonly #stage: string
  readonly #written = new Set<number>()

  constructor(wish: ArchiveWish, stage: string) {
    this.#wish = wish
    this.#stage = stage
  }

  get stagedBytes(): number {
    const { record, database } = this.#wish
    return database.files.reduce((sum, file) => sum + (record.files[file]?.bytes ?? 0), 0)
  }

  async head(): Promise<ArchiveSource> {
    const { storage, record, database } = this.#wish
    const first = database.files.find((file) => record.files[file]?.name.endsWith('/toc.dat'))
    const number = database.files[0]
    if (record.format === 'directory' && first !== undefined) {
      await this.#write(first, () => {})
      return this.#source()
    }
    if (number === undefined) throw new Error(`no file of database ${database.name}`)
    return { args: [`--format=${record.format}`], input: readDumpFile(storage, record, number) }
  }

  async findProblem(): Promise<LoadProblem | undefined> {
    const { bavail, bsize } = await statfs(this.#stage)
    const needed = this.stagedBytes
    if (bavail * bsize >= needed) return undefined
    return {
      message: `${tmpdir()} has room for ${bavail * bsize} bytes, and ${needed} must lie there while it is loaded`,
      fix: 'name a directory with more room in TMPDIR, or load a custom dump with one job and without --list',
    }
  }

  async whole(onStaged: (bytes: number) => void): Promise<ArchiveSource> {
    for (const file of this.#wish.database.files) await this.#write(file, onStaged)
    return this.#source()
  }

  #source(): ArchiveSource {
    const { record, database } = this.#wish
    const name = record.files[database.files[0] ?? -1]?.name ?? ''
    const path = join(this.#stage, record.format === 'directory' ? dirname(name) : name)
    return { args: [`--format=${record.format}`, path] }
  }

  async #write(number: number, onStaged: (bytes: number) => void): Promise<void> {
    if (this.#written.has(number)) return
    const { storage, record } = this.#wish
    const path = join(this.#stage, record.files[number]?.name ?? '')
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const file = await open(path, 'wx', 0o600)
    try {
      for await (const chunk of readDumpFile(storage, record, number)) {
        await writeAll(file, chunk, path)
        onStaged(chunk.byteLength)
      }
    } finally {
      await file.close()
    }
    this.#written.add(number)
  }

  async close(): Promise<void> {
    await rm(this.#stage, { recursive: true, force: true, maxRetries: 3 })
  }
}

type OpenFile = Awaited<ReturnType<typeof open>>

/** TM2036 when the disk does not take it. */
export async function writeAll(file: OpenFile, bytes: Uint8Array, path: string): Promise<void> {
  try {
    for (let at = 0; at < bytes.byteLength; ) {
      at += (await file.write(bytes, at)).bytesWritten
    }
  } catch (error) {
    throw cannotWrite(path, error)
  }
}

export function cannotWrite(path: string, error: unknown): Failure {
  return new Failure('TM2036', {
    message: `${path} cannot be written`,
    because: describeSystemError(error),
    fix: 'name a place that this user can write to, with room for the whole dump',
    cause: error,
  })
}

const PREFIX = 'tidemark-load-'

async function makeStage(): Promise<string> {
  const parent = tmpdir()
  const self = readProcessIdentity()
  await removeLeftovers(parent)
  try {
    // mkdtemp(3) makes it with mode 0700.
    return await mkdtemp(join(parent, `${PREFIX}${formatProcessIdentity(self)}-`))
  } catch (error) {
    throw cannotWrite(join(parent, PREFIX), error)
  }
}

/** Of processes that are proved dead, and of this user. */
async function removeLeftovers(parent: string): Promise<void> {
  const self = readProcessIdentity()
  for (const name of await readdir(parent).catch(() => [])) {
    const text = new RegExp(`^${PREFIX}(.+)-[^-]+$`).exec(name)?.[1]
    const other = text === undefined ? undefined : parseProcessIdentity(text)
    if (other === undefined) continue
    if (judgeLiveness(other, self, lookUpStartTicks) !== 'dead') continue
    const path = join(parent, name)
    const owner = await stat(path).catch(() => undefined)
    if (owner?.uid === process.getuid?.()) await rm(path, { recursive: true, force: true })
  }
}
