/** What scrypt costs is kept for this user alone, and only where nobody else can reach it. */
import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, test } from 'node:test'
import { removeDirectory, temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { findPrivateDirectory } from './private-directory.ts'
import { openSlotMemory } from './slot-memory.ts'

const HASH = 'ab'.repeat(32)
const BYTES = Buffer.from('wrapped')

let directory: string
let place: string
let outside: string
const tmpdirBefore = process.env['TMPDIR']

before(() => {
  directory = temporaryDirectory(undefined, 'tidemark-memory-')
  process.env['TMPDIR'] = directory
  place = join(directory, `tidemark-cache-${process.getuid?.()}`)
  outside = join(directory, 'outside')
})

after(async () => {
  if (tmpdirBefore === undefined) delete process.env['TMPDIR']
  else process.env['TMPDIR'] = tmpdirBefore
  await removeDirectory(directory)
})

beforeEach(() => {
  rmSync(place, { recursive: true, force: true })
  rmSync(outside, { recursive: true, force: true })
})

test('what is kept is given again, and only its owner may read it', () => {
  const memory = openSlotMemory()
  assert.equal(memory?.recall(HASH), undefined)
  memory?.remember(HASH, BYTES)
  assert.deepEqual(openSlotMemory()?.recall(HASH), BYTES)
  assert.equal(statSync(place).mode & 0o777, 0o700)
  const names = readdirSync(place)
  assert.equal(names.length, 1)
  for (const name of names) assert.equal(statSync(join(place, name)).mode & 0o777, 0o600)
})

test('a directory that others can reach, that is a link or none at all is not used', () => {
  mkdirSync(place, { mode: 0o700 })
  for (const mode of [0o770, 0o707, 0o740, 0o704, 0o710, 0o701]) {
    chmodSync(place, mode)
    assert.equal(findPrivateDirectory(), undefined, mode.toString(8))
    assert.equal(openSlotMemory(), undefined)
  }
  rmSync(place, { recursive: true })
  mkdirSync(outside, { mode: 0o700 })
  symlinkSync(outside, place)
  assert.equal(findPrivateDirectory(), undefined, 'a link')
  rmSync(place)
  writeFileSync(place, '')
  assert.equal(findPrivateDirectory(), undefined, 'a file')
})

test('a directory of another user is not used', { skip: process.getuid?.() !== 0 }, () => {
  mkdirSync(place, { mode: 0o700 })
  chownSync(place, 65_534, 65_534)
  assert.equal(findPrivateDirectory(), undefined)
})

test('a memory that cannot be used costs only time', () => {
  const memory = openSlotMemory()
  rmSync(place, { recursive: true })
  memory?.remember(HASH, BYTES)
  assert.equal(memory?.recall(HASH), undefined)
})
