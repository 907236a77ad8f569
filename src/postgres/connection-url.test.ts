import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { parseConnectionUrl } from './connection-url.ts'
import { findPassword } from './password-file.ts'

test('the forms of a connection URL', () => {
  const parts = (url: string) => {
    const { host, port, user, database, password } = parseConnectionUrl(url)
    return [host, port, user, database, password]
  }
  assert.deepEqual(parts('postgresql:///shop?host=/run/pg&port=5433&user=eve'), [
    '/run/pg',
    5433,
    'eve',
    'shop',
    undefined,
  ])
  assert.deepEqual(parts('postgres://eve:a%3Ab@db.example:6000/shop'), [
    'db.example',
    6000,
    'eve',
    'shop',
    'a:b',
  ])
  assert.deepEqual(parts('postgresql://eve@/shop'), [undefined, 5432, 'eve', 'shop', undefined])
  assert.deepEqual(parts('postgresql://'), [undefined, 5432, undefined, undefined, undefined])
  assert.deepEqual(parts('postgresql://%2Frun%2Fpg/shop'), [
    '/run/pg',
    5432,
    undefined,
    'shop',
    undefined,
  ])
  assert.deepEqual(parts('postgresql://[::1]:5433/'), [
    '::1',
    5433,
    undefined,
    undefined,
    undefined,
  ])
  assert.deepEqual(parts('postgresql:///?dbname=a%20b'), [
    undefined,
    5432,
    undefined,
    'a b',
    undefined,
  ])
})

test('defaults fill what the URL leaves open', () => {
  const defaults = {
    host: '/srv',
    port: 6000,
    user: 'eve',
    tlsMode: 'require',
    database: 'd',
  } as const
  const target = parseConnectionUrl('postgresql:///shop?port=7000', defaults)
  assert.deepEqual(
    [target.host, target.port, target.user, target.database, target.tlsMode],
    ['/srv', 7000, 'eve', 'shop', 'require'],
  )
})

test('what is not understood is refused, and no password is quoted', () => {
  const wrong = [
    'host=/tmp password=hunter2',
    'http://eve:hunter2@db/',
    'postgresql://eve:hunter2@db:0/',
    'postgresql://eve:hunter2@db/?sslmode=maybe',
    'postgresql://eve:hunter2@db/?colour=red',
    'postgresql://eve:hunter2@/?host=a,b',
    'postgresql:///?connect_timeout=x&password=hunter2',
    'postgresql://eve:hunter2%zz@db/',
  ]
  for (const url of wrong) {
    assert.throws(
      () => parseConnectionUrl(url),
      (error) =>
        isFailure(error, 'TM1116') &&
        !`${error.message}${error.because}${error.fix}`.includes('hunter2'),
      url,
    )
  }
})

test('password file lines', () => {
  const text = [
    '#*:*:*:*:comment',
    'db:5432:shop:eve:one',
    'db:*:*:eve:two:with colon',
    'localhost:*:*:*:local',
    '/srv:*:*:*:socket',
    'a\\:b:*:*:*:back\\\\slash',
    'short:line',
    '*:*:*:root:last',
  ].join('\n')
  const ask = (host: string, port: number, database: string, user: string) =>
    findPassword(text, { host, port, database, user })
  assert.equal(ask('db', 5432, 'shop', 'eve'), 'one')
  assert.equal(ask('db', 5433, 'shop', 'eve'), 'two:with colon')
  assert.equal(ask('/var/run/postgresql', 5432, 'x', 'y'), 'local')
  assert.equal(ask('/srv', 5432, 'x', 'y'), 'socket')
  assert.equal(ask('a:b', 1, 'x', 'y'), 'back\\slash')
  assert.equal(ask('other', 1, 'x', 'root'), 'last')
  assert.equal(ask('other', 1, 'x', 'y'), undefined)
})
