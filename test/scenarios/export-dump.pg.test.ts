/** `dump --export`: what the plain tools read alone; nothing under a name before it is whole. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { wrapPgDump } from '../harness/dumping.ts'
import { findTool } from '../harness/postgres-binaries.ts'
import { describeDatabase } from '../harness/real-dump.ts'
import { runChecked } from '../harness/run-program.ts'
import { failureOf, tidemark } from '../harness/tidemark.ts'
import { EVERYTHING, LoadFixture, readChecksums, ROLES } from './load-fixture.ts'

let fixture: LoadFixture
let place: string

before(async () => {
  fixture = await LoadFixture.start({ source: 15, target: 15 })
  place = fixture.base
  for (const server of [fixture.source, fixture.target]) await server.sql(ROLES)
  await fixture.source.sql('CREATE DATABASE shop')
  await fixture.source.sql(EVERYTHING, [], 'shop')
})

after(async () => await fixture.dispose())

async function exportTo(path: string, ...more: string[]) {
  const words = ['dump', '--database', 'shop', '--export', path, ...more]
  return await tidemark(['--config', fixture.config, '--json', ...words])
}

/** By hand, with PostgreSQL's own tools in the PATH; $TO is the database. */
async function loadByHand(database: string, script: string): Promise<void> {
  const { target } = fixture
  await target.sql(`CREATE DATABASE ${database} TEMPLATE template0`)
  const tools = dirname(findTool('pg_restore', 15) ?? '')
  await runChecked('/bin/sh', ['-c', `set -e; cd ${place}; ${script}`], {
    env: {
      PATH: `${tools}:${process.env['PATH'] ?? ''}`,
      PGHOST: target.socketDirectory,
      PGPORT: String(target.port),
      PGUSER: target.user,
      PGOPTIONS: '-c client_min_messages=warning',
      PGDATABASE: database,
      TO: database,
    },
  })
  assert.equal(
    await describeDatabase(target, database),
    await describeDatabase(fixture.source, 'shop'),
  )
  assert.deepEqual(
    await readChecksums(target, database),
    await readChecksums(fixture.source, 'shop'),
  )
}

const PSQL = 'psql -qXv ON_ERROR_STOP=1 -o /dev/null'
const RESTORE = 'pg_restore --exit-on-error -d $TO'

const WAYS: readonly (readonly [string, readonly string[], string])[] = [
  ['a.dump', [], `${RESTORE} a.dump`],
  ['b.dump', ['--compress', 'none', '--split', '64K'], `cat b.dump.* | ${RESTORE}`],
  ['c.tar', ['--format', 'tar'], `${RESTORE} c.tar`],
  ['d.sql', ['--format', 'plain'], `${PSQL} -f d.sql`],
  [
    'e.sql.gz',
    ['--format', 'plain', '--compress', 'gzip'],
    `zcat e.sql.gz > e.sql; ${PSQL} -f e.sql`,
  ],
  ['f', ['--format', 'directory', '--jobs', '2'], `${RESTORE} -j 2 f`],
]

for (const [name, words, script] of WAYS) {
  test(`by hand: ${name}`, async () => {
    const result = await exportTo(join(place, name), ...words)
    assert.equal(result.status, 0, `${result.stderr}${result.stdout}`)
    const { files } = result.json<{ files: { path: string; bytes: number }[] }>()
    for (const { path, bytes } of files) assert.equal(statSync(path).size, bytes, path)
    await loadByHand(`hand_${name.slice(0, 1)}`, script)
    assert.deepEqual(leftovers(), [])
  })
}

function leftovers(): string[] {
  return readdirSync(place).filter((name) => /tidemark-(part|dump-)/.test(name))
}

test('parts have the size that was said; more than one database becomes a directory', async () => {
  const parts = readdirSync(place).filter((name) => name.startsWith('b.dump.'))
  assert.ok(parts.length >= 3, parts.join(' '))
  const sizes = parts.sort().map((name) => statSync(join(place, name)).size)
  assert.ok(sizes.slice(0, -1).every((size) => size === 65_536))
  const all = join(place, 'all')
  const words = ['dump', '--all', '--format', 'plain', '--compress', 'zstd', '--export', all]
  const result = await tidemark(['--config', fixture.config, '--json', ...words])
  assert.equal(result.status, 0, result.stdout)
  assert.deepEqual(readdirSync(all).sort(), [
    '1-postgres.sql.zst',
    '2-shop.sql.zst',
    '3-template1.sql.zst',
    'globals.sql.zst',
  ])
})

test('standard output takes one file', async () => {
  const words = ['dump', '--database', 'shop', '--format', 'plain', '--export', '-']
  const result = await tidemark(['--config', fixture.config, ...words])
  assert.equal(result.status, 0, result.stderr)
  const keys = /^\\(un)?restrict .*$/gm
  const file = readFileSync(join(place, 'd.sql'), 'utf8')
  assert.equal(result.stdout.replaceAll(keys, ''), file.replaceAll(keys, ''))
})

test('what is there stays, unless --overwrite and only when the new one is whole', async () => {
  const path = join(place, 'kept.sql')
  writeFileSync(path, 'mine')
  assert.equal(failureOf(await exportTo(path, '--format', 'plain')).code, 'TM2036')
  const tools = wrapPgDump(15, 'echo "pg_dump: error: boo" >&2; exit 1')
  const words = ['--format', 'plain', '--overwrite']
  assert.equal(failureOf(await exportTo(path, ...words, '--tools', tools)).code, 'TM2002')
  assert.equal(readFileSync(path, 'utf8'), 'mine')
  assert.equal((await exportTo(path, ...words)).status, 0)
  assert.ok(readFileSync(path, 'utf8').includes('PostgreSQL database dump complete'))
  const split = [...words, '--split', '64K']
  for (const number of ['000', '001', '777']) writeFileSync(`${path}.${number}`, 'old')
  assert.equal((await exportTo(path, ...split)).status, 0)
  assert.ok(!readdirSync(place).includes('kept.sql.777'))
  assert.notEqual(readFileSync(`${path}.001`, 'utf8'), 'old')
  assert.deepEqual(leftovers(), [])
})

test('a full disk: nothing under the name, compressed or not', async (t) => {
  const disk = join(place, 'disk')
  await runChecked('/bin/mkdir', [disk])
  const mounted = await runChecked('/bin/mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', disk])
    .then(() => true)
    .catch(() => false)
  if (!mounted) return t.skip('no tmpfs can be mounted here')
  try {
    for (const more of [
      ['--format', 'plain'],
      ['--format', 'plain', '--compress', 'zstd', '--section', 'data', '--split', '64K'],
      ['--format', 'directory', '--compress', 'none'],
    ]) {
      writeFileSync(join(disk, 'ballast'), Buffer.alloc(more.length > 4 ? 60_000 : 10))
      const failure = failureOf(await exportTo(join(disk, 'x'), ...more))
      assert.ok(['TM2036', 'TM2002'].includes(failure.code), JSON.stringify(failure))
      assert.deepEqual(readdirSync(disk), ['ballast'], more.join(' '))
    }
  } finally {
    await runChecked('/bin/umount', [disk])
  }
})
