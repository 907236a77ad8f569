/**
 * A data directory as an archiver sees it: segments that are ready, and the postmaster's file. No
 * server runs in it; archive() is what PostgreSQL's archiver does (pgarch.c).
 */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { runProgram } from './run-program.ts'
import { temporaryDirectory } from './temporary-directory.ts'
import { buildSegment, MB, SYSTEM, segmentName } from './wal-builder.ts'

export interface WaitingDirectory {
  readonly data: string
  /** Path of a file in pg_wal. */
  path(name: string): string
  /** Puts a file there and says that it is ready. */
  put(name: string, content: Uint8Array): void
  /** Names that are acknowledged for the present start of the server. */
  acknowledged(): string[]
  /** Another start of the server. */
  restart(): void
  waiting(): string[]
  /** Runs a command for each file that waits until one fails; gives its standard error. */
  archive(command: string): Promise<string | undefined>
}

export function makeWaitingDirectory(name = 'data'): WaitingDirectory {
  const data = join(temporaryDirectory(), name)
  const status = join(data, 'pg_wal/archive_status')
  const acks = join(data, 'tidemark.acks')
  const postmaster = join(data, 'postmaster.pid')
  mkdirSync(status, { recursive: true })
  mkdirSync(join(data, 'global'))
  const control = Buffer.alloc(8192)
  control.writeBigUInt64LE(SYSTEM)
  writeFileSync(join(data, 'global/pg_control'), control)
  const path = (file: string): string => join(data, 'pg_wal', file)
  const directory: WaitingDirectory = {
    data,
    path,
    put(file, content) {
      writeFileSync(path(file), content)
      writeFileSync(join(status, `${file}.ready`), '')
    },
    acknowledged() {
      if (!existsSync(acks)) return []
      const { ino } = lstatSync(postmaster)
      return readdirSync(acks)
        .filter((file) => !file.startsWith('.') && lstatSync(join(acks, file)).ino === ino)
        .sort()
    },
    restart() {
      rmSync(postmaster, { force: true })
      writeFileSync(postmaster, `${process.pid}\n${data}\n`)
    },
    waiting: () =>
      readdirSync(status)
        .filter((file) => file.endsWith('.ready'))
        .map((file) => file.slice(0, -6))
        .sort((one, other) => rank(one) - rank(other) || (one < other ? -1 : 1)),
    async archive(command) {
      for (const file of directory.waiting()) {
        const line = command.replaceAll('%p', `pg_wal/${file}`).replaceAll('%f', file)
        const { status: code, stderr } = await runProgram('sh', ['-c', line], { cwd: data })
        if (code !== 0) return stderr
        renameSync(join(status, `${file}.ready`), join(status, `${file}.done`))
      }
      return undefined
    },
  }
  directory.restart()
  return directory
}

function rank(name: string): number {
  return name.endsWith('.history') ? 0 : 1
}

/** Content that says which segment it is, and that does not compress to nothing. */
export function waitingSegment(
  number: bigint,
  options: { sizeBytes?: number; timeline?: number; mark?: number } = {},
): { readonly name: string; readonly content: Buffer } {
  const { sizeBytes = MB, timeline = 1, mark = Number(number % 251n) } = options
  const content = buildSegment({ segment: number, sizeBytes, timeline, mark })
  return { name: segmentName({ segment: number, sizeBytes, timeline }), content }
}

/** Mounts a small file system; undefined where that is not allowed. */
export function mountSmallDisk(place: string, bytes: number): (() => void) | undefined {
  mkdirSync(place, { recursive: true })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tidemark', place], {
      stdio: 'ignore',
    })
  } catch {
    return undefined
  }
  return () => {
    execFileSync('umount', [place])
  }
}
