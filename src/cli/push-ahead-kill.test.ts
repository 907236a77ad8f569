/** `archive_command` as processes: killed, terminated, without room, after a restart. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { TIDEMARK } from '../../test/harness/tidemark.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import {
  makeWaitingDirectory,
  mountSmallDisk,
  type WaitingDirectory,
  waitingSegment,
} from '../../test/harness/waiting-directory.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { findWalFile } from '../archive/fetch-wal.ts'
import { createRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { formatArchiveCommand } from './archive-command.ts'

const ID = SYSTEM.toString()
const SIZE = 4 * MB

interface Place {
  readonly storage: Storage
  readonly command: string
}

async function makePlace(base = temporaryDirectory()): Promise<Place> {
  const storage = await openStorage({ url: `file://${base}/repo sitory` })
  await createRepository(storage, new Date())
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: SIZE, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  const configuration = join(temporaryDirectory(), "an administrator's tidemark.yaml")
  writeFileSync(
    configuration,
    `repositories:
  local:
    url: "${storage.url}"
clusters:
  main:
    connection: postgresql:///postgres
    repositories: [local]
    wal: { index: false }
`,
  )
  const command = formatArchiveCommand({ program: TIDEMARK, configuration, cluster: 'main' })
  return { storage, command }
}

function fill(directory: WaitingDirectory, count: number, from = 1): string[] {
  return Array.from({ length: count }, (_, index) => {
    const { name, content } = waitingSegment(BigInt(from + index), { sizeBytes: SIZE })
    for (let at = 8192; at < SIZE; at += 65_536) {
      crypto.getRandomValues(content.subarray(at + 40, at + 4000))
    }
    directory.put(name, content)
    return name
  })
}

async function isStored({ storage }: Place, name: string): Promise<boolean> {
  const request = { storages: [storage], cluster: 'main', systemIdentifier: ID, name }
  return (await findWalFile({ ...request, holes: 'absent' })) !== undefined
}

/** Starts archive_command for one file, in a group of its own as PostgreSQL's archiver does. */
async function runAndSignal(
  directory: WaitingDirectory,
  command: string,
  signal: NodeJS.Signals,
  afterMs: number,
): Promise<void> {
  const [name = ''] = directory.waiting()
  const line = command.replaceAll('%p', `pg_wal/${name}`).replaceAll('%f', name)
  const options = { cwd: directory.data, stdio: 'ignore' as const, detached: true }
  const child = spawn('sh', ['-c', line], options)
  const timer = setTimeout(() => {
    if (child.pid !== undefined) process.kill(-child.pid, signal)
  }, afterMs)
  await new Promise((resolve) => child.on('close', resolve))
  clearTimeout(timer)
}

for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
  test(`${signal} in the middle of a batch: no acknowledgement without its segment`, async () => {
    const place = await makePlace()
    const directory = makeWaitingDirectory('data directory')
    let names: string[] = []
    for (let round = 0; round < 6; round++) {
      names = [...names, ...fill(directory, 6, 1 + round * 6)]
      await runAndSignal(directory, place.command, signal, 90 + round * 50)
      for (const name of directory.acknowledged()) assert.ok(await isStored(place, name), name)
    }
    assert.equal(await directory.archive(place.command), undefined)
    for (const name of names) assert.ok(await isStored(place, name), name)
  })
}

test('a repository without room: nothing is acknowledged that is not stored', async (context) => {
  const disk = join(temporaryDirectory(), 'disk')
  const unmount = mountSmallDisk(disk, 8 * MB)
  if (unmount === undefined) return context.skip('needs the right to mount a tmpfs')
  try {
    const full = await makePlace(disk)
    const directory = makeWaitingDirectory()
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(7 * MB))
    const names = fill(directory, 8)
    const stderr = await directory.archive(full.command)
    assert.match(stderr ?? '', /^error TM1506: .* free for pg_wal/)
    assert.equal(stderr?.trim().split('\n').length, 1, 'one line for the log of the server')
    for (const name of directory.acknowledged()) assert.ok(await isStored(full, name), name)
    rmSync(join(disk, 'ballast'))
    assert.equal(await directory.archive(full.command), undefined)
    for (const name of names) assert.ok(await isStored(full, name), name)
  } finally {
    unmount()
  }
})

test('the shell acknowledges by itself, and only for this start of the server', async () => {
  const place = await makePlace()
  const directory = makeWaitingDirectory("it's a place")
  const names = fill(directory, 3)
  await runAndSignal(directory, place.command, 'SIGTERM', 60_000)
  assert.deepEqual(directory.acknowledged(), names.slice(1))
  const broken = place.command.replace(TIDEMARK, '/bin/false')
  const [first = ''] = names
  rmSync(join(directory.data, 'pg_wal/archive_status', `${first}.ready`))
  assert.equal(await directory.archive(broken), undefined, 'the program is not needed')
  const later = fill(directory, 2, 4)
  await runAndSignal(directory, place.command, 'SIGTERM', 60_000)
  assert.deepEqual(directory.acknowledged(), later.slice(1))
  directory.restart()
  assert.equal(await directory.archive(broken), '', 'the program decides after a restart')
})

test('the plain form archives one file and leaves nothing behind', async () => {
  const place = await makePlace()
  const directory = makeWaitingDirectory()
  const names = fill(directory, 2)
  const plain = place.command.replace(/^.*\|\| /, '').replace(' --ahead', '')
  await runAndSignal(directory, plain, 'SIGTERM', 60_000)
  assert.ok(await isStored(place, names[0] as string))
  assert.ok(!(await isStored(place, names[1] as string)))
  assert.ok(!readdirSync(directory.data).includes('tidemark.acks'))
})
