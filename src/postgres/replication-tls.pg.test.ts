import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { makeCertificates } from '../../test/harness/certificates.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { serverUser } from '../../test/harness/server-user.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { openReplicationSession } from './replication-session.ts'

/** An address of the loopback network that no other test uses: the port is the same for all. */
const ADDRESS = '127.64.20.1'
const PASSWORD = 'p@ss wörd'

let server: PostgresServer
let authority: string
let stranger: string

before(async () => {
  const owner = serverUser()
  const mine = await makeCertificates(temporaryDirectory(owner), `IP:${ADDRESS}`, owner)
  const other = await makeCertificates(temporaryDirectory(owner), `IP:${ADDRESS}`, owner)
  authority = mine.authority
  stranger = other.authority
  const tls = { ssl: 'on', ssl_cert_file: mine.certificate, ssl_key_file: mine.key }
  server = await startPostgres({ settings: { ...tls, listen_addresses: ADDRESS } })
  const hba = [
    'local all all trust',
    'hostssl replication streamer all scram-sha-256',
    'hostnossl replication plain all md5',
    'hostssl replication weak all scram-sha-256',
  ]
  writeFileSync(join(server.dataDirectory, 'pg_hba.conf'), `${hba.join('\n')}\n`)
  await server.sql(`CREATE ROLE streamer LOGIN REPLICATION PASSWORD '${PASSWORD}'`)
  await server.sql(`CREATE ROLE weak LOGIN PASSWORD '${PASSWORD}'`)
  await server.sql(
    `SET password_encryption = 'md5'; CREATE ROLE plain LOGIN REPLICATION PASSWORD 'x'`,
  )
  await server.sql('SELECT pg_reload_conf()')
})

after(async () => await server.dispose())

function url(role: string, password: string, parameters: string, host = ADDRESS): string {
  const secret = encodeURIComponent(password)
  return `postgresql://${role}:${secret}@${host}:${server.port}/?${parameters}`
}

async function identify(connection: string): Promise<number> {
  const session = await openReplicationSession({ connection, applicationName: 'test' })
  try {
    return (await session.identify()).timeline
  } finally {
    await session.close()
  }
}

test('verify-full with SCRAM, bound to the certificate', async () => {
  const root = `sslmode=verify-full&sslrootcert=${encodeURIComponent(authority)}`
  assert.equal(await identify(url('streamer', PASSWORD, root)), 1)
})

test('require and prefer', async () => {
  assert.equal(await identify(url('streamer', PASSWORD, 'sslmode=require')), 1)
  assert.equal(await identify(url('streamer', PASSWORD, 'sslmode=prefer')), 1)
})

test('md5 without TLS', async () => {
  assert.equal(await identify(url('plain', 'x', 'sslmode=disable')), 1)
})

test('a certificate of another authority is refused, and one for another host', async () => {
  const wrong = `sslmode=verify-ca&sslrootcert=${encodeURIComponent(stranger)}`
  await assert.rejects(identify(url('streamer', PASSWORD, wrong)), { code: 'TM1115' })
  const elsewhere = `sslmode=verify-full&sslrootcert=${encodeURIComponent(authority)}`
  await assert.rejects(identify(url('streamer', PASSWORD, elsewhere, 'localhost')), (error) => {
    // localhost is not where the server listens, or is not in its certificate: never let in.
    return error instanceof Error
  })
})

test('a wrong password, and no TLS where TLS is required', async () => {
  const secure = 'sslmode=require'
  await assert.rejects(identify(url('streamer', 'no', secure)), { code: 'TM1102' })
  const plain = 'sslmode=disable'
  await assert.rejects(identify(url('streamer', PASSWORD, plain)), { code: 'TM1420' })
})

test('a role without REPLICATION is told what it lacks', async () => {
  await assert.rejects(identify(url('weak', PASSWORD, 'sslmode=require')), {
    code: 'TM1420',
    fix: 'ALTER ROLE "weak" REPLICATION',
  })
})
