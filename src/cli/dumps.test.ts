/** What the commands say and do of dumps that are there: through bin/tidemark, without a server. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { groupOf, madeUpRows, writeMadeUpDump } from '../../test/harness/dumped-files.ts'
import { removeDirectory, temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { type TidemarkResult, tidemark } from '../../test/harness/tidemark.ts'
import { dumpKey } from '../repository/keys.ts'
import { createRepository } from '../repository/repository.ts'
import { openStorage } from '../storage/open-storage.ts'

let directory: string
const ids: string[] = []
const idOf = (number: number): string => ids[number] ?? ''

before(async () => {
  directory = temporaryDirectory(undefined, 'tidemark-dumps-')
  writeFileSync(
    join(directory, 'tidemark.yaml'),
    `repositories:
  local: { url: 'file://${directory}/local' }
  offsite: { url: 'file://${directory}/offsite' }
clusters:
  main:
    connection: 'postgresql:///postgres?host=${directory}'
    dumps: { keepLast: 2 }
`,
  )
  for (const name of ['local', 'offsite']) {
    await createRepository(await openStorage({ url: `file://${directory}/${name}` }), new Date())
  }
  const storage = await openStorage({ url: `file://${directory}/local` })
  for (let step = 0; step < 3; step++) {
    const rows = Buffer.concat([madeUpRows(150_000), madeUpRows(90_000, 2 + step)])
    const dump = { files: { '1.dump': rows }, packTargetBytes: 60_000 }
    ids.push((await writeMadeUpDump(groupOf([storage]), dump)).record.id)
  }
})

after(async () => {
  await removeDirectory(directory)
})

async function run(...args: string[]): Promise<TidemarkResult> {
  return await tidemark(['--config', join(directory, 'tidemark.yaml'), ...args])
}

interface Listed {
  readonly dumps: readonly { id: string; pinned: boolean; labels: object; databases: object[] }[]
  readonly backups: readonly object[]
  readonly unreadableDumps: readonly { id: string }[]
}

test('pin and label take the id of a dump, and list shows it', async () => {
  assert.equal((await run('pin', idOf(0), '--repository', 'local')).status, 0)
  assert.equal((await run('label', idOf(1), 'why=test')).status, 0)
  const { dumps, backups } = (await run('list', '--json')).json<Listed>()
  assert.deepEqual(backups, [])
  assert.deepEqual(
    dumps.map(({ id, pinned, labels }) => [id, pinned, labels]),
    [
      [idOf(0), true, {}],
      [idOf(1), false, { why: 'test' }],
      [idOf(2), false, {}],
    ],
  )
  const { stdout } = await run('list')
  assert.match(stdout, /DUMP +SHOWS.*\n.*pinned.*\n.*why=test/)
  assert.equal((await run('label', 'latest', 'a=b')).status, 2)
})

test('show tells all of a dump, and searches its objects', async () => {
  const { dump } = (await run('show', idOf(1), '--json')).json<{ dump: Record<string, unknown> }>()
  assert.equal(dump['base'], idOf(0))
  const shared = dump['sharedWith'] as { dump: string; packs: number }[]
  assert.deepEqual([shared[0]?.dump, (shared[0]?.packs ?? 0) > 0], [idOf(0), true])
  assert.deepEqual(dump['missingPacks'], [])
  const text = await run('show', idOf(1))
  assert.match(text.stdout, /database shop \(16384, UTF8\) as of .*, LSN 0\/1A2B3C4, 2 objects/)
  const found = await run('show', idOf(1), '--objects', '--search', 'ORDERS')
  assert.equal(found.stdout, '3310; TABLE DATA public orders\n')
  const lines = (await run('show', idOf(1), '--objects', '--json')).stdout.trim().split('\n')
  assert.equal(JSON.parse(lines[1] ?? '').database, 'shop')
})

test('latest is a backup and never a dump', async () => {
  for (const args of [
    ['show', 'latest'],
    ['pin', 'latest'],
    ['verify', '--backup', 'latest'],
  ]) {
    const { status, stderr, stdout } = await run(...args)
    assert.equal(status, 2, stderr + stdout)
    assert.match(stderr + stdout, /TM1505/)
  }
})

test('status tells the newest dump of each set of databases', async () => {
  const { stdout } = await run('status')
  assert.match(stdout, new RegExp(`last dump +${idOf(2)}`))
})

test('verify proves dumps, and one by its id; nothing of them is a stranger', async () => {
  interface Verified {
    readonly repositories: readonly {
      dumps: { proved: { dumps: number }; count: number } | null
      unknownObjects?: readonly string[]
    }[]
  }
  const all = (await run('verify', '--json')).json<Verified>()
  assert.deepEqual(all.repositories[0]?.unknownObjects, [])
  assert.equal(all.repositories[0]?.dumps?.proved.dumps, 3)
  const one = await run('verify', idOf(0), '--json')
  assert.equal(one.status, 0, one.stderr)
  assert.deepEqual(
    one.json<Verified>().repositories.map(({ dumps }) => dumps?.count),
    [1, undefined],
  )
  assert.equal((await run('verify', '20200101-000000-none')).status, 2)
})

test('sync brings dumps; verify names the damaged one, and where it is whole', async () => {
  const brought = await run('sync', '--from', 'local', '--to', 'offsite')
  assert.equal(brought.status, 0, brought.stdout + brought.stderr)
  assert.match(brought.stdout, /brought 3 dumps, \d+ packs/)
  const folder = join(directory, 'offsite/clusters/main/dump-packs')
  const [name = ''] = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.pack'),
  )
  const bytes = readFileSync(join(folder, name))
  bytes.writeUInt8(bytes.readUInt8(3000) ^ 1, 3000)
  writeFileSync(join(folder, name), bytes)
  const found = await run('verify', '--repository', 'offsite', '--full')
  assert.equal(found.status, 3, found.stdout + found.stderr)
  assert.match(found.stdout, /dumps: +not whole any more/)
  const [, command = ''] = /has it whole: tidemark (.*)\n/.exec(found.stdout) ?? []
  assert.match(command, /--from local --to offsite --object clusters/)
  const healed = await run(...command.split(' '))
  assert.equal(healed.status, 0, healed.stdout + healed.stderr)
  assert.equal((await run('verify', '--repository', 'offsite', '--full')).status, 0)
})

test('expire shows the plan, and removes what it says with --apply', async () => {
  assert.equal((await run('unpin', idOf(0))).status, 0)
  const plan = await run('expire', '--repository', 'local')
  assert.match(plan.stdout, /dumps: last 2 of each kind/)
  assert.match(plan.stdout, /to be removed: 1 dump/)
  interface Expired {
    readonly repositories: readonly { dumps: { applied: boolean; expire: { id: string }[] } }[]
  }
  const done = await run('expire', '--repository', 'local', '--apply', '--json')
  assert.equal(done.status, 0, done.stderr)
  const [outcome] = done.json<Expired>().repositories
  assert.deepEqual([outcome?.dumps.applied, outcome?.dumps.expire.length], [true, 1])
  assert.equal((await run('list', '--json')).json<Listed>().dumps.length, 2)
  assert.equal((await run('verify', '--full', '--repository', 'local')).status, 0)
})

test('a record that cannot be read is shown, blocks dumps, and can be given up', async () => {
  const path = join(directory, 'local', dumpKey('main', idOf(2)))
  writeFileSync(path, 'torn')
  assert.match((await run('list')).stdout, new RegExp(`damaged +dump ${idOf(2)}`))
  assert.equal((await run('status', '--check')).status, 3)
  const blocked = await run('expire', '--repository', 'local', '--apply')
  assert.equal(blocked.status, 1)
  assert.match(blocked.stdout, /TM2060/)
  assert.equal((await run('expire', '--repository', 'local', '--release', idOf(2))).status, 0)
  assert.equal((await run('expire', '--repository', 'local', '--apply')).status, 0)
  assert.equal((await run('verify', '--full', '--repository', 'local')).status, 0)
})
