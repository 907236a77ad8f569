/** What must end a backup: clearly, and with nothing left behind. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, test } from 'node:test'
import { isFailure } from '../../src/base/failure.ts'
import type { FailureCode } from '../../src/base/failure-codes.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { runProgram } from '../harness/run-program.ts'
import { serverUser } from '../harness/server-user.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { AT_REST, assertTidy, atPhase, backUp, newRepository } from './backup-fixture.ts'

const SCRIPT = fileURLToPath(new URL('./backup-process.ts', import.meta.url))

interface Refusal {
  readonly code: string
  readonly message: string
  readonly because: string
  readonly fix: string
  readonly details?: Record<string, unknown>
}

/** As the server's own user: root may read and write everything. */
async function refusalAsOwner(server: PostgresServer, storage: Storage): Promise<Refusal> {
  const args = [SCRIPT, storage.url, server.url()]
  const result = await runProgram(process.execPath, args, { runAs: serverUser() })
  assert.equal(result.status, 1, result.stdout + result.stderr)
  return JSON.parse(result.stdout.trim().split('\n').at(-1) ?? '') as Refusal
}

async function assertNothing(storage: Storage): Promise<void> {
  assert.equal((await listBackups(storage, 'main')).backups.length, 0)
  await assertTidy(storage)
}

function childrenOf(server: PostgresServer): number[] {
  const [pid = ''] = readFileSync(join(server.dataDirectory, 'postmaster.pid'), 'utf8').split('\n')
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return children.split(' ').filter(Boolean).map(Number)
}

async function assertRefused(work: Promise<unknown>, code: FailureCode): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(isFailure(error, code), String(error))
    return true
  })
}

test('a file or directory that cannot be read ends the backup by name', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  const owner = serverUser()
  const file = join(server.dataDirectory, 'base/1/99999')
  writeFileSync(file, Buffer.alloc(8192), { mode: 0 })
  if (owner !== undefined) chownSync(file, owner.uid, owner.gid)
  const refusal = await refusalAsOwner(server, storage)
  assert.equal(refusal.code, 'TM1304')
  assert.ok(refusal.message.includes(file))
  assert.equal(refusal.because, 'permission denied')
  await assertNothing(storage)
  chmodSync(file, 0o600)
  const directory = join(server.dataDirectory, 'base/77777')
  mkdirSync(directory, { mode: 0 })
  if (owner !== undefined) chownSync(directory, owner.uid, owner.gid)
  chmodSync(directory, 0)
  const other = await refusalAsOwner(server, storage)
  assert.equal(other.code, 'TM1304')
  assert.ok(other.message.includes(directory))
  await assertNothing(storage)
})

test('a second backup at the same time is refused, the first one goes on', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  let second: Promise<unknown> | undefined
  const progress = atPhase('reading data files', () => {
    second = backUp(server, storage)
    second.catch(() => undefined)
  })
  const record = await backUp(server, storage, {}, progress)
  await assertRefused(second ?? Promise.resolve(), 'TM1301')
  assert.deepEqual(
    (await listBackups(storage, 'main')).backups.map(({ id }) => id),
    [record.id],
  )
  await assertTidy(storage)
})

for (const phase of ['reading data files', 'ending the backup'] as const) {
  test(`a server that is killed at "${phase}" ends the backup, and nothing is left`, async () => {
    await using server = await startPostgres({ settings: AT_REST })
    const storage = await newRepository()
    await server.sql(
      'CREATE TABLE t AS SELECT g AS id, repeat($$x$$, 300) AS x FROM generate_series(1, 200000) g',
    )
    let killed: Promise<void> | undefined
    const progress = atPhase(phase, () => {
      // Backends outlive the postmaster for a moment, in which the backup could be ended.
      const backends = childrenOf(server)
      killed = server.kill()
      for (const pid of backends) process.kill(pid, 'SIGKILL')
    })
    const error: unknown = await backUp(server, storage, {}, progress).catch((e: unknown) => e)
    await killed
    assert.ok(isFailure(error, 'TM1309'), String(error))
    assert.equal(error.message, 'the server did not confirm the end of the backup')
    await assertNothing(storage)
    await server.start()
    await backUp(server, storage)
    await assertTidy(storage)
  })
}

test('a repository that is full says how much is needed and how much is free', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('mounting needs root')
  await using server = await startPostgres({ settings: AT_REST })
  await server.sql('CREATE TABLE t AS SELECT md5(g::text) AS x FROM generate_series(1, 200000) g')
  const directory = temporaryDirectory()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', directory])
  } catch {
    return t.skip('mounting is not allowed here')
  }
  after(() => execFileSync('umount', [directory]))
  const storage = await newRepository(directory)
  const error: unknown = await backUp(server, storage).catch((e: unknown) => e)
  assert.ok(isFailure(error, 'TM1506'), String(error))
  assert.match(error.because ?? '', /no space is left on the device, \d+ bytes are free/)
  assert.ok(error.fix.includes(directory))
  await assertNothing(storage)
})

test('a repository that may not be written to is named with its owner', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('needs root, to give it another owner')
  await using server = await startPostgres({ settings: AT_REST })
  const directory = temporaryDirectory()
  const storage = await newRepository(directory)
  chmodSync(directory, 0o755)
  const refusal = await refusalAsOwner(server, storage)
  assert.equal(refusal.code, 'TM1501')
  assert.match(refusal.because, /permission denied/)
})

test('pages of another segment size, and a directory of another server, are refused', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  const pid = join(server.dataDirectory, 'postmaster.pid')
  const { readFileSync } = process.getBuiltinModule('node:fs')
  const lines = readFileSync(pid, 'utf8').split('\n')
  lines[2] = String(Number(lines[2]) - 1000)
  writeFileSync(pid, lines.join('\n'))
  await assertRefused(backUp(server, storage), 'TM1303')
  await assertNothing(storage)
})
