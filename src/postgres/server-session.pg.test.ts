import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, readFileSync, writeFileSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  SAMPLED_MAJORS,
  type PostgresServer,
  startPostgres,
} from '../../test/harness/postgres-server.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import { Failure } from '../base/failure.ts'
import { readControlFile } from './control-file.ts'
import { openServerSession, type ServerSession } from './server-session.ts'

const open = (connection: string): Promise<ServerSession> =>
  openServerSession({ connection, applicationName: 'tidemark test' })

/** The failure of opening; no message of it may hold the password. */
async function failureOf(connection: string, password = 'no such text'): Promise<Failure> {
  try {
    const session = await open(connection)
    await session.close()
  } catch (error) {
    assert.ok(error instanceof Failure, String(error))
    const text = JSON.stringify([error.message, error.because, error.fix, error.details])
    assert.ok(!text.includes(password), text)
    assert.notEqual(error.fix, '')
    return error
  }
  throw new assert.AssertionError({ message: `${connection} was let in` })
}

async function assertFails(connection: string, code: FailureCode, ...words: string[]) {
  const failure = await failureOf(connection)
  assert.equal(failure.code, code, `${failure.message}: ${failure.because}`)
  const text = `${failure.message}\n${failure.because}\n${failure.fix}`
  for (const word of words) assert.ok(text.includes(word), `${word} in ${text}`)
}

for (const major of SAMPLED_MAJORS) {
  test(`PostgreSQL ${major}: a session knows its server and has no time limits`, async () => {
    await using server = await startPostgres({
      major,
      embedded: true,
      settings: {
        statement_timeout: '60s',
        idle_in_transaction_session_timeout: '60s',
        lock_timeout: '1s',
        ...(major >= 14 ? { idle_session_timeout: '60s' } : {}),
        ...(major >= 17 ? { transaction_timeout: '60s' } : {}),
      },
    })
    const session = await open(server.url())
    const { facts } = session
    assert.equal(facts.version.major, major)
    assert.equal(facts.dataDirectory, server.dataDirectory)
    const { control } = await readControlFile(server.dataDirectory)
    assert.equal(facts.systemIdentifier, control.systemIdentifier)
    assert.equal(facts.walSegmentSizeBytes, control.walSegmentSizeBytes)
    assert.equal(facts.isInRecovery, false)
    assert.equal(facts.isSuperuser, true)
    assert.equal(facts.serverAddress, undefined)
    const settings = await session.readSettings()
    for (const [name, setting] of settings) {
      if (name.endsWith('_timeout') && /^(statement|lock|idle|transaction)/.test(name)) {
        assert.equal(setting.setting, '0', name)
      }
    }
    assert.equal(settings.get('application_name')?.value, 'tidemark test')
    assert.equal(settings.get('shared_buffers')?.context, 'postmaster')
    assert.deepEqual(await session.checkSameServer(), { isInRecovery: false })
    await session.close()
  })
}

/** A server with roles that meet every refusal; its socket as a query string. */
async function startGuarded(): Promise<{ server: PostgresServer; query: string }> {
  const server = await startPostgres()
  await server.sql("CREATE ROLE carol LOGIN PASSWORD 'right:word'; CREATE ROLE weak LOGIN")
  await server.sql('CREATE DATABASE closed')
  await server.sql('REVOKE CONNECT ON DATABASE closed FROM public')
  const hba = join(server.dataDirectory, 'pg_hba.conf')
  const trusted = readFileSync(hba, 'utf8')
  writeFileSync(hba, `local all carol scram-sha-256\nlocal all nobody reject\n${trusted}`)
  await server.sql('SELECT pg_reload_conf()')
  await untilRejected(server)
  const query = `host=${encodeURIComponent(server.socketDirectory)}&port=${server.port}`
  return { server, query }
}

