import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isPackAge, parsePackAge } from './pack-age.ts'

test('an age is days, weeks or off, and 90 days when nothing is said', () => {
  assert.equal(parsePackAge(), 90 * 86_400_000)
  assert.equal(parsePackAge('2w'), 14 * 86_400_000)
  assert.equal(parsePackAge('off'), undefined)
  for (const text of ['', '0d', '90', '3m', '-1d', '1.5d', 'never']) assert.ok(!isPackAge(text))
})
