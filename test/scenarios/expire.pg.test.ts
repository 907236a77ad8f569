/**
 * Expiry on a real cluster, over a fork of its timeline, beside backups that are stopped in
 * their middle for longer than any expiry takes, and beside a restore.
 */
import assert from 'node:assert/strict'
import { chownSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { type RunningTidemark, startTidemark, type TidemarkResult } from '../harness/tidemark.ts'
import { archiveNow } from './recovery-cluster.ts'

let server: PostgresServer
let directory: string
let config: string
let repository: string

const begin = (...args: string[]): RunningTidemark =>
  startTidemark(['--config', config, ...args], { runAs: server.runAs })

async function ok(...args: string[]): Promise<TidemarkResult> {
  const result = await begin(...args).done
  assert.equal(result.status, 0, `${args.join(' ')}\n${result.stdout}${result.stderr}`)
  return result
}

interface Listed {
  readonly id: string
  readonly walFirst: string
  readonly pinned: boolean
  readonly labels: Record<string, string>
}

async function list(): Promise<Listed[]> {
  return (await ok('list', '--json')).json<{ backups: Listed[] }>().backups
}

async function backUp(...args: string[]): Promise<string> {
  const done = await ok('backup', '--json', ...args)
  return done.json<{ backups: { id: string }[] }>().backups[0]?.id as string
}

interface ExpireJson {
  readonly repositories: readonly {
    readonly applied: boolean
    readonly keep: readonly { id: string; reasons: readonly { rule: string }[] }[]
    readonly expire: readonly { id: string }[]
    readonly wal: { readonly count: number }
    readonly holds: readonly { readonly purpose: string; readonly id: string }[]
  }[]
}

async function expire(...args: string[]) {
  const [only] = (await ok('expire', '--json', ...args)).json<ExpireJson>().repositories
  assert.ok(only !== undefined)
  return only
}

/** Writes the retention into the configuration; the newest backup counts alone unless given. */
function retain(text: string): void {
  const plain = readFileSync(config, 'utf8').replace(/ +retention:.*\n/, '')
  writeFileSync(config, plain.replace(/( +)connection:/, `$1retention: ${text}\n$1connection:`))
}

async function change(rows: number): Promise<void> {
  await server.sql(`INSERT INTO t SELECT random(), repeat(md5(random()::text), 20)
    FROM generate_series(1, ${rows})`)
}

/** Every backup that is listed restores, byte for byte where its records can tell. */
async function assertAllRestore(): Promise<void> {
  for (const { id } of await list()) {
    const into = temporaryDirectory(server.runAs, 'tidemark-expire-')
    await ok('restore', '--into', join(into, 'data'), '--to', `backup:${id}`)
    await removeDirectory(into)
  }
  const verified = await begin('verify', '--full').done
  assert.equal(verified.status, 0, `${verified.stdout}${verified.stderr}`)
}

const holds = (): string[] => {
  try {
    return readdirSync(join(repository, 'clusters/main/holds')).filter(
      (name) => !name.startsWith('.'),
    )
  } catch {
    return []
  }
}

const packs = (): number => {
  const all = readdirSync(join(repository, 'clusters/main/packs'), { recursive: true })
  return all.filter((name) => String(name).endsWith('.pack')).length
}

/** Backup history files, which PostgreSQL archives when a backup is stopped. */
const newestLabel = (): string | undefined => {
  const wal = join(server.dataDirectory, 'pg_wal')
  const names = readdirSync(wal).filter((name) => name.endsWith('.backup'))
  return names.sort().at(-1)
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (let tries = 0; !isSo(); tries++) {
    assert.ok(tries < 3000, what)
    await sleep(5)
  }
}

before(async () => {
  server = await startPostgres({ settings: { archive_mode: 'on', wal_level: 'replica' } })
  directory = temporaryDirectory(server.runAs, 'tidemark-expire-repository-')
  config = join(directory, 'tidemark.yaml')
  repository = join(directory, 'repository')
  const place = ['--connection', server.url(), '--repository', `file://${repository}`]
  await ok('init', '--yes', ...place, '--configure')
  await server.sql('CREATE TABLE t (a float, b text)')
  await change(20_000)
})

after(async () => {
  await server?.dispose()
  if (directory !== undefined) await removeDirectory(directory)
})

test('without retention nothing expires, and it says so', async () => {
  await backUp()
  const plan = await begin('expire').done
  assert.equal(plan.status, 0, plan.stderr)
  assert.match(plan.stdout, /no retention is configured, so no backup and no WAL expires/)
  const { expire: gone, applied } = await expire('--apply')
  assert.deepEqual([gone, applied], [[], true])
})

test('the plan shows what goes, and --apply removes just that', async () => {
  for (let round = 0; round < 3; round++) {
    await change(3000)
    await backUp('--label', `round=${round}`)
  }
  const [first, second] = await list()
  await ok('pin', first?.id ?? '')
  await ok('label', second?.id ?? '', 'why=gone')
  assert.equal((await list())[0]?.pinned, true)
  assert.equal((await list())[1]?.labels['why'], 'gone')
  retain('{ last: 2 }')
  const plan = await expire()
  assert.equal(plan.applied, false)
  assert.deepEqual(
    plan.expire.map(({ id }) => id),
    [second?.id],
  )
  assert.equal((await list()).length, 4)
  const done = await expire('--apply')
  assert.deepEqual(done.expire, plan.expire)
  assert.ok(done.wal.count > 0)
  assert.equal((await list()).length, 3)
  assert.deepEqual((await expire('--apply')).expire, [])
  await ok('window', '--check')
  await assertAllRestore()
  await ok('unpin', first?.id ?? '')
  assert.deepEqual(
    (await expire('--apply')).expire.map(({ id }) => id),
    [first?.id],
  )
})

for (const phase of ['before its hold', 'at its hold', 'in mid-copy', 'at its end'] as const) {
  test(`a backup that is stopped ${phase} while its base expires`, async () => {
    retain('{ last: 1 }')
    await change(4000)
    const before = packs()
    const labelBefore = newestLabel()
    const stopped = begin('backup', '--workers', '1')
    if (phase === 'before its hold') await sleep(250)
    if (phase === 'at its hold') await until('a hold', () => holds().length > 0)
    if (phase === 'in mid-copy') await until('a pack', () => packs() > before)
    // pg_backup_stop has returned; its WAL, its file list and its record are to come.
    if (phase === 'at its end') await until('a label', () => newestLabel() !== labelBefore)
    stopped.kill('SIGSTOP')
    await expire('--apply')
    await sleep(300)
    await expire('--apply')
    stopped.kill('SIGCONT')
    const result = await stopped.done
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
    await expire('--apply')
    assert.deepEqual(holds(), [])
    await assertAllRestore()
  })
}

test('a restore holds its backup', async () => {
  retain('{ last: 3 }')
  await change(4000)
  const id = await backUp()
  await change(4000)
  await backUp()
  retain('{ last: 1 }')
  const into = temporaryDirectory(server.runAs, 'tidemark-expire-restore-')
  const restore = begin('restore', '--into', join(into, 'data'), '--to', `backup:${id}`)
  await until('a hold', () => holds().length > 0)
  restore.kill('SIGSTOP')
  const { expire: gone, holds: held } = await expire('--apply')
  assert.ok(!gone.some((one) => one.id === id))
  assert.deepEqual(
    held.map(({ purpose }) => purpose),
    ['restore'],
  )
  restore.kill('SIGCONT')
  const result = await restore.done
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
  assert.deepEqual(holds(), [])
  assert.ok((await expire('--apply')).expire.some((one) => one.id === id))
  await removeDirectory(into)
})

test('a hold of a run that died elsewhere is given up by name only', async () => {
  await archiveNow(server)
  const dead = begin('backup', '--workers', '1')
  await until('a hold', () => holds().length > 0)
  dead.kill('SIGKILL')
  await dead.done
  const [name = ''] = holds()
  // Here its death is proved: any run cleans up. A name that nobody has is refused.
  const refused = await begin('expire', '--release', '20200101-000000-none', '--json').done
  assert.equal(refused.status, 2)
  assert.match(refused.stdout, /TM1903/)
  await ok('expire', '--release', name.replace('.hold', ''))
  assert.deepEqual(holds(), [])
  await expire('--apply')
  await assertAllRestore()
})

test('a fork: both sides while the window reaches them, then the living one', async () => {
  retain('{ last: 2 }')
  const before = await backUp()
  await change(2000)
  await promote()
  await change(2000)
  await archiveNow(server)
  const behind = await backUp()
  retain('{ window: 1d }')
  const within = await expire('--apply')
  assert.ok(!within.expire.some(({ id }) => id === before))
  await ok('window', '--check')
  retain('{ last: 1 }')
  const { expire: gone } = await expire('--apply')
  assert.ok(gone.some(({ id }) => id === before))
  assert.deepEqual(
    (await list()).map(({ id }) => id),
    [behind],
  )
  assert.deepEqual(walOf('00000001'), [])
  assert.ok(walOf('00000002').length > 0)
  await ok('window', '--check')
  await assertAllRestore()
})

test('another server of the same name: the old history ends with its last backup', async () => {
  await using other = await startPostgres({ settings: { wal_level: 'replica' } })
  const text = readFileSync(config, 'utf8')
  writeFileSync(config, text.replace(/connection: .*/, `connection: '${other.url()}'`))
  const old = (await list())[0]?.id
  await ok('backup', '--no-archive-check')
  const [, fresh] = await list()
  retain('{ daily: 1 }')
  assert.deepEqual((await expire('--apply')).expire, [])
  await assertAllRestore()
  retain('{ last: 1 }')
  const { expire: gone } = await expire('--apply')
  assert.deepEqual(
    gone.map(({ id }) => id),
    [old],
  )
  assert.deepEqual(
    (await list()).map(({ id }) => id),
    [fresh?.id],
  )
  const systems = readdirSync(join(repository, 'clusters/main/wal'))
  assert.deepEqual(systems.filter((system) => walOf('00000001', [system]).length > 0).length, 1)
  assert.deepEqual(walOf('00000002'), [])
  await assertAllRestore()
})
/** In place, as a standby does: the server goes on under timeline 2. */
async function promote(): Promise<void> {
  await server.stop('fast')
  const signal = join(server.dataDirectory, 'standby.signal')
  writeFileSync(signal, '')
  if (server.runAs !== undefined) chownSync(signal, server.runAs.uid, server.runAs.gid)
  await server.start()
  await server.sql('SELECT pg_promote()')
  await archiveNow(server)
}

function walOf(timeline: string, systems?: readonly string[]): string[] {
  const all = join(repository, 'clusters/main/wal')
  return (systems ?? readdirSync(all)).flatMap((system) => {
    const folder = join(all, system, timeline)
    if (!existsSync(folder)) return []
    const names = readdirSync(folder, { recursive: true }).map(String)
    return names.filter((name) => name.endsWith('.wal'))
  })
}
