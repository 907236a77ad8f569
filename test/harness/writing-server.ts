/**
 * Directories that look like those of servers which archive, with WAL that a test decides on. For
 * tests of who may write what.
 */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { judgeContinuation } from '../../src/archive/compare-segments.ts'
import { findWalFile } from '../../src/archive/fetch-wal.ts'
import { listWal } from '../../src/archive/list-wal.ts'
import { pushWalFile } from '../../src/archive/push-wal.ts'
import { decodeWalObject } from '../../src/archive/wal-object.ts'
import { formatSegmentName } from '../../src/postgres/lsn.ts'
import { ensureSystemIdentity } from '../../src/repository/system-identity.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { temporaryDirectory } from './temporary-directory.ts'
import { MB, SYSTEM, SyntheticWal } from './wal-builder.ts'

const ID = String(SYSTEM)
export const PLACE = { cluster: 'main', systemIdentifier: ID }

export async function newArchive(): Promise<Storage> {
  const storage = openMemoryStorage()
  await introduce(storage)
  return storage
}

export async function introduce(storage: Storage): Promise<void> {
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
}

/** A directory that looks like a server's. */
export class WritingServer {
  readonly data: string
  readonly wal: SyntheticWal

  constructor(wal = new SyntheticWal()) {
    this.wal = wal
    this.data = join(temporaryDirectory(), 'data')
    mkdirSync(join(this.data, 'global'), { recursive: true })
    mkdirSync(join(this.data, 'pg_wal'))
    const control = Buffer.alloc(8192)
    control.writeBigUInt64LE(SYSTEM)
    writeFileSync(join(this.data, 'global/pg_control'), control)
    this.start(1000)
  }

  start(at: number): void {
    writeFileSync(join(this.data, 'postmaster.pid'), `1\n${this.data}\n${at}\n`)
  }

  /** Fills segments with what only `mark` decides. */
  write(segments: number, mark: number): void {
    const { wal } = this
    const end = (wal.position / BigInt(MB) + BigInt(segments)) * BigInt(MB)
    const mainData = Buffer.alloc(3000, mark)
    while (wal.position <= end) wal.append({ info: 0, resourceManager: 21, mainData })
  }

  /** A clone: the same WAL up to here, in a directory of its own. */
  clone(timeline = this.wal.timeline): WritingServer {
    return new WritingServer(this.wal.fork(timeline))
  }

  name(segment: bigint): string {
    return formatSegmentName(this.wal.timeline, segment, MB)
  }

  content(segment: bigint): Buffer {
    return this.wal.segments.get(segment) as Buffer
  }

  put(segment: bigint): string {
    const path = join(this.data, 'pg_wal', this.name(segment))
    writeFileSync(path, this.content(segment))
    return path
  }

  /** It is finished, and waits for the archiver, or was archived. */
  finish(segment: bigint, status: 'ready' | 'done'): void {
    this.put(segment)
    const directory = join(this.data, 'pg_wal/archive_status')
    mkdirSync(directory, { recursive: true })
    writeFileSync(join(directory, `${this.name(segment)}.${status}`), '')
  }

  recycle(segment: bigint): void {
    rmSync(join(this.data, 'pg_wal', this.name(segment)))
  }

  async push(storage: Storage, segment: bigint, path = this.put(segment)): Promise<string> {
    const { outcomes } = await pushWalFile({ storages: [storage], cluster: 'main', path })
    return outcomes[0]?.outcome ?? ''
  }

  async pushHistory(storage: Storage, text: string): Promise<void> {
    const name = `0000000${this.wal.timeline}.history`
    const path = join(this.data, 'pg_wal', name)
    writeFileSync(path, text)
    await pushWalFile({ storages: [storage], cluster: 'main', path })
  }
}

/** A server and a clone of it, which part in segment 2 and write so many more each. */
export function partedServers(segments: number): { server: WritingServer; clone: WritingServer } {
  const server = new WritingServer()
  server.write(1, 1)
  const clone = server.clone()
  server.write(segments, 1)
  clone.write(segments, 2)
  return { server, clone }
}

export async function archived(storage: Storage, name: string): Promise<Buffer | undefined> {
  const request = { storages: [storage], ...PLACE, name, holes: 'absent' } as const
  return (await findWalFile(request))?.content
}

/** Names without their hashes. */
export async function quarantined(storage: Storage): Promise<string[]> {
  const { quarantine } = await listWal(storage, 'main', ID)
  return quarantine.map(({ name }) => name.replace(/-.*/, ''))
}

export async function quarantinedContents(storage: Storage): Promise<Buffer[]> {
  const { quarantine } = await listWal(storage, 'main', ID)
  const contents: Buffer[] = []
  for (const { key } of quarantine) {
    contents.push(decodeWalObject(key, (await storage.read(key)) as Uint8Array).content)
  }
  return contents
}

/** What is archived of these segments is one history, of one server or the other. */
export async function assertOneHistory(
  storage: Storage,
  server: WritingServer,
  segments: readonly bigint[],
): Promise<void> {
  let before: Buffer | undefined
  for (const segment of segments) {
    const name = server.name(segment)
    const content = await archived(storage, name)
    if (before !== undefined && content !== undefined) {
      assert.equal(judgeContinuation(before, content), 'fits', name)
    }
    before = content
  }
}

/** Without a comparison of a megabyte on the screen. */
export async function assertArchived(
  storage: Storage,
  name: string,
  content: Buffer,
): Promise<void> {
  const found = await archived(storage, name)
  assert.ok(found !== undefined, `${name} is not archived`)
  assert.ok(found.equals(content), `${name} is archived with other content`)
}
