/**
 * The key slots and generations of an encrypted repository, proved in every run: without them
 * nothing in it can be read. Their hashes are; that a holder of a key wrote them (their
 * proofs) shows when they are used.
 */
import { Failure, isFailure } from '../../base/failure.ts'
import { missingObject } from '../../repository/envelope.ts'
import { findSlot } from '../../repository/key-slots.ts'
import {
  findGeneration,
  generationKey,
  type KeyObject,
  listKeys,
  slotKey,
} from '../../storage/data-keys.ts'
import { addFailure, countObject, type VerifyState } from './verify-state.ts'

export async function verifyKeys(state: VerifyState): Promise<void> {
  const { storage } = state
  if (storage.isSealed !== true) return
  const { generations, slots } = await listKeys(storage)
  const newest = generations.at(-1) ?? 1
  for (let generation = 1; generation <= newest; generation++) {
    await verifyKey(state, generationKey(generation), async () => {
      return await findGeneration(storage, generation)
    })
  }
  for (const id of slots) {
    await verifyKey(state, slotKey(id), async () => await findSlot(storage, id))
  }
}

async function verifyKey(
  state: VerifyState,
  key: string,
  find: () => Promise<KeyObject<unknown> | undefined>,
): Promise<void> {
  try {
    const found = await find()
    if (found === undefined) throw missingObject(key, 'what it has sealed')
    countObject(state, key, found.text.length)
  } catch (error) {
    if (!isFailure(error, 'TM1606') && !isFailure(error, 'TM1602')) throw error
    addFailure(state, key, mendKey(error))
  }
}

function mendKey(failure: Failure): Failure {
  return new Failure(failure.code, {
    message: failure.message,
    ...(failure.because === undefined ? {} : { because: failure.because }),
    fix: `bring it back from a copy of the repository; a slot can be removed and added again
       (tidemark key remove, tidemark key add), and key rotate makes a new generation`,
    cause: failure,
  })
}
