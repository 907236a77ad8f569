/** `dump --format csv|text|binary` and `load` of it, as a user runs them, killed as well. */
import assert from 'node:assert/strict'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { CopyFixture } from '../harness/copying.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { failureOf, startTidemark, tidemark } from '../harness/tidemark.ts'

let fixture: CopyFixture
let base: string
let config: string

before(async () => {
  fixture = await CopyFixture.start(15)
  base = temporaryDirectory(undefined, 'tidemark-copy-test-')
  config = join(base, 'tidemark.yaml')
  writeFileSync(
    config,
    `repositories:\n  local: { url: "${fixture.storage.url}" }\n` +
      `clusters:\n  main:\n    connection: "${fixture.server.url('shop')}"\n`,
  )
  chmodSync(config, 0o644)
  await fixture.inBoth('CREATE TABLE "Or,ders" (id int, "No te" text)')
  await fixture.server.sql(
    `INSERT INTO "Or,ders" VALUES (1, ''), (2, NULL), (3, 'a,"b"')`,
    [],
    'shop',
  )
  await fixture.inBoth('CREATE TABLE large (id int, t text)')
  await fixture.server.sql(
    `INSERT INTO large SELECT g, md5(g::text) FROM generate_series(1, 200000) g`,
    [],
    'shop',
  )
})

after(async () => {
  await fixture.dispose()
  await removeDirectory(base)
})

async function run(words: readonly string[]) {
  return await tidemark(['--config', config, '--json', ...words])
}

interface DumpJson {
  readonly dump: { readonly id: string; readonly copy: { readonly rows: number } }
}

async function dump(words: readonly string[]): Promise<DumpJson['dump']> {
  const result = await run(['dump', ...words])
  assert.equal(result.status, 0, result.stderr + result.stdout)
  return result.json<DumpJson>().dump
}

test('the options of both commands do what they say', async () => {
  const { id, copy } = await dump([
    ...['--table', '"Or,ders"', '--columns', '"No te",id', '--where', 'id > 1', '--format', 'csv'],
    ...['--header', '--delimiter', '\\t', '--null', 'NIL', '--quote', "'", '--force-quote'],
  ])
  assert.equal(copy.rows, 2)
  const path = join(base, 'out.csv')
  const written = await run(['load', id, '--output', path])
  assert.equal(written.status, 0, written.stdout)
  assert.equal(readFileSync(path, 'utf8'), `No te\tid\nNIL\t'2'\n'a,"b"'\t'3'\n`)
  const loaded = await run(['load', id, '--into', 'goal'])
  assert.equal(loaded.status, 0, loaded.stdout)
  assert.equal(loaded.json<{ rows: number }>().rows, 2)
  const rows = ['(2,)', '(3,"a,""b""")']
  assert.deepEqual(await fixture.rowsOf('goal', '"Or,ders"'), rows)
  const again = await run(['load', id, '--into', 'goal'])
  assert.equal(failureOf(again).code, 'TM2083')
  const twice = await run(['load', id, '--into', 'goal', '--append', '--table', '"Or,ders"'])
  assert.equal(twice.status, 0, twice.stdout)
  assert.equal((await fixture.rowsOf('goal', '"Or,ders"')).length, 4)
  const text = await tidemark(['--config', config, 'load', id, '--into', 'goal', '--truncate'])
  assert.match(text.stdout, /^loaded 2 rows of dump .* into "public"\."Or,ders" of goal/)
  assert.deepEqual(await fixture.rowsOf('goal', '"Or,ders"'), rows)
})

const WRONG: readonly (readonly [readonly string[], string])[] = [
  [['dump', '--format', 'csv'], 'TM2081'],
  [['dump', '--query', 'SELECT 1'], 'TM2081'],
  [['dump', '--table', 'large', '--header'], 'TM2081'],
  [['dump', '--table', 'large', '--format', 'csv', '--schema', 'public'], 'TM2081'],
  [['dump', '--table', 'large', '--table', 'x', '--format', 'csv'], 'TM2081'],
  [['dump', '--table', 'large', '--format', 'csv', '--columns', 'a,,b'], 'TM2081'],
  [['dump', '--all', '--table', 'large', '--format', 'text'], 'TM2081'],
  [['dump', '--table', 'large', '--format', 'csv', '--schema-only'], 'TM2081'],
  [['load', 'latest', '--into', 'goal', '--create'], 'TM1001'],
  [['load', 'latest', '--into', 'goal', '--jobs', '2'], 'TM1001'],
  [['load', 'latest', '--into', 'goal', '--schema', 'public'], 'TM1001'],
  [['load', 'latest', '--into', 'goal', '--append', '--truncate'], 'TM1001'],
]

test('options that do not go together are told', async () => {
  await dump(['--table', 'large', '--where', 'id = 1', '--format', 'text'])
  for (const [words, code] of WRONG) {
    assert.equal(failureOf(await run(words)).code, code, words.join(' '))
  }
})

const SLOW = `SELECT id, CASE WHEN id = 150000 THEN pg_sleep(600)::text ELSE t END AS t FROM large`

test('a dump that is killed is nowhere, and the next one cleans up after it', async () => {
  const before = await fixture.keys()
  const words = ['--config', config, 'dump', '--format', 'csv', '--query', SLOW]
  const running = startTidemark(words)
  await fixture.waitFor(`SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)
  running.kill('SIGKILL')
  await running.done
  await fixture.server.sql(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`,
  )
  const left = (await fixture.keys()).filter((key) => !before.includes(key))
  assert.ok(left.length > 0)
  assert.ok(left.every((key) => !key.endsWith('.dump')))
  await dump(['--table', 'large', '--where', 'id = 2', '--format', 'csv'])
  const after = await fixture.keys()
  assert.deepEqual(
    left.filter((key) => after.includes(key)),
    [],
  )
})

test('a load that is killed has loaded nothing, and emptied nothing', async () => {
  await fixture.server.sql(
    `INSERT INTO large VALUES (-1, 'old');
     CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN IF NEW.id = 150000 THEN PERFORM pg_sleep(600); END IF; RETURN NEW; END';
     CREATE TRIGGER wait BEFORE INSERT ON large FOR EACH ROW EXECUTE FUNCTION wait()`,
    [],
    'goal',
  )
  const { id } = await dump(['--table', 'large', '--format', 'binary'])
  const running = startTidemark(['--config', config, 'load', id, '--into', 'goal', '--truncate'])
  await fixture.waitFor(`SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)
  running.kill('SIGKILL')
  await running.done
  await fixture.server.sql(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'`,
  )
  assert.deepEqual(await fixture.rowsOf('goal', 'large'), ['(-1,old)'])
  await fixture.server.sql('DROP TRIGGER wait ON large', [], 'goal')
  const again = await run(['load', id, '--into', 'goal', '--truncate'])
  assert.equal(again.json<{ rows: number }>().rows, 200_000)
  const rows = await fixture.rowsOf('shop', 'large')
  assert.deepEqual(await fixture.rowsOf('goal', 'large'), rows)
})
