/**
 * What cannot be recovered is refused before a byte is written, with its code, the reason
 * and the nearest target that can be; what breaks later leaves nothing that could start.
 */
import assert from 'node:assert/strict'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { TidemarkResult } from '../harness/tidemark.ts'
import { type FailureJson, failureOf, startTidemark } from '../harness/tidemark.ts'
import {
  filesBelow,
  openRecovered,
  type ProtectedServer,
  protectServer,
} from './recovery-cluster.ts'

let cluster: ProtectedServer
/** Segments archived after the backup, in order. */
let segments: string[]

before(async () => {
  cluster = await protectServer()
  const { server } = cluster
  await server.sql('CREATE TABLE steps (number int)')
  await server.sql('CREATE TABLE filler AS SELECT g, md5(g::text) FROM generate_series(1, 90000) g')
  await cluster.backup()
  for (let number = 1; number <= 4; number++) {
    await server.sql(`INSERT INTO steps VALUES (${number})`)
    await server.sql(`SELECT pg_create_restore_point('step${number}')`)
    await cluster.archiveNow()
  }
  segments = filesBelow(cluster.repository)
    .filter((path) => path.endsWith('.wal'))
    .slice(-4)
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

let tried = 0

async function tryRestore(...args: string[]): Promise<{ result: TidemarkResult; into: string }> {
  const into = cluster.path(`try${++tried}`)
  return { result: await cluster.run('--json', 'restore', '--into', into, ...args), into }
}

async function refused(code: string, ...args: string[]): Promise<FailureJson> {
  const { result, into } = await tryRestore(...args)
  assert.notEqual(result.status, 0)
  const failure = failureOf(result)
  assert.equal(failure.code, code, result.stdout)
  assert.ok(failure.fix.length > 0)
  assert.equal(existsSync(into), false, `${into} was written to`)
  return failure
}

/** Does something to a file of the repository, and undoes it. */
async function withDamage(
  path: string,
  damage: (file: string) => void,
  check: () => Promise<void>,
): Promise<void> {
  const file = join(cluster.repository, path)
  const kept = `${cluster.base}/kept`
  cpSync(file, kept, { preserveTimestamps: true })
  const bytes = readFileSync(file)
  damage(file)
  try {
    await check()
  } finally {
    rmSync(file, { force: true })
    writeFileSync(file, bytes)
  }
}

function flip(file: string): void {
  const bytes = readFileSync(file)
  const at = Math.floor(bytes.length / 2)
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
  writeFileSync(file, bytes)
}

async function stepsAt(target: string): Promise<number> {
  const { result, into } = await tryRestore('--to', target)
  assert.equal(result.status, 0, result.stdout + result.stderr)
  await using copy = await openRecovered(into)
  const [row] = await copy.sql<{ count: number }>('SELECT count(*)::int AS count FROM steps')
  return row?.count ?? -1
}

test('a hole in the WAL is named, and end-of:gap goes up to it', async () => {
  const missing = segments[2] as string
  await withDamage(
    missing,
    (file) => rmSync(file),
    async () => {
      const name = missing.slice(-28, -4)
      for (const target of ['latest', 'name:step4']) {
        const failure = await refused('TM1204', '--to', target)
        assert.match(failure.because ?? '', new RegExp(name))
        assert.match(failure.fix, /end-of:gap/)
      }
      assert.equal(await stepsAt('end-of:gap'), 2)
      assert.equal(await stepsAt('name:step2'), 2)
    },
  )
})

test('a flipped bit in the WAL is named, and end-of:gap goes up to it', async () => {
  const bad = segments[1] as string
  await withDamage(bad, flip, async () => {
    const failure = await refused('TM1209', '--to', 'latest')
    assert.match(failure.because ?? '', new RegExp(bad.slice(-28, -4)))
    assert.equal(await stepsAt('end-of:gap'), 1)
  })
})

test('targets that do not exist are refused with the nearest that does', async () => {
  assert.match((await refused('TM1203', '--to', '2099-01-01T00:00:00Z')).fix, /--to latest/)
  assert.match((await refused('TM1202', '--to', '2001-01-01T00:00:00Z')).fix, /--to backup:/)
  await refused('TM1205', '--to', 'name:never')
  await refused('TM1205', '--to', 'xid:4000000000')
  await refused('TM1203', '--to', 'lsn:F/0')
  await refused('TM1202', '--to', 'lsn:0/1')
  await refused('TM1208', '--timeline', '7')
  await refused('TM1505', '--to', 'backup:20200101-000000-aaaa')
  await refused('TM1201', '--to', '2026-11-21 10:00:00')
})

test('a missing pack is refused before anything is written', async () => {
  const packs = filesBelow(cluster.repository).filter((path) => path.endsWith('.pack'))
  const pack = packs[0] as string
  await withDamage(
    pack,
    (file) => rmSync(file),
    async () => {
      const failure = await refused('TM1602', '--to', 'latest')
      assert.match(JSON.stringify(failure.details), new RegExp(pack.slice(-20)))
    },
  )
})

test('a flipped bit in a pack leaves nothing that starts; the same restore mends it', async () => {
  const packs = filesBelow(cluster.repository).filter((path) => path.endsWith('.pack'))
  const into = cluster.path('flipped')
  const broken = packs.find((path) => statSync(join(cluster.repository, path)).size > 500_000)
  await withDamage(broken as string, flip, async () => {
    const result = await cluster.run('--json', 'restore', '--into', into)
    assert.equal(failureOf(result).code, 'TM1601', result.stdout)
    assert.equal(existsSync(join(into, 'global/pg_control')), false)
    assert.ok(existsSync(join(into, 'tidemark.restoring')))
  })
  await cluster.ok('restore', '--into', into)
  assert.equal(existsSync(join(into, 'tidemark.restoring')), false)
  await using copy = await openRecovered(into)
  assert.equal((await copy.sql('SELECT * FROM steps')).length, 4)
})

test('directories that must not be written to are refused', async () => {
  const { server } = cluster
  const into = async (directory: string): Promise<string> => {
    const before = filesBelow(directory)
    const result = await cluster.run('--json', 'restore', '--into', directory)
    assert.deepEqual(filesBelow(directory).length, before.length)
    return failureOf(result).code
  }
  const used = cluster.path('used')
  mkdirSync(used)
  writeFileSync(join(used, 'file'), '')
  assert.equal(await into(used), 'TM1210')
  assert.equal(await into(server.dataDirectory), 'TM1211')
  assert.equal(await into(join(server.dataDirectory, 'new')), 'TM1212')
  assert.equal(await into(join(cluster.repository, 'new')), 'TM1212')
})

test('a restore killed at any moment leaves nothing that starts, and can be repeated', async () => {
  const into = cluster.path('killed')
  for (const afterMs of [250, 400, 500, 600, 700]) {
    const running = startTidemark(['--config', cluster.config, 'restore', '--into', into], {
      runAs: cluster.server.runAs,
      signalAfterMs: afterMs,
      signal: 'SIGKILL',
    })
    const { status } = await running.done
    const isWhole = existsSync(join(into, 'global/pg_control'))
    if (status === 0) break
    if (isWhole) return
  }
  if (!existsSync(join(into, 'global/pg_control'))) await cluster.ok('restore', '--into', into)
  await using copy = await openRecovered(into)
  assert.equal((await copy.sql('SELECT * FROM steps')).length, 4)
})
