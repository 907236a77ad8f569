import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countEdits, didYouMean, nearestName } from './nearest-name.ts'

test('the nearest name is the one with the fewest edits', () => {
  assert.equal(nearestName('mian', ['main', 'test']), 'main')
  assert.equal(nearestName('conection', ['connection', 'repositories']), 'connection')
  assert.equal(nearestName('MAIN', ['main']), 'main')
})

test('nothing is suggested when everything is far away', () => {
  assert.equal(nearestName('production', ['main', 'test']), undefined)
  assert.equal(nearestName('x', ['y']), undefined)
  assert.equal(nearestName('main', []), undefined)
  assert.equal(didYouMean('production', ['main']), '')
})

test('edits: insert, delete, replace, swap of neighbours', () => {
  assert.equal(countEdits('', 'abc'), 3)
  assert.equal(countEdits('abc', 'abc'), 0)
  assert.equal(countEdits('abc', 'acb'), 1)
  assert.equal(countEdits('abc', 'abd'), 1)
  assert.equal(countEdits('kitten', 'sitting'), 3)
})
