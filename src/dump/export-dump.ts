/**
 * A dump into plain files, which pg_restore and psql read without Tidemark.
 *
 * Invariant: final names appear only after every tool has ended well, as a record does in a
 * repository.
 */
import { resolve, dirname } from 'node:path'
import type { Writable } from 'node:stream'
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { type DumpedAll, dumpAll, isCompressible, prepareDump } from './dump-all.ts'
import type { DumpRequest } from './dump-context.ts'
import { type ExportSink, openDirectorySink, openFileSink, openStreamSink } from './export-sink.ts'
import type { OutputShape, PutFile } from './output-file.ts'

export type ExportCompression = 'none' | 'gzip' | 'zstd'

export interface ExportOptions {
  readonly dump: DumpRequest
  /** A path, or a stream that takes one file. */
  readonly output: string | Writable
  /** Undefined: as the tool does by itself. */
  readonly compression: ExportCompression | undefined
  readonly splitBytes: number | undefined
  readonly overwrite: boolean
}

export interface ExportResult {
  readonly dumped: DumpedAll
  readonly startedAt: Date
  readonly files: readonly PutFile[]
  readonly notes: readonly string[]
}

/** TM2036, TM2100, and those of a dump. */
export async function exportDump(
  options: ExportOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<ExportResult> {
  const startedAt = now()
  const dump = withTemporaryDirectory(options)
  progress.phase('connecting')
  const prepared = await prepareDump(dump)
  const { databases, tools, notes } = prepared
  const isOne = databases.length === 1 && !dump.globals && dump.format !== 'directory'
  judgeShape(options, isOne)
  const compression = formatCompression(options, tools.major)
  const rolePasswords = dump.rolePasswords ?? true
  const writer = await openSink(options, databases, isOne)
  try {
    const shared = { ...prepared, compression, writer, rolePasswords, progress, signal }
    const dumped = await dumpAll(shared)
    return { dumped, startedAt, files: await writer.put(), notes }
  } catch (error) {
    await writer.discard().catch(() => undefined)
    throw error
  }
}

/** So that what pg_dump has written there needs only another name. */
function withTemporaryDirectory({ dump, output }: ExportOptions): DumpRequest {
  if (typeof output !== 'string') return dump
  return { ...dump, temporaryDirectory: dirname(resolve(output)) }
}

function judgeShape({ dump, output, splitBytes, overwrite }: ExportOptions, isOne: boolean): void {
  if (!isOne && typeof output !== 'string') {
    throw wrong(
      'standard output takes one file',
      'dump one database without globals, not in the directory format; or name a directory',
    )
  }
  if (typeof output !== 'string' && splitBytes !== undefined) {
    throw wrong('--split has no meaning for standard output', 'leave it out, or name a file')
  }
  if (dump.format === 'directory' && splitBytes !== undefined) {
    throw wrong('--split has no meaning with --format directory', 'leave it out: it has many files')
  }
  if (!isOne && overwrite) {
    throw wrong('--overwrite is for one file', 'name a directory that is not there')
  }
}

const FIRST_WITH_METHODS = 16

/** For pg_dump; plain and tar it cannot compress on its way to us. */
function formatCompression({ dump, compression }: ExportOptions, major: number): string[] {
  if (!isCompressible(dump.format) || compression === undefined) return []
  if (compression === 'none') return ['--compress=0']
  if (major >= FIRST_WITH_METHODS) return [`--compress=${compression}`]
  if (compression === 'gzip') return ['--compress=6']
  throw wrong(
    `--compress ${compression} needs pg_dump ${FIRST_WITH_METHODS} or later; the one that fits is ${major}`,
    `name the directory of a later one with --tools, or say --compress gzip`,
  )
}

async function openSink(
  { dump, output, compression, splitBytes, overwrite }: ExportOptions,
  databases: readonly string[],
  isOne: boolean,
): Promise<ExportSink> {
  const ours = isCompressible(dump.format) || compression === 'none' ? undefined : compression
  const shape: OutputShape = { splitBytes, compression: ours, overwrite }
  if (typeof output !== 'string') return openStreamSink(output, ours)
  if (isOne) return await openFileSink(resolve(output), shape)
  const isAlone = databases.length === 1 && !dump.globals
  return await openDirectorySink(resolve(output), shape, (name) => {
    return nameExported(name, { databases, isAlone, ending: ENDINGS[ours ?? 'none'] })
  })
}

const ENDINGS: Readonly<Record<ExportCompression, string>> = {
  none: '',
  gzip: '.gz',
  zstd: '.zst',
}

interface Naming {
  readonly databases: readonly string[]
  /** One directory dump: it is what the directory holds. */
  readonly isAlone: boolean
  readonly ending: string
}

/** `2.dump` -> `2-shop.dump`, `2/toc.dat` -> `2-shop/toc.dat`. Pure. */
export function nameExported(name: string, { databases, isAlone, ending }: Naming): string {
  const [, number, rest] = /^(\d+)([./].*)$/.exec(name) ?? []
  if (number === undefined || rest === undefined) return `${name}${ending}`
  if (rest.startsWith('/') && isAlone) return rest.slice(1)
  const database = databases[Number(number) - 1] ?? ''
  const safe = encodeURIComponent(database).slice(0, MAX_NAME)
  return `${number}-${safe}${rest}${ending}`
}

/** Names of files end at 255 bytes. */
const MAX_NAME = 200

function wrong(message: string, fix: string): Failure {
  return new Failure('TM2100', { message, fix })
}
