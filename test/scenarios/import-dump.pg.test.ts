/** `load --import`: files of the plain tools, split, compressed and damaged ones. */
import assert from 'node:assert/strict'
import {
  copyFileSync,
  cpSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { findTool } from '../harness/postgres-binaries.ts'
import { describeDatabase } from '../harness/real-dump.ts'
import { runChecked } from '../harness/run-program.ts'
import { failureOf, TIDEMARK, tidemark } from '../harness/tidemark.ts'
import { EVERYTHING, LoadFixture, readChecksums, ROLES } from './load-fixture.ts'

let fixture: LoadFixture
let place: string

before(async () => {
  fixture = await LoadFixture.start({ source: 15, target: 15 })
  place = fixture.base
  for (const server of [fixture.source, fixture.target]) await server.sql(ROLES)
  await fixture.source.sql('CREATE DATABASE shop')
  await fixture.source.sql(EVERYTHING, [], 'shop')
  await dumpByHand(`
    pg_dump -Fc -f a.dump shop; pg_dump -Ft -f b.tar shop; pg_dump -f c.sql shop
    pg_dump -Fd -j 2 -f d shop; pg_dump -Fd -Z0 -f e shop; pg_dump -C -f created.sql shop
    pg_dump --inserts -Fd -Z0 -t public.seq -t public.types -f inserts shop
    pg_dumpall -f all.sql; pg_dumpall --clean -f clean.sql`)
  writeFileSync(join(place, 'c.gz'), gzipSync(readFileSync(join(place, 'c.sql'))))
  writeFileSync(join(place, 'a.zst'), zstdCompressSync(readFileSync(join(place, 'a.dump'))))
  split('b.tar', 'split')
  split('c.gz', 'packed')
})

after(async () => await fixture.dispose())

async function dumpByHand(script: string): Promise<void> {
  const { source } = fixture
  const tools = dirname(findTool('pg_dump', 15) ?? '')
  await runChecked('/bin/sh', ['-c', `set -e; cd ${place}; ${script}`], {
    env: {
      PATH: `${tools}:${process.env['PATH'] ?? ''}`,
      PGHOST: source.socketDirectory,
      PGPORT: String(source.port),
      PGUSER: source.user,
    },
  })
}

function split(name: string, to: string): void {
  const bytes = readFileSync(join(place, name))
  const size = Math.ceil(bytes.length / 3)
  for (let n = 0; n < 3; n++) {
    writeFileSync(join(place, `${to}.00${n}`), bytes.subarray(n * size, (n + 1) * size))
  }
}

async function load(name: string, into: string, ...more: string[]) {
  const url = fixture.target.url(into)
  const words = ['--json', 'load', '--import', join(place, name), '--into', url, ...more]
  return await tidemark(words, { env: { TMPDIR: place } })
}

const WAYS: readonly (readonly [string, readonly string[]])[] = [
  ['a.dump', []],
  ['a.dump', ['--single-transaction']],
  ['a.dump', ['--jobs', '2']],
  ['b.tar', []],
  ['c.sql', []],
  ['d', ['--jobs', '2']],
  ['e', []],
  ['c.gz', []],
  ['a.zst', []],
  ['a.zst', ['--jobs', '2']],
  ['split', []],
  ['split.000', []],
  ['packed', []],
]

for (const [number, [name, words]] of WAYS.entries()) {
  test(`from ${name} ${words.join(' ')}`, async () => {
    const database = `from_${number}`
    const result = await load(name, database, '--create', ...words)
    assert.equal(result.status, 0, `${result.stderr}${result.stdout}`)
    const { target, source } = fixture
    assert.equal(await describeDatabase(target, database), await describeDatabase(source, 'shop'))
    assert.deepEqual(await readChecksums(target, database), await readChecksums(source, 'shop'))
    await target.sql(`DROP DATABASE ${database}`)
  })
}

test('standard input, and only a table of it', async () => {
  const { target } = fixture
  const words = '--json load --import - --into "$TO" --create --table part_1'
  const script = `${TIDEMARK} ${words} < ${place}/a.zst`
  await runChecked('/bin/sh', ['-c', script], { env: { TO: target.url('piped') } })
  const sums = await readChecksums(target, 'piped')
  assert.equal(sums['part_1'], (await readChecksums(fixture.source, 'shop'))['part_1'])
  const own = await load('created.sql', 'shop', '--create')
  assert.equal(own.status, 0, own.stdout)
  assert.deepEqual(await readChecksums(target, 'shop'), await readChecksums(fixture.source, 'shop'))
  const elsewhere = await load('created.sql', 'elsewhere', '--create')
  assert.match(failureOf(elsewhere).because ?? '', /creates database shop itself/)
  const inserted = await load('inserts', 'inserted', '--create')
  assert.equal(inserted.status, 0, inserted.stdout)
})

test('judged before: missing objects, a database that is not empty', async () => {
  const { target } = fixture
  await target.sql('CREATE DATABASE judged')
  assert.equal(failureOf(await load('a.dump', 'judged', '--table', 'nope')).code, 'TM2032')
  await target.sql('CREATE TABLE x ()', [], 'judged')
  for (const name of ['a.dump', 'c.sql', 'd']) {
    const failure = failureOf(await load(name, 'judged'))
    assert.equal(failure.code, 'TM2030', name)
    assert.match(failure.because ?? '', /judged is not empty/)
  }
  const same = await tidemark([
    ...['--json', 'load', '--import', join(place, 'a.dump'), '--clean', '--if-exists'],
    ...['--into', fixture.source.url('shop')],
  ])
  assert.match(failureOf(same).because ?? '', /shop is the very database that was dumped/)
})

test('what was cut is never a success, and leaves nothing with --single-transaction', async () => {
  const { target } = fixture
  await target.sql('CREATE DATABASE cut')
  for (const name of ['a.dump', 'b.tar', 'c.sql', 'c.gz', 'a.zst']) {
    const path = join(place, name)
    const { size } = statSync(path)
    for (const left of [size - 1, size - 600, Math.floor(size / 2), 40, 0]) {
      copyFileSync(path, join(place, 'cut'))
      // Behind the last comment of SQL there is nothing to lose.
      const isText = name === 'c.sql' && left === size - 1
      truncateSync(join(place, 'cut'), isText ? size - 180 : left)
      const result = await load('cut', 'cut', '--single-transaction')
      assert.equal(result.status, 1, `${name} ${left} of ${size}: ${result.stdout}`)
      assert.match(failureOf(result).code, /^TM211[02]$/, `${name} ${left}: ${result.stdout}`)
    }
  }
  const rows = await target.sql('SELECT FROM pg_class WHERE oid >= 16384', [], 'cut')
  assert.deepEqual(rows, [])
})

test('a directory with a file that was cut or is missing is refused before', async () => {
  await fixture.target.sql('CREATE DATABASE directory')
  for (const from of ['d', 'e']) {
    const path = join(place, 'copied')
    cpSync(join(place, from), path, { recursive: true })
    const name = readdirSync(path).find((one) => {
      return one !== 'toc.dat' && statSync(join(path, one)).size > 3000
    })
    const large = join(path, name ?? '')
    truncateSync(large, statSync(large).size - 700)
    const failure = failureOf(await load('copied', 'directory'))
    assert.equal(failure.code, 'TM2112')
    assert.ok(failure.message.includes(name ?? ''), failure.message)
    await runChecked('/bin/rm', [large])
    assert.equal(failureOf(await load('copied', 'directory')).code, 'TM2112')
    await runChecked('/bin/rm', ['-r', path])
  }
})

test('missing parts, other compression, SQL of others', async () => {
  renameSync(join(place, 'packed.001'), join(place, 'away'))
  assert.equal(failureOf(await load('packed', 'x')).code, 'TM2111')
  renameSync(join(place, 'away'), join(place, 'packed.001'))
  renameSync(join(place, 'packed.002'), join(place, 'away'))
  await fixture.target.sql('CREATE DATABASE last_is_missing')
  assert.equal(failureOf(await load('packed', 'last_is_missing')).code, 'TM2112')
  truncateSync(join(place, 'split.001'), 100)
  assert.equal(failureOf(await load('split', 'x')).code, 'TM2111')
  writeFileSync(join(place, 'x.bz2'), 'BZh91AY&SY')
  assert.match(failureOf(await load('x.bz2', 'x')).message, /bzip2/)
  writeFileSync(join(place, 'x.sql'), 'DROP TABLE everything;')
  for (const name of ['x.sql', 'not-there', 'd/toc.dat', 'all.sql', 'clean.sql']) {
    assert.equal(failureOf(await load(name, 'x')).code, 'TM2110', name)
  }
})
