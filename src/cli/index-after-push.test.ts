/** Indexes that `wal push` writes: only when nothing else waits, and never at its cost. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { buildSegment, SYSTEM, segmentName } from '../../test/harness/wal-builder.ts'
import { Failure } from '../base/failure.ts'
import { eventsKey } from '../events/index-keys.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { indexAfterPush } from './index-after-push.ts'

const ID = SYSTEM.toString()
const NAME = segmentName()
const KEY = eventsKey('main', ID, NAME)

let directory: string

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidemark-index-'))
  await mkdir(join(directory, 'archive_status'))
  await writeFile(join(directory, NAME), buildSegment({ mark: 1 }))
})

after(async () => {
  await rm(directory, { recursive: true })
})

async function run(storage: Storage, names = [NAME], limitMs?: number): Promise<string> {
  const pushed = { storages: [storage], cluster: 'main', systemIdentifier: ID, directory, names }
  return await indexAfterPush(pushed, limitMs === undefined ? {} : { limitMs })
}

test('nothing else is ready: the index is there', async () => {
  const storage = openMemoryStorage()
  await writeFile(join(directory, 'archive_status', `${NAME}.ready`), '')
  assert.equal(await run(storage), 'done')
  assert.ok((await storage.size(KEY)) !== undefined)
})

test('something else is ready: it comes first', async () => {
  const storage = openMemoryStorage()
  const other = join(directory, 'archive_status', '000000010000000000000009.ready')
  await writeFile(other, '')
  assert.equal(await run(storage), 'left')
  assert.equal(await storage.size(KEY), undefined)
  await rm(other)
})

test('a file that has gone, a storage that fails or hangs: no failure of the push', async () => {
  const storage = openMemoryStorage()
  assert.equal(await run(storage, ['000000010000000000000008']), 'left')
  const failing: Storage = Object.assign(openMemoryStorage(), {
    write: async () => {
      throw new Failure('TM1506', { message: 'full', fix: 'make room' })
    },
  })
  assert.equal(await run(failing), 'left')
  const hanging: Storage = Object.assign(openMemoryStorage(), {
    write: async () => await new Promise<void>(() => {}),
  })
  assert.equal(await run(hanging, [NAME], 20), 'late')
})
