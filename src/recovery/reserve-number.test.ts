import assert from 'node:assert/strict'
import { test } from 'node:test'
import { join } from 'node:path'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { listReservations } from '../archive/reservations.ts'
import { createRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { type NumberRequest, reserveNumber } from './reserve-number.ts'

const PLACE = { cluster: 'main', systemIdentifier: '7000' }

async function newRepository(isKnown = true): Promise<Storage> {
  const storage = await openStorage({ url: `file://${join(temporaryDirectory(), 'repository')}` })
  await createRepository(storage, new Date())
  const identity = { major: 15, walSegmentSizeBytes: 1024 * 1024, createdAt: '' }
  if (isKnown)
    await ensureSystemIdentity(storage, 'main', { ...identity, systemIdentifier: '7000' })
  return storage
}

function request(storages: Storage[], restoreId: string, unfinished?: string): NumberRequest {
  const [nearest, ...fallbacks] = storages.map(({ url }) => ({ url }))
  const storage = { url: nearest?.url ?? '', fallbacks }
  const about = { backup: 'b', dataDirectory: '/data', timeline: 1, unfinished }
  return { ...PLACE, ...about, storage, restoreId }
}

const numbersIn = async (storage: Storage) => [...(await listReservations(storage, PLACE)).keys()]

test('one number in every repository, whatever their order; the next for the next', async () => {
  const [one, two] = [await newRepository(), await newRepository()]
  assert.equal((await reserveNumber(request([one, two], 'a'))).timeline, 2)
  assert.equal((await reserveNumber(request([two, one], 'b'))).timeline, 3)
  for (const storage of [one, two]) assert.deepEqual(await numbersIn(storage), [2, 3])
})

test('a restore that fails gives its number back, a new one that of the unfinished', async () => {
  const storage = await newRepository()
  const reserved = await reserveNumber(request([storage], 'a'))
  await reserved.giveBack()
  assert.deepEqual(await numbersIn(storage), [])
  await reserveNumber(request([storage], 'b'))
  await reserveNumber(request([storage], 'c'))
  const again = await reserveNumber(request([storage], 'd', 'c'))
  assert.equal(again.timeline, 3)
  assert.deepEqual(await numbersIn(storage), [2, 3])
})

test('a repository that does not know the server gets nothing; without any, a note', async () => {
  const [known, other] = [await newRepository(), await newRepository(false)]
  assert.equal((await reserveNumber(request([known, other], 'a'))).timeline, 2)
  assert.deepEqual(await numbersIn(other), [])
  const nowhere = await reserveNumber(request([other], 'b'))
  assert.equal(nowhere.timeline, undefined)
  assert.match(nowhere.notes.join(), /no number could be reserved/)
})
