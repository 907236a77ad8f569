import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { isFailure } from '../base/failure.ts'
import { resolveSecret, Secret, withoutPassword } from './secret.ts'

test('a secret shows itself nowhere but in reveal()', () => {
  const secret = new Secret('hunter2')
  const shown = [`${secret}`, JSON.stringify({ secret }), inspect({ secret }), String(secret)]
  for (const text of shown) assert.doesNotMatch(text, /hunter2/)
  assert.equal(secret.reveal(), 'hunter2')
})

test('a secret comes from a file, an environment variable, or stands there itself', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tidemark-secret-'))
  try {
    const path = join(directory, 'password')
    writeFileSync(path, 'from a file\n')
    assert.equal(resolveSecret(`file:${path}`, 'key', {}).reveal(), 'from a file')
    assert.equal(resolveSecret(`file://${path}`, 'key', {}).reveal(), 'from a file')
  } finally {
    rmSync(directory, { recursive: true })
  }
  assert.equal(resolveSecret('a${B}c', 'key', { B: '-' }).reveal(), 'a-c')
  assert.equal(resolveSecret('plain', 'key', {}).reveal(), 'plain')
})

test('a reference to nothing names the key and what is missing', () => {
  const variable = (): unknown => resolveSecret('${NOPE}', 'clusters.main.password', {})
  assert.throws(variable, (error) => isFailure(error, 'TM1005') && /NOPE/.test(error.message))
  const file = (): unknown => resolveSecret('file:/nonexistent/x', 'clusters.main.password', {})
  assert.throws(
    file,
    (error) => isFailure(error, 'TM1005') && /no such file/.test(error.because ?? ''),
  )
  const relative = (): unknown => resolveSecret('file:x', 'clusters.main.password', {})
  assert.throws(relative, (error) => isFailure(error, 'TM1005'))
})

test('connections are shown without their password', () => {
  for (const text of [
    'postgresql://user:hunter2@host:5432/db',
    'postgresql:///db?host=/run&password=hunter2&port=1',
    "host=/run password='hunter2' port=1",
    'host=/run password=hunter2',
  ]) {
    assert.doesNotMatch(withoutPassword(text), /hunter2/)
    assert.match(withoutPassword(text), /host/)
  }
})