test('what keeps a role out is told apart', async (t) => {
  const { server, query } = await startGuarded()
  t.after(() => server.dispose())
  await t.test('no such socket, port or host', async () => {
    const path = `${server.socketDirectory}/.s.PGSQL.1`
    await assertFails(`postgresql:///?host=${server.socketDirectory}&port=1`, 'TM1101', path)
    await assertFails('postgresql://127.0.0.1:1/db', 'TM1101', '127.0.0.1:1', 'refused')
    await assertFails('postgresql://nowhere.invalid/db', 'TM1101', 'nowhere.invalid')
  })
  await t.test('wrong and missing passwords', async () => {
    const failure = await failureOf(`postgresql://carol:hunter2@/postgres?${query}`, 'hunter2')
    assert.equal(failure.code, 'TM1102')
    await assertFails(`postgresql://carol@/postgres?${query}`, 'TM1102', 'carol', '.pgpass')
  })
  await t.test('no such role or database, not let in', async () => {
    await assertFails(`postgresql:///postgres?${query}&user=dave`, 'TM1104', 'dave')
    await assertFails(`postgresql:///shop?${query}&user=weak`, 'TM1103', 'shop')
    await assertFails(`postgresql:///closed?${query}&user=weak`, 'TM1105', 'weak', 'closed')
    await assertFails(`postgresql:///postgres?${query}&user=nobody`, 'TM1102', 'pg_hba.conf')
  })
})

test('what goes wrong within a session', async (t) => {
  const { server, query } = await startGuarded()
  t.after(() => server.dispose())
  await t.test('a statement that the role may not run', async () => {
    const session = await open(`postgresql:///postgres?${query}&user=weak`)
    assert.equal(session.facts.dataDirectory, undefined)
    await assert.rejects(
      session.query('SELECT pg_switch_wal()', [], 'switch the WAL segment'),
      (error) =>
        error instanceof Failure &&
        error.code === 'TM1105' &&
        error.message === 'role weak may not switch the WAL segment',
    )
    assert.deepEqual(await session.query('SELECT $1::int AS n', [7]), [{ n: 7 }])
    await session.close()
  })
  await t.test('the password file is used, unless others may read it', async () => {
    const path = join(server.socketDirectory, 'passwords')
    const lines = '# comment\nelsewhere:*:*:*:other\n*:*:postgres:carol:right\\:word\n'
    writeFileSync(path, lines, { mode: 0o600 })
    const url = `postgresql://carol@/postgres?${query}&passfile=${encodeURIComponent(path)}`
    const session = await open(url)
    assert.equal(session.facts.user, 'carol')
    await session.close()
    chmodSync(path, 0o644)
    await assertFails(url, 'TM1102', path)
  })
  await t.test('a session that the server ended stays ended', async () => {
    const session = await open(server.url())
    assert.equal(session.lostBecause(), undefined)
    await server.sql('SELECT pg_terminate_backend($1)', [session.facts.backendPid])
    for (let round = 0; round < 2; round++) {
      await assert.rejects(
        session.query('SELECT 1'),
        (error) => error instanceof Failure && error.code === 'TM1106',
      )
    }
    await session.close()
  })
  await t.test('a pooler is found out', async () => {
    const proxy = await startPooler(`${server.socketDirectory}/.s.PGSQL.${server.port}`)
    try {
      await assertFails(
        `postgresql://postgres@127.0.0.1:${proxy.port}/postgres`,
        'TM1107',
        `127.0.0.1:${proxy.port}`,
      )
    } finally {
      proxy.close()
    }
  })
})

/** The reloaded pg_hba.conf is in force when the rejected role is refused. */
async function untilRejected(server: PostgresServer): Promise<void> {
  await server.sql('CREATE ROLE nobody LOGIN')
  const url = server.url().replace('user=postgres', 'user=nobody')
  for (let round = 0; round < 200; round++) {
    if (!(await isLetIn(url))) return
  }
  assert.fail('pg_hba.conf was not reloaded')
}

