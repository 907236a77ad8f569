/** Dumps of a real process on a real file system: killed, and with a disk that is full. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, test } from 'node:test'
import { isFailure } from '../../src/base/failure.ts'
import { proveDump } from '../../src/dump/read-dump.ts'
import { listDumpPacks, listDumps } from '../../src/repository/read-dumps.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import {
  groupOf,
  madeUpRows,
  readWholeFile,
  victimDump,
  writeMadeUpDump,
} from '../harness/dumped-files.ts'
import { collect } from '../harness/faulty-storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'

const VICTIM = join(import.meta.dirname, '../harness/dump-victim.ts')

async function newRepository(directory: string): Promise<Storage> {
  const storage = await openStorage({ url: `file://${directory}` })
  await createRepository(storage, new Date())
  return storage
}

/** Runs the victim from its dump `first` on, and kills it at the `lines`-th line that it says. */
async function killAt(url: string, first: number, lines: number): Promise<number> {
  const victim = spawn(process.execPath, [VICTIM, url, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise((resolve) => victim.once('close', resolve))
  let seen = 0
  let published = 0
  for await (const line of createInterface({ input: victim.stdout })) {
    if (line === 'published') published++
    if (++seen === lines) victim.kill('SIGKILL')
  }
  await ended
  assert.ok(seen >= lines)
  return published
}

async function assertWhole(storage: Storage): Promise<string[]> {
  const { dumps, unreadable } = await listDumps(storage, 'main')
  assert.deepEqual(unreadable, [])
  for (const record of dumps) {
    const number = Number.parseInt(record.id.slice(-4), 36)
    const rows = victimDump(number).files['1.dump'] as Uint8Array
    assert.ok((await readWholeFile(storage, record, 0)).equals(rows), record.id)
  }
  return dumps.map(({ id }) => id)
}

/** No hold, no pack without a dump, no file that is no object. */
async function assertTidy(storage: Storage, directory: string): Promise<void> {
  const objects = await collect(storage.list(''))
  const { dumps } = await listDumps(storage, 'main')
  const named = new Set(dumps.flatMap(({ packs }) => packs.map(({ id }) => id)))
  assert.deepEqual([...(await listDumpPacks(storage, 'main')).keys()].sort(), [...named].sort())
  assert.ok(!objects.some(({ key }) => /\/(holds|condemned)\//.test(key)))
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true })
  assert.equal(entries.filter((entry) => entry.isFile()).length, objects.length)
}

test('killed anywhere it leaves whole dumps only, and the next one cleans up', async () => {
  const directory = temporaryDirectory()
  const storage = await newRepository(directory)
  let next = 1
  let published = 0
  // A dump says some 24 lines that it has appended, and that it is publishing, and published.
  for (const lines of [3, 24, 25, 26, 40, 49, 51]) {
    published += await killAt(storage.url, next, lines)
    next += 10
    const listed = await assertWhole(storage)
    assert.ok(listed.length >= published, `${listed.length} of ${published}`)
    published = listed.length
  }
  assert.ok(published >= 3)
  const last = victimDump(next)
  const { notes } = await writeMadeUpDump(groupOf([storage]), last)
  assert.match(notes.join(), /interrupted dump/)
  assert.ok((await assertWhole(storage)).includes(last.id))
  await assertTidy(storage, directory)
})

test('a full disk ends the dump, and nothing is left', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('mounting needs root')
  const directory = temporaryDirectory()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', directory])
  } catch {
    return t.skip('mounting is not allowed here')
  }
  after(() => execFileSync('umount', [directory]))
  const storage = await newRepository(join(directory, 'repository'))
  const group = groupOf([storage])
  await writeMadeUpDump(group, victimDump(1))
  const files = { '1.dump': madeUpRows(20_000_000, 5) }
  const error: unknown = await writeMadeUpDump(group, { files }).catch((e: unknown) => e)
  assert.ok(isFailure(error, 'TM1506'), String(error))
  assert.deepEqual(await assertWhole(storage), [victimDump(1).id])
  await assertTidy(storage, join(directory, 'repository'))
  const { record } = await writeMadeUpDump(groupOf([storage]), victimDump(2))
  assert.deepEqual(await proveDump(storage, record), [])
})
