import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { encodeEnvelope } from './envelope.ts'
import { encodeSmallObject } from './small-object.ts'

test('what nobody could read is not written, and the way out is named', () => {
  const isTooLarge = (error: unknown): boolean =>
    isFailure(error, 'TM1607') && /--format custom/.test(error.fix ?? '')
  assert.throws(() => encodeEnvelope('DUMP', Buffer.alloc(256 * 1024 * 1024 + 1)), isTooLarge)
  const longerThanAnyText = {
    toJSON: () => {
      throw new RangeError('Invalid string length')
    },
  }
  assert.throws(() => encodeSmallObject('DUMP', { longerThanAnyText }), isTooLarge)
})
