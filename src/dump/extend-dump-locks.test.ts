import assert from 'node:assert/strict'
import { test } from 'node:test'
import { groupOf, madeUpRows, writeMadeUpDump } from '../../test/harness/dumped-files.ts'
import { now } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import { dumpPackKey } from '../repository/keys.ts'
import { createRepository } from '../repository/repository.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { ObjectLocks, Storage } from '../storage/storage.ts'

const DAY_MS = 24 * 3600 * 1000

/** Everything is created locked for `days`, as on a store that locks. */
function withLocks(storage: Storage, until: Map<string, number>, refuses = false): Storage {
  const locks: ObjectLocks = {
    days: 30,
    lockedUntil: async (key) => new Date(until.get(key) ?? now().getTime() + 30 * DAY_MS),
    extend: async (key, end) => {
      if (refuses) throw new Failure('TM1514', { message: 'no', fix: 'none' })
      until.set(key, end.getTime())
    },
    prove: async () => {},
  }
  return Object.assign(storage, { locks })
}

async function writeTwo(refuses: boolean) {
  const until = new Map<string, number>()
  const storage = openMemoryStorage()
  await createRepository(storage, now())
  const dump = { files: { '1.dump': madeUpRows(300_000) }, packTargetBytes: 60_000 }
  const { record: first } = await writeMadeUpDump(groupOf([storage]), dump)
  const [old = '', young = ''] = first.packs.map(({ id }) => dumpPackKey('main', id))
  until.set(old, now().getTime() + 2 * DAY_MS)
  until.set(young, now().getTime() + 20 * DAY_MS)
  const group = groupOf([withLocks(storage, until, refuses)])
  return { ...(await writeMadeUpDump(group, dump)), until, old, young }
}

test('a dump extends locks of which half of the time is gone', async () => {
  const { record, notes, until, old, young } = await writeTwo(false)
  assert.ok(record.packs.some(({ id }) => dumpPackKey('main', id) === old))
  assert.ok((until.get(old) ?? 0) > now().getTime() + 29 * DAY_MS)
  assert.ok((until.get(young) ?? 0) < now().getTime() + 21 * DAY_MS)
  assert.deepEqual(notes, [])
})

test('a dump whose locks cannot be extended is there, and says so', async () => {
  const { notes } = await writeTwo(true)
  assert.match(notes.join(), /are NOT locked for longer.*TM1514/)
})
