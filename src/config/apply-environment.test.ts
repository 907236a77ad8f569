import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { isFailure } from '../base/failure.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { applyEnvironment } from './apply-environment.ts'

const ALL = {
  PGHOST: '/run/pg',
  PGPORT: '6000',
  PGDATABASE: 'there',
  PGUSER: 'someone',
  PGPASSWORD: 'a b&c',
  PGSSLMODE: 'disable',
  HOME: '/home/someone',
}

test('what the URL leaves open comes from the environment, as libpq has it', () => {
  const target = parseConnectionUrl(applyEnvironment('postgresql://', ALL))
  assert.equal(target.host, '/run/pg')
  assert.equal(target.port, 6000)
  assert.equal(target.database, 'there')
  assert.equal(target.user, 'someone')
  assert.equal(target.password, 'a b&c')
  assert.equal(target.tlsMode, 'disable')
  assert.equal(target.passwordFile, '/home/someone/.pgpass')
})

test('what the URL says is kept', () => {
  const urls = [
    'postgresql://me:secret@db.example:7000/mine?sslmode=require&passfile=/p',
    'postgresql:///mine?host=db.example&port=7000&user=me&password=secret&sslmode=require&passfile=/p',
  ]
  for (const url of urls) {
    const target = parseConnectionUrl(applyEnvironment(url, ALL))
    assert.deepEqual(
      [target.host, target.port, target.database, target.user, target.password, target.tlsMode],
      ['db.example', 7000, 'mine', 'me', 'secret', 'require'],
    )
    assert.equal(target.passwordFile, '/p')
  }
})

test('without variables, and without a URL, nothing changes', () => {
  assert.equal(applyEnvironment('postgresql:///a?host=/x', {}), 'postgresql:///a?host=/x')
  assert.equal(applyEnvironment('no url', ALL), 'no url')
})

function writeServices(text: string): string {
  const path = join(temporaryDirectory(), 'services')
  writeFileSync(path, text)
  return path
}

const SERVICES = `
# one
[other]
host=wrong
[ shop ]
host=wrong
[shop]
  host=db.example
port=7000
# user=nobody
user=ann
password= a=b&c
port=1

[shop]
sslmode=require
[bad]
no equals sign
[nested]
service=shop
[unknown]
hostaddr=10.0.0.1
`

test('a service counts more than variables, and less than the URL', () => {
  const env = { ...ALL, PGSERVICEFILE: writeServices(SERVICES) }
  const named = [
    applyEnvironment('postgresql://?service=shop', env),
    applyEnvironment('postgresql://', { ...env, PGSERVICE: 'shop' }),
    applyEnvironment('postgresql://?service=shop', { ...env, PGSERVICE: 'other' }),
  ]
  for (const url of named) {
    const target = parseConnectionUrl(url)
    assert.deepEqual(
      [target.host, target.port, target.user, target.password, target.database, target.tlsMode],
      ['db.example', 7000, 'ann', ' a=b&c', 'there', 'disable'],
    )
  }
  const url = 'postgresql://me@near/mine?service=shop&sslmode=allow'
  const target = parseConnectionUrl(applyEnvironment(url, env))
  assert.deepEqual([target.host, target.port, target.user], ['near', 7000, 'me'])
  assert.deepEqual([target.database, target.tlsMode], ['mine', 'allow'])
})

test('a service that is not there, or that does not read, is refused', () => {
  const env = { ...ALL, PGSERVICEFILE: writeServices(SERVICES), PGSYSCONFDIR: '/nonexistent' }
  for (const service of ['nothere', 'bad', 'nested', 'unknown']) {
    assert.throws(
      () => parseConnectionUrl(applyEnvironment('postgresql://', { ...env, PGSERVICE: service })),
      (error) => isFailure(error, 'TM1116'),
    )
  }
  const nowhere = { HOME: '/nonexistent', PGSERVICE: 'shop', PGSYSCONFDIR: '/nonexistent' }
  assert.throws(
    () => applyEnvironment('postgresql://', nowhere),
    (error) => isFailure(error, 'TM1116'),
  )
})
