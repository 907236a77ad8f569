import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { chooseDatabases, listClosedDatabases } from './list-databases.ts'

const THERE = ['Shop', 'closed', 'postgres', 'template0', 'template1'].map((name) => {
  return { name, allowsConnections: name !== 'closed' }
})

test('all that allow connections, but never template0', () => {
  assert.deepEqual(chooseDatabases(THERE, 'all'), ['Shop', 'postgres', 'template1'])
  const there = THERE.map((one) => ({ ...one, allowsConnections: one.name === 'Shop' }))
  assert.deepEqual(listClosedDatabases(there), ['closed', 'postgres', 'template1'])
})

test('named ones in their order, each once', () => {
  assert.deepEqual(chooseDatabases(THERE, ['postgres', 'Shop', 'postgres']), ['postgres', 'Shop'])
})

test('one that is not there, and one that is closed', () => {
  for (const [name, message] of [
    ['shop', 'the server has no database shop'],
    ['closed', 'database closed allows no connections'],
  ] as const) {
    assert.throws(
      () => chooseDatabases(THERE, ['postgres', name]),
      (error) => isFailure(error, 'TM2007') && error.message === message,
    )
  }
})
