/** JSON in an envelope: what comes back, and what is damage rather than absence. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { encodeEnvelope } from './envelope.ts'
import { decodeSmallObject, encodeSmallObject, findReadable } from './small-object.ts'

const envelope = (text: string): Uint8Array => encodeEnvelope('MARK', Buffer.from(text))

test('the fields come back without the format', () => {
  const bytes = encodeSmallObject('MARK', { pinned: true })
  assert.deepEqual(bytes, envelope('{"format":1,"pinned":true}'))
  assert.deepEqual(decodeSmallObject('a key', 'MARK', bytes), { pinned: true })
})

test('another kind, another format and what is no object are damage', () => {
  const isDamage = (error: unknown): boolean => isFailure(error, 'TM1601')
  const bytes = encodeSmallObject('MARK', {})
  assert.throws(() => decodeSmallObject('a key', 'HOLD', bytes), isDamage)
  for (const text of ['{"format":2}', '{}', 'null', '1', '{"format":1']) {
    assert.throws(() => decodeSmallObject('a key', 'MARK', envelope(text)), isDamage, text)
  }
})

test('what cannot be read is not absent, and another failure is not swallowed', async () => {
  const storage = openMemoryStorage()
  const find = async (key: string): Promise<unknown> =>
    await findReadable(storage, key, (bytes) => decodeSmallObject(key, 'MARK', bytes))
  await storage.write('good', encodeSmallObject('MARK', { n: 1 }))
  await storage.write('bad', Buffer.from('nothing of ours'))
  assert.deepEqual(await find('good'), { n: 1 })
  assert.equal(await find('bad'), 'unreadable')
  assert.equal(await find('absent'), undefined)
  const failing = findReadable(storage, 'good', () => {
    throw new Error('of another kind')
  })
  await assert.rejects(failing, /of another kind/)
})
