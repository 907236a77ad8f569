/** `wal push` and `wal get` as processes that are killed, on a real file system. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { archiveCommand, restoreCommand } from '../../test/harness/archive-command.ts'
import { buildSegment, MB, SYSTEM, segmentName } from '../../test/harness/wal-builder.ts'
import { createRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { findWalFile } from './fetch-wal.ts'
import { listWal } from './list-wal.ts'

const ID = SYSTEM.toString()
const SIZE = 16 * MB

let directory: string
let storage: Storage
let url: string

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidemark-kill-'))
  url = `file://${directory}/repository`
  storage = await openStorage({ url })
  await createRepository(storage, new Date())
  await ensureSystemIdentity(storage, 'main', {
    systemIdentifier: ID,
    major: 15,
    walSegmentSizeBytes: SIZE,
    createdAt: '',
  })
  await mkdir(join(directory, 'pg_wal'))
})

after(async () => {
  await rm(directory, { recursive: true })
})

function segment(number: bigint): { name: string; content: Buffer } {
  const content = buildSegment({ segment: number, sizeBytes: SIZE })
  crypto.getRandomValues(content.subarray(100, 60_000))
  return { name: segmentName({ segment: number, sizeBytes: SIZE }), content }
}

/** Status, or undefined when the kill came first. */
async function run(command: string, killAfterMs?: number): Promise<number | undefined> {
  const child = spawn('sh', ['-c', `exec ${command}`], { stdio: 'ignore' })
  const timer =
    killAfterMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfterMs)
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve))
  clearTimeout(timer)
  return status ?? undefined
}

async function archived(name: string): Promise<Buffer | undefined> {
  const request = { storages: [storage], cluster: 'main', systemIdentifier: ID, name }
  return (await findWalFile(request))?.content
}

test('a push that is killed leaves the whole file or none, and a retry stores it', async () => {
  for (let number = 1n; number <= 10n; number++) {
    const { name, content } = segment(number)
    const path = join(directory, 'pg_wal', name)
    await writeFile(path, content)
    const command = archiveCommand(url, 'main').replace('%p', path)
    const killed = await run(command, 60 + Number(number) * 35)
    const found = await archived(name)
    assert.ok(found === undefined ? killed !== 0 : found.equals(content))
    assert.equal(await run(command), 0)
    assert.deepEqual(await archived(name), content)
  }
  const { timelines, quarantine, strangers } = await listWal(storage, 'main', ID)
  assert.deepEqual([timelines[0]?.segments, quarantine, strangers], [10, [], []])
})

test('a get that is killed leaves no destination or a whole one, and cleans up later', async () => {
  const { name } = segment(1n)
  const content = await archived(name)
  const destination = join(directory, 'pg_wal', 'RECOVERYXLOG')
  const command = restoreCommand(url, 'main', ID).replace('%f', name).replace('%p', destination)
  for (let round = 1; round <= 8; round++) {
    await rm(destination, { force: true })
    await run(command, 60 + round * 40)
    const found = await readFile(destination).catch(() => undefined)
    assert.ok(found === undefined || found.equals(content as Buffer))
  }
  assert.equal(await run(command), 0)
  assert.deepEqual(await readFile(destination), content)
  const left = (await readdir(join(directory, 'pg_wal'))).filter((entry) => /tidemark/.test(entry))
  assert.deepEqual(left, [])
})

test('a full disk: the push and the get fail, and go on once there is room', async (context) => {
  const disk = join(directory, 'disk')
  await mkdir(disk)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE + 4 * MB}`, 'tidemark', disk], {
      stdio: 'ignore',
    })
  } catch {
    return context.skip('needs the right to mount a tmpfs')
  }
  try {
    const full = await openStorage({ url: `file://${disk}/repository` })
    await createRepository(full, new Date())
    const identity = { major: 15, walSegmentSizeBytes: SIZE, createdAt: '' }
    await ensureSystemIdentity(full, 'main', { systemIdentifier: ID, ...identity })
    await writeFile(join(disk, 'ballast'), Buffer.alloc(SIZE + 3 * MB))
    const { name, content } = segment(20n)
    for (let at = 8192; at < SIZE; at += 65_536) {
      crypto.getRandomValues(content.subarray(at, at + 65_536))
    }
    const path = join(directory, 'pg_wal', name)
    await writeFile(path, content)
    const command = archiveCommand(full.url, 'main').replace('%p', path)
    assert.equal(await run(command), 1)
    const { timelines } = await listWal(full, 'main', ID)
    assert.deepEqual(timelines, [])
    const get = restoreCommand(url, 'main', ID).replace('%f', segment(1n).name)
    const destination = join(disk, 'RECOVERYXLOG')
    assert.equal(await run(get.replace('%p', destination)), 255)
    assert.deepEqual((await readdir(disk)).sort(), ['ballast', 'repository'])
    await rm(join(disk, 'ballast'))
    assert.equal(await run(command), 0)
  } finally {
    execFileSync('umount', [disk])
  }
})
