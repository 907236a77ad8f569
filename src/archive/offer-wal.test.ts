import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure, isFailure } from '../base/failure.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { offerWal } from './offer-wal.ts'

const storages = [openMemoryStorage(), openMemoryStorage()]
const never = new Promise<never>(() => {})

function failure(code: 'TM1402' | 'TM1407'): Failure {
  return new Failure(code, { message: 'no', fix: 'x' })
}

test('one that hangs is given up, and the other has it', async () => {
  const offers = offerWal(
    storages,
    async (one) => (one === storages[0] ? await never : 'stored'),
    20,
  )
  const [hung, taken] = await offers()
  assert.deepEqual([hung?.outcome, hung?.failure, hung?.tookMs], [undefined, undefined, 20])
  assert.equal(taken?.outcome, 'stored')
})

test('what is known is not waited for', async () => {
  const offers = offerWal(storages, async () => 'found', 3_600_000)
  assert.deepEqual(
    (await offers()).map(({ outcome }) => outcome),
    ['found', 'found'],
  )
})

test('a refusal is told, a contradiction is thrown', async () => {
  const refused = offerWal(storages, async () => Promise.reject(failure('TM1407')))
  assert.deepEqual(
    (await refused()).map((one) => one.failure?.code),
    ['TM1407', 'TM1407'],
  )
  const contradicted = offerWal(storages, async () => Promise.reject(failure('TM1402')))
  await assert.rejects(contradicted(), (error) => isFailure(error, 'TM1402'))
})

test('a defect is thrown, and not before it is waited for', async () => {
  const offers = offerWal(storages, async () => Promise.reject(new Error('a defect')))
  await new Promise((resolve) => setImmediate(resolve))
  await assert.rejects(offers(), /a defect/)
})
