import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { parseHistoryFile } from '../postgres/history-file.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import {
  findReservation,
  type Reservation,
  reservationKey,
  reserveTimeline,
} from './reservations.ts'
import { giveStandIn } from './stand-in-history.ts'

const PLACE = { cluster: 'main', systemIdentifier: '7000' }

const reservation =
  (restoreId: string) =>
  (timeline: number): Reservation => {
    return { timeline, restoreId, backup: 'b', hostName: 'h', dataDirectory: '/d', reservedAt: '' }
  }

const reserve = async (storages: Storage[], restoreId: string, above = 1) =>
  (await reserveTimeline(storages, PLACE, above, reservation(restoreId))).timeline

function restored(marker: object, signal: string | null = 'recovery.signal'): string {
  const directory = temporaryDirectory()
  writeFileSync(join(directory, 'tidemark.restored'), JSON.stringify(marker))
  if (signal !== null) writeFileSync(join(directory, signal), '')
  return directory
}

/** The numbers that PostgreSQL finds taken, from `from` on, until one is free. */
async function probe(storages: Storage[], directory: string, from = 2): Promise<number> {
  for (let timeline = from; ; timeline++) {
    const name = `${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`
    const destination = join(directory, 'RECOVERYHISTORY')
    const request = { ...PLACE, storages, name, destination, dataDirectories: [directory] }
    if (!(await giveStandIn(request))) return timeline
    assert.deepEqual(parseHistoryFile(99, readFileSync(destination)), {
      ok: true,
      history: { timeline: 99, ancestors: [] },
    })
  }
}

test('each of two take-overs finds its own number free, and no other', async () => {
  const [one, two] = [openMemoryStorage(), openMemoryStorage()]
  assert.equal(await reserve([one, two], 'a'), 2)
  assert.equal(await reserve([one, two], 'b'), 3)
  const marker = { takeOver: true, timeline: 1 }
  const first = restored({ ...marker, restoreId: 'a', reservedTimeline: 2 })
  const second = restored({ ...marker, restoreId: 'b', reservedTimeline: 3 })
  assert.equal(await probe([one, two], first), 2)
  assert.equal(await probe([one, two], second), 3)
  // Another has archived number 2 meanwhile: the first passes over what is reserved behind it.
  assert.equal(await probe([one], first, 3), 4)
  const unreserved = restored({ ...marker, restoreId: 'c' })
  assert.equal(await probe([two], unreserved), 4)
})

test('nobody else is told of reservations', async () => {
  const storage = openMemoryStorage()
  await reserve([storage], 'a')
  const marker = { takeOver: true, timeline: 1, restoreId: 'b', reservedTimeline: 3 }
  assert.equal(await probe([storage], restored(marker)), 3)
  assert.equal(await probe([storage], restored({ ...marker, timeline: 3 })), 2)
  assert.equal(await probe([storage], restored({ ...marker, takeOver: false })), 2)
  assert.equal(await probe([storage], restored(marker, null)), 2)
  assert.equal(await probe([storage], restored(marker, 'standby.signal')), 2)
  assert.equal(await probe([storage], temporaryDirectory()), 2)
  const both = restored(marker)
  writeFileSync(join(both, 'standby.signal'), '')
  assert.equal(await probe([storage], both), 2)
})

test("the target's own history is never made up", async () => {
  const storage = openMemoryStorage()
  const marker = { takeOver: true, timeline: 2, restoreId: 'b', reservedTimeline: 4 }
  assert.equal(await probe([storage], restored(marker)), 2)
  assert.equal(await probe([storage], restored(marker), 3), 4)
})

test('a reservation that cannot be read is of another', async () => {
  const storage = openMemoryStorage()
  await storage.write(reservationKey(PLACE, 2), Buffer.from('{'))
  const marker = { takeOver: true, timeline: 1, restoreId: 'b' }
  assert.equal(await probe([storage], restored(marker)), 3)
})

test('a number is above all that is in use in any form', async () => {
  const storage = openMemoryStorage()
  const below = 'clusters/main/wal/7000/'
  const use = async (key: string) => await storage.write(below + key, new Uint8Array(1))
  await use('00000002/00000000/000000020000000000000004.wal')
  assert.equal(await reserve([storage], 'a'), 3)
  await use('00000004.history')
  assert.equal(await reserve([storage], 'a'), 5)
  await use('quarantine/00000006.history-0123456789abcdef')
  assert.equal(await reserve([storage], 'a'), 7)
  await use('writers/00000009.writer')
  assert.equal(await reserve([storage], 'a'), 10)
  assert.equal(await reserve([storage], 'a', 20), 21)
})

test('of many that reserve at once each gets a number of its own', async () => {
  const storages = [openMemoryStorage(), openMemoryStorage()]
  const ids = ['a', 'b', 'c', 'd', 'e']
  const numbers = await Promise.all(ids.map(async (id) => await reserve(storages, id)))
  assert.equal(new Set(numbers).size, ids.length)
  for (const [at, number] of numbers.entries()) {
    for (const storage of storages) {
      const found = await findReservation(storage, PLACE, number as number)
      assert.ok(typeof found === 'object' && found.restoreId === ids[at])
    }
  }
})
