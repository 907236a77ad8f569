import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { toolEnvironment } from './tool-environment.ts'

const OWN = {
  PATH: '/bin',
  HOME: '/root',
  PGHOST: 'other',
  PGHOSTADDR: '10.0.0.9',
  PGSERVICE: 'elsewhere',
  PGPASSWORD: 'other',
  PGAPPNAME: 'x',
  PGREQUIREAUTH: 'scram-sha-256',
  LC_ALL: 'de_DE.UTF-8',
  TIDEMARK_PASSPHRASE: 'geheim',
  AWS_SECRET_ACCESS_KEY: 'geheim',
}

function environmentOf(url: string, database = 'shop') {
  return toolEnvironment(parseConnectionUrl(url), database, OWN)
}

test('the connection is written out, and nothing else of our own leads elsewhere', () => {
  assert.deepEqual(
    environmentOf('postgresql://ann:p%40ss@db:6000/ignored?sslmode=verify-full&sslrootcert=/ca'),
    {
      PATH: '/bin',
      HOME: '/root',
      PGREQUIREAUTH: 'scram-sha-256',
      LC_ALL: 'C',
      PGHOST: 'db',
      PGPORT: '6000',
      PGUSER: 'ann',
      PGDATABASE: 'shop',
      PGPASSWORD: 'p@ss',
      PGSSLMODE: 'verify-full',
      PGSSLROOTCERT: '/ca',
      PGCONNECT_TIMEOUT: '10',
    },
  )
})

test('without a password there is none; a password file is named', () => {
  const environment = environmentOf(
    'postgresql:///?host=/run/pg&user=ann&passfile=/p&options=-cx%3D1&connect_timeout=1.5',
    "a=b 'c'",
  )
  assert.equal('PGPASSWORD' in environment, false)
  assert.equal(environment['PGPASSFILE'], '/p')
  assert.equal(environment['PGHOST'], '/run/pg')
  assert.equal(environment['PGDATABASE'], "a=b 'c'")
  assert.equal(environment['PGOPTIONS'], '-cx=1')
  assert.equal(environment['PGCONNECT_TIMEOUT'], '2')
})

test('a host and a user that nobody names are those that our session takes', () => {
  const environment = environmentOf('postgresql://')
  assert.match(environment['PGHOST'] ?? '', /^\//)
  assert.notEqual(environment['PGUSER'] ?? '', '')
})
