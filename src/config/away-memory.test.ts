import assert from 'node:assert/strict'
import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { openAwayMemory } from './away-memory.ts'

const URL_OF_ONE = 's3://bucket/one'

test('what was away is remembered for a minute, by its URL alone, until it is forgotten', () => {
  const directory = temporaryDirectory()
  const memory = openAwayMemory(directory)
  assert.equal(memory.lastAskedAt(URL_OF_ONE), undefined)
  memory.remember(URL_OF_ONE)
  assert.ok(memory.lastAskedAt(URL_OF_ONE) instanceof Date)
  assert.ok(openAwayMemory(directory).lastAskedAt(URL_OF_ONE) instanceof Date)
  assert.equal(memory.lastAskedAt('s3://bucket/two'), undefined)
  const [name = ''] = readdirSync(directory)
  assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600)
  for (const ageMs of [-5000, 61_000]) {
    writeFileSync(join(directory, name), new Date(Date.now() - ageMs).toISOString())
    assert.equal(memory.lastAskedAt(URL_OF_ONE), undefined, `${ageMs} ms old`)
  }
  writeFileSync(join(directory, name), 'nonsense')
  assert.equal(memory.lastAskedAt(URL_OF_ONE), undefined)
  memory.forget(URL_OF_ONE)
  assert.deepEqual(readdirSync(directory), [])
})

test('without a directory nothing is remembered, and nothing fails', () => {
  const memory = openAwayMemory(join(temporaryDirectory(), 'missing'))
  memory.remember(URL_OF_ONE)
  memory.forget(URL_OF_ONE)
  assert.equal(memory.lastAskedAt(URL_OF_ONE), undefined)
})
