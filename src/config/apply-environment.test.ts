import assert from 'node:assert/strict'
import { test } from 'node:test'
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
