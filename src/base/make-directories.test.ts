import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { makeDirectories } from './make-directories.ts'

test('missing directories are made and named, outermost first', () => {
  const parent = temporaryDirectory()
  const [outer, inner] = [join(parent, 'outer'), join(parent, 'outer/inner')]
  assert.deepEqual(makeDirectories(inner, 0o700), [outer, inner])
  assert.equal(statSync(inner).mode & 0o777, 0o700)
  assert.deepEqual(makeDirectories(inner, 0o700), [])
})

test('a place that takes no directories is refused at once', () => {
  assert.throws(() => makeDirectories('/proc/tidemark/repository', 0o700), { code: 'ENOENT' })
})
