/** A process that appends and flushes, killed again and again, and on a disk that fills. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { makeStreamed } from '../../test/harness/streamed-wal.ts'
import { removeDirectory, temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { findWalFile } from '../archive/fetch-wal.ts'
import { listWal } from '../archive/list-wal.ts'
import { findTail } from '../archive/read-tail.ts'
import { isFailure } from '../base/failure.ts'
import { formatSegmentName, lsn } from '../postgres/lsn.ts'
import { createRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { openWalSink } from './wal-sink.ts'

const VICTIM = fileURLToPath(new URL('../../test/harness/sink-victim.ts', import.meta.url))
const ID = SYSTEM.toString()
const PLACE = { cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }
const { bytes, begin } = makeStreamed()

async function makeRepository(directory: string): Promise<Storage> {
  const storage = await openStorage({ url: `file://${directory}/repository` })
  await createRepository(storage, new Date())
  const identity = { major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', { systemIdentifier: ID, ...identity })
  return storage
}

/** How far archive and tails go without a gap, every byte proved. */
async function reach(storage: Storage): Promise<number> {
  for (let at = 0; ; at += MB) {
    const name = formatSegmentName(1, BigInt((begin + at) / MB), MB)
    const request = { storages: [storage], cluster: 'main', systemIdentifier: ID, name }
    const whole = (await findWalFile({ ...request, holes: 'absent' }))?.content
    const found = whole ?? (await findTail([storage], PLACE, name))?.bytes ?? Buffer.alloc(0)
    assert.ok(found.equals(bytes.subarray(at, at + found.length)), `${name} differs`)
    if (found.length < MB) return at + found.length
  }
}

/** The last number that it said, once it was killed behind `killAt` or has ended. */
async function runVictim(url: string, step: number, killAt: number): Promise<number> {
  const child = spawn(process.execPath, [VICTIM, url, ID, String(step)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    said += String(chunk)
    const lines = said.split('\n').slice(0, -1)
    if (Number(lines.at(-1) ?? 0) >= killAt) child.kill('SIGKILL')
  })
  await new Promise((resolve) => child.on('close', resolve))
  return Number(said.split('\n').slice(0, -1).at(-1) ?? 0)
}

test('kill -9 at any time: what was acknowledged is there, and the next one goes on', async () => {
  const directory = temporaryDirectory(undefined, 'tidemark-sink-')
  const storage = await makeRepository(directory)
  let before = 0
  for (const [round, killAt] of [1, 40_000, 900_000, 1_060_000, 2_400_000].entries()) {
    const acknowledged = await runVictim(storage.url, 1500 + 700 * round, killAt)
    const there = await reach(storage)
    assert.ok(there >= acknowledged, `${there} of ${acknowledged}`)
    assert.ok(there >= before)
    before = there
  }
  const last = await runVictim(storage.url, 60_000, Number.POSITIVE_INFINITY)
  assert.deepEqual([last, await reach(storage)], [bytes.length, bytes.length])
  const { tails, strangers, quarantine } = await listWal(storage, 'main', ID)
  assert.deepEqual([tails.length, strangers, quarantine], [1, [], []])
  removeDirectory(directory)
})

test('a full disk: nothing is acknowledged, and with room it goes on', async (context) => {
  const directory = temporaryDirectory(undefined, 'tidemark-sink-full-')
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tidemark', directory], {
      stdio: 'ignore',
    })
  } catch {
    return context.skip('needs the right to mount a tmpfs')
  }
  try {
    const storage = await makeRepository(directory)
    await mkdir(join(directory, 'other'))
    const ballast = join(directory, 'other/ballast')
    const { sink } = await openWalSink({
      required: [storage],
      cluster: 'main',
      systemIdentifier: ID,
    })
    let acknowledged = 0
    let at = 0
    let failures = 0
    await writeFile(ballast, Buffer.alloc(7 * MB + 300_000))
    while (at < bytes.length) {
      const next = Math.min(bytes.length, at + 50_000)
      sink.append(1, lsn(BigInt(begin + at)), bytes.subarray(at, next))
      at = next
      for (;;) {
        try {
          acknowledged = Number(await sink.flush()) - begin
          break
        } catch (error) {
          assert.ok(isFailure(error, 'TM1506'), String(error))
          failures += 1
          assert.ok((await reach(storage)) >= acknowledged)
          assert.ok(failures < 20)
          if (failures > 2) await rm(ballast, { force: true })
        }
      }
    }
    await sink.close()
    assert.ok(failures > 2, String(failures))
    assert.equal(await reach(storage), bytes.length)
    assert.equal((await listWal(storage, 'main', ID)).tails.length, 1)
  } finally {
    execFileSync('umount', [directory])
    removeDirectory(directory)
  }
})
