/** Two restores that want one number at once, where objects are locked. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newArchive, PLACE } from '../../test/harness/writing-server.ts'
import { Failure } from '../base/failure.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import type { Storage, WriteOptions } from '../storage/storage.ts'
import {
  encodeReservation,
  listReservations,
  type Reservation,
  reservationKey,
  reserveTimeline,
} from './reservations.ts'

const describe = (restoreId: string) => (timeline: number) => ({
  ...{ timeline, restoreId, backup: 'b' },
  ...{ hostName: 'h', dataDirectory: '/d', reservedAt: '' },
})

/** Nothing can be removed; something happens before its first write. */
class Locked extends ForwardingStorage {
  #before: (() => Promise<void>) | undefined

  constructor(inner: Storage, before: () => Promise<void>) {
    super(inner)
    this.#before = before
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    const before = this.#before
    this.#before = undefined
    await before?.()
    await super.write(key, bytes, options)
  }

  override async remove(): Promise<void> {
    throw new Failure('TM1513', { message: 'locked', fix: 'wait' })
  }
}

test('a number that was lost to another, and is locked, stops no restore', async () => {
  const [first, second] = [await newArchive(), await newArchive()]
  const other = encodeReservation(describe('other')(2))
  const locked = new Locked(first, async () => {
    await second.write(reservationKey(PLACE, 2), other, { createOnly: true })
  })
  const { timeline, failures } = await reserveTimeline([locked, second], PLACE, 1, describe('own'))
  assert.deepEqual([timeline, failures], [3, []])
  const holders = async (storage: Storage): Promise<string[]> =>
    [...(await listReservations(storage, PLACE)).values()].map((one) => {
      return (one as Reservation).restoreId
    })
  assert.deepEqual(await holders(first), ['own', 'own'])
  assert.deepEqual(await holders(second), ['other', 'own'])
})
