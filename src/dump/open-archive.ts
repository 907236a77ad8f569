/**
 * Gives pg_restore an archive: on its standard input, or as files in a
 * private temporary directory where it must be able to seek (several jobs, a list of its own
 * order) or wants a directory.
 *
 * Invariant: what is staged is readable by this user only, and gone when the load has ended,
 * however; what a killed process left is removed by the next load of the same user.
 */
import { lstat, mkdir, mkdtemp, open, readdir, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describeSystemError, Failure } from '../base/failure.ts'
import type { DumpFormat } from '../repository/dump-record.ts'
import {
  formatProcessIdentity,
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  readProcessIdentity,
} from '../storage/process-identity.ts'
import type { LoadProblem } from './judge-load.ts'

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

export interface ArchiveFile {
  /** `1.dump`, `1/toc.dat`. */
  readonly name: string
  readonly bytes: number
  /** Ends only when all of it was proved. */
  read(): AsyncIterable<Uint8Array>
}

export interface ArchiveWish {
  readonly format: DumpFormat
  /** One, or those of a directory. */
  readonly files: readonly ArchiveFile[]
  /** The tool must be able to seek. */
  readonly seeks: boolean
}

export async function openArchive(wish: ArchiveWish): Promise<OpenArchive> {
  const isDirectory = wish.format === 'directory'
  if (!isDirectory && !wish.seeks) return streamed(wish)
  const directory = await makeStage()
  return new StagedArchive(wish, directory)
}

function streamed({ format, files }: ArchiveWish): OpenArchive {
  const source = (): ArchiveSource => ({
    args: [`--format=${format}`],
    input: firstOf(files).read(),
  })
  return {
    stagedBytes: 0,
    head: async () => source(),
    findProblem: async () => undefined,
    whole: async () => source(),
    close: async () => {},
  }
}

function firstOf(files: readonly ArchiveFile[]): ArchiveFile {
  const [first] = files
  if (first === undefined) throw new Error('an archive without a file')
  return first
}

class StagedArchive implements OpenArchive {
  readonly #wish: ArchiveWish
  readonly #stage: string
  readonly #written = new Set<string>()

  constructor(wish: ArchiveWish, stage: string) {
    this.#wish = wish
    this.#stage = stage
  }

  get stagedBytes(): number {
    return this.#wish.files.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  async head(): Promise<ArchiveSource> {
    const { format, files } = this.#wish
    const toc = files.find(({ name }) => name.endsWith('/toc.dat'))
    if (format === 'directory' && toc !== undefined) {
      await this.#write(toc, () => {})
      return this.#source()
    }
    return { args: [`--format=${format}`], input: firstOf(files).read() }
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
    for (const file of this.#wish.files) await this.#write(file, onStaged)
    return this.#source()
  }

  #source(): ArchiveSource {
    const { format, files } = this.#wish
    const { name } = firstOf(files)
    const path = join(this.#stage, format === 'directory' ? dirname(name) : name)
    return { args: [`--format=${format}`, path] }
  }

  async #write(source: ArchiveFile, onStaged: (bytes: number) => void): Promise<void> {
    if (this.#written.has(source.name)) return
    const path = join(this.#stage, source.name)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const file = await open(path, 'wx', 0o600)
    try {
      for await (const chunk of source.read()) {
        await writeAll(file, chunk, path)
        onStaged(chunk.byteLength)
      }
    } finally {
      await file.close()
    }
    this.#written.add(source.name)
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
    // In a directory that all may write to, anybody can make such a name.
    const status = await lstat(path).catch(() => undefined)
    if (status?.isDirectory() !== true || status.uid !== process.getuid?.()) continue
    // What cannot be removed now is not worth failing over.
    await rm(path, { recursive: true, force: true }).catch(() => undefined)
  }
}