/** As a pooler does: passes everything on, but for the process number at start-up. */
async function startPooler(socket: string): Promise<{ port: number; close: () => void }> {
  const proxy = createServer((client) => {
    const server = createConnection(socket)
    client.pipe(server)
    server.on('data', (bytes: Buffer) => {
      const at = bytes.indexOf(Buffer.from([0x4b, 0, 0, 0, 12]))
      if (at >= 0) bytes.writeInt32BE(4242, at + 5)
      client.write(bytes)
    })
    server.on('close', () => client.destroy())
    client.on('error', () => server.destroy())
    server.on('error', () => client.destroy())
    client.on('close', () => server.destroy())
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const address = proxy.address()
  assert.ok(address !== null && typeof address === 'object')
  return { port: address.port, close: () => proxy.close() }
}

test('sslmode means what it means to libpq', async (t) => {
  const port = await freePort()
  await using server = await startPostgres({
    settings: { listen_addresses: '127.0.0.1', port: String(port) },
  })
  const place = (host: string, mode: string, more = '') =>
    `postgresql://postgres@${host}:${port}/postgres?sslmode=${mode}${more}`
  const usesTls = async (connection: string) => {
    const session = await open(connection)
    const text = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'
    const [row] = await session.query<{ ssl: boolean }>(text)
    await session.close()
    return row?.ssl
  }

  await t.test('without TLS on the server', async () => {
    assert.equal(await usesTls(place('127.0.0.1', 'prefer')), false)
    assert.equal(await usesTls(place('127.0.0.1', 'disable')), false)
    await assertFails(place('127.0.0.1', 'require'), 'TM1115', `127.0.0.1:${port}`)
  })
  const certificate = await turnTlsOn(server, place('127.0.0.1', 'require'))
  const root = `&sslrootcert=${encodeURIComponent(certificate)}`

  await t.test('with TLS on the server', async () => {
    assert.equal(await usesTls(place('127.0.0.1', 'disable')), false)
    assert.equal(await usesTls(place('127.0.0.1', 'allow')), false)
    assert.equal(await usesTls(place('127.0.0.1', 'prefer')), true)
    assert.equal(await usesTls(place('127.0.0.1', 'require')), true)
    const plain = `postgresql://postgres@127.0.0.1:${port}/postgres`
    assert.equal(await usesTls(plain), true)
  })
  await t.test('certificates are verified when asked', async () => {
    assert.equal(await usesTls(place('127.0.0.1', 'verify-ca', root)), true)
    assert.equal(await usesTls(place('localhost', 'verify-full', root)), true)
    await assertFails(place('127.0.0.1', 'verify-full', root), 'TM1115')
    await assertFails(place('localhost', 'verify-full'), 'TM1115')
    await assertFails(place('localhost', 'verify-ca', '&sslrootcert=/none'), 'TM1115', '/none')
  })
})

/** A certificate for `localhost` that vouches for itself; returns its file. */
async function turnTlsOn(server: PostgresServer, connection: string): Promise<string> {
  const key = join(server.dataDirectory, 'server.key')
  const certificate = join(server.dataDirectory, 'server.crt')
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'],
      ...['-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', certificate],
    ],
    { stdio: 'ignore' },
  )
  const owner = server.runAs
  if (owner !== undefined) chownSync(key, owner.uid, owner.gid)
  if (owner !== undefined) chownSync(certificate, owner.uid, owner.gid)
  const session = await open(connection.replace('require', 'disable'))
  await session.query("ALTER SYSTEM SET ssl = 'on'")
  await session.query('SELECT pg_reload_conf()')
  await session.close()
  for (let round = 0; round < 200; round++) {
    if (await isLetIn(connection)) return certificate
  }
  assert.fail('TLS was not turned on')
}

async function isLetIn(connection: string): Promise<boolean> {
  try {
    await (await open(connection)).close()
    return true
  } catch {
    return false
  }
}

async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve))
  const address = probe.address()
  await new Promise((resolve) => probe.close(resolve))
  assert.ok(address !== null && typeof address === 'object')
  return address.port
}
