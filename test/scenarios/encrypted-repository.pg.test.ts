/**
 * An encrypted repository from init to a restored cluster, with every command of the way; what
 * its bytes tell; wrong keys, and what is told of them.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chownSync, cpSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { rescueOk, rescueReaderMissing, unseal } from '../harness/rescue-reader.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { failureOf, tidemark, tidemarkOk, type TidemarkResult } from '../harness/tidemark.ts'
import { archiveNow, filesBelow, openRecovered } from './recovery-cluster.ts'

const KEY = 'f3b1'.repeat(16)
const DATABASE = 'zebra_database'
const TABLE = 'quokka_ledger'
const CONTENT = 'numbat content that nobody else shall read'

let server: PostgresServer
let directory: string
let config: string
let repository: string
let keyFile: string
let backup: string
let moment: string

/** No command tells a key; every call here looks. */
async function run(...args: string[]): Promise<TidemarkResult> {
  const result = await tidemark(['--config', config, ...args], { runAs: server.runAs })
  assert.ok(!`${result.stdout}${result.stderr}`.includes(KEY), `${args[0]} tells the key`)
  return result
}

async function ok(...args: string[]): Promise<TidemarkResult> {
  const result = await run(...args)
  assert.equal(result.status, 0, `${args.join(' ')}\n${result.stdout}${result.stderr}`)
  return result
}

function writeOwned(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600 })
  if (server.runAs !== undefined) chownSync(path, server.runAs.uid, server.runAs.gid)
}

async function init(): Promise<TidemarkResult> {
  const place = ['--connection', server.url(), '--repository', `file://${repository}`]
  return await run('init', '--yes', ...place, '--key-file', keyFile, '--configure')
}

before(async () => {
  server = await startPostgres({ settings: { archive_mode: 'on', wal_level: 'replica' } })
  directory = temporaryDirectory(server.runAs, 'tidemark-encrypted-')
  config = join(directory, 'tidemark.yaml')
  repository = join(directory, 'repository')
  keyFile = join(directory, 'key')
})

after(async () => {
  await server?.dispose()
  if (directory !== undefined) await removeDirectory(directory)
})

test('init without a usable key creates nothing', async () => {
  const missing = await init()
  assert.equal(missing.status, 2)
  assert.match(
    missing.stderr,
    /TM1523: the key file .*key of repositories.local.encryption.keyFile/,
  )
  writeOwned(keyFile, 'too short\n')
  const short = await init()
  assert.match(short.stderr, /TM1523: .*\n {2}because: it has 9 bytes/)
  assert.deepEqual(filesBelow(repository), [])
  assert.throws(() => statSync(config))
})

test('init writes the configuration, the marker and the first key; again, nothing', async () => {
  writeOwned(keyFile, `${KEY}\n`)
  const first = await init()
  assert.equal(first.status, 0, first.stderr)
  assert.match(first.stdout, /created, encrypted/)
  assert.match(readFileSync(config, 'utf8'), new RegExp(`keyFile: ${keyFile}`))
  const marker = JSON.parse(readFileSync(join(repository, 'tidemark.repository'), 'utf8'))
  assert.equal(marker.encryption, 1)
  const before = filesBelow(repository).map(
    (name) => `${name} ${statSync(join(repository, name)).mtimeMs}`,
  )
  assert.equal((await init()).status, 0)
  const now = filesBelow(repository).map(
    (name) => `${name} ${statSync(join(repository, name)).mtimeMs}`,
  )
  assert.deepEqual(
    now.filter((name) => !name.includes('.incoming')),
    before.filter((name) => !name.includes('.incoming')),
  )
  assert.ok(now.some((name) => name.startsWith('keys/00000001.key')))
})

test('backups, WAL, a restore to a moment, verify and doctor', async () => {
  await server.sql(`CREATE DATABASE ${DATABASE}`)
  const sql = async (text: string) => await server.sql(text, [], DATABASE)
  await sql(`CREATE TABLE ${TABLE} (id int PRIMARY KEY, content text)`)
  await sql(`INSERT INTO ${TABLE} SELECT i, '${CONTENT} ' || i FROM generate_series(1, 5000) i`)
  const { backups } = (await ok('backup', '--json')).json<{ backups: { id: string }[] }>()
  backup = backups[0]?.id ?? ''
  await sql(`INSERT INTO ${TABLE} VALUES (10001, '${CONTENT} kept')`)
  const [row] = await server.sql<{ at: string }>(
    `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USZ') AS at`,
  )
  moment = row?.at ?? ''
  await sql(`DELETE FROM ${TABLE}`)
  await archiveNow(server)
  await ok('backup')
  await archiveNow(server)
  const into = join(directory, 'restored')
  await ok('restore', '--into', into, '--to', moment)
  await using copy = await openRecovered(into)
  const [found] = await copy.sql<{ count: number }>(
    `SELECT count(*)::int AS count FROM ${TABLE}`,
    [],
    DATABASE,
  )
  assert.equal(found?.count, 5001)
  for (const words of [['verify', '--full'], ['list'], ['window'], ['status'], ['wal', 'list']]) {
    await ok(...words)
  }
  assert.match((await ok('show', backup)).stdout, new RegExp(backup))
  const doctor = await run('doctor')
  assert.ok(!/problem /.test(doctor.stdout), doctor.stdout)
})

/** Every zstd frame in it, decompressed, where it is one. */
function expand(bytes: Buffer): string[] {
  const found: string[] = []
  const magic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])
  for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at + 1)) {
    try {
      found.push(zstdDecompressSync(bytes.subarray(at)).toString('latin1'))
    } catch {
      // Four bytes that look like the beginning of a frame.
    }
  }
  return found
}

test('no content and no name can be read in what is stored', () => {
  const words = [DATABASE, TABLE, CONTENT, 'pg_class', 'PG_VERSION', 'base/', 'TMPACK', 'TMWAL']
  let looked = 0
  for (const name of filesBelow(repository)) {
    const path = join(repository, name)
    if (!statSync(path).isFile()) continue
    const bytes = readFileSync(path)
    const isOpen = name === 'tidemark.repository' || name.startsWith('keys/')
    assert.equal(bytes.toString('latin1', 0, 8) === 'TMSEAL01', !isOpen, name)
    for (const text of [bytes.toString('latin1'), ...expand(bytes)]) {
      for (const word of words) assert.ok(!text.includes(word), `${word} in ${name}`)
    }
    looked += 1
  }
  assert.ok(looked > 10, `${looked} objects`)
})

test('the same search finds the words in a repository that is not encrypted', async () => {
  const plain = join(directory, 'plain')
  const other = ['--config', join(directory, 'plain.yaml')]
  const place = ['--connection', server.url(), '--repository', `file://${plain}`]
  await tidemarkOk([...other, 'init', '--yes', ...place], { runAs: server.runAs })
  await tidemarkOk([...other, 'backup', '--no-archive-check'], { runAs: server.runAs })
  const all = filesBelow(plain).filter((name) => name.endsWith('.pack'))
  const found = all.flatMap((name) => expand(readFileSync(join(plain, name))))
  assert.ok(found.some((one) => one.includes('PG_VERSION')))
})

/** With the file's text of `encryption` replaced; without it when that is undefined. */
async function withEncryption(text: string | undefined, use: () => Promise<void>): Promise<void> {
  const before = readFileSync(config, 'utf8')
  const changed = before.replace(
    / {4}encryption:\n {6}keyFile: .*\n/,
    text === undefined ? '' : `    encryption: ${text}\n`,
  )
  assert.notEqual(changed, before)
  writeOwned(config, changed)
  try {
    await use()
  } finally {
    writeOwned(config, before)
  }
}

async function refusal(...args: string[]) {
  const result = await run('--json', ...args)
  assert.ok(result.status !== 0, args.join(' '))
  return failureOf(result)
}

test('a wrong key is told, and told apart from damage', async () => {
  const wrong = join(directory, 'wrong')
  writeOwned(wrong, 'x'.repeat(64))
  await withEncryption(`{ keyFile: ${wrong} }`, async () => {
    for (const words of [['list'], ['backup'], ['restore', '--into', join(directory, 'no')]]) {
      assert.equal((await refusal(...words)).code, 'TM1522')
    }
    const doctor = await run('doctor', '--no-proof')
    assert.match(doctor.stdout, /TM1522|does not open/)
    assert.equal(doctor.status, 3)
    const slots = readdirSync(join(repository, 'keys/slots'))
    const slot = join(repository, 'keys/slots', slots[0] ?? '')
    const whole = readFileSync(slot)
    writeOwned(slot, whole.toString('utf8').replace(/[0-9a-f]{8}/, '00000000'))
    assert.equal((await refusal('list')).code, 'TM1606')
    writeOwned(slot, whole.toString('utf8'))
  })
  await withEncryption('{ passphrase: "what a long passphrase" }', async () => {
    assert.equal((await refusal('list')).code, 'TM1522')
  })
})

test('encrypted and not encrypted are told apart both ways', async () => {
  await withEncryption(undefined, async () => {
    for (const words of [['list'], ['backup'], ['status', '--check'], ['show', 'latest']]) {
      const result = await run(...words)
      assert.ok(result.status !== 0)
      assert.match(`${result.stdout}${result.stderr}`, /TM1520|is encrypted, and no key/)
    }
    const segment = readdirSync(join(server.dataDirectory, 'pg_wal')).find((name) =>
      /^0{7}1/.test(name),
    )
    const pushed = await run('wal', 'push', join(server.dataDirectory, 'pg_wal', segment ?? ''))
    assert.match(pushed.stderr, /TM1520/)
  })
  const copy = join(directory, 'copy')
  cpSync(repository, copy, { recursive: true })
  if (server.runAs !== undefined) chownSync(copy, server.runAs.uid, server.runAs.gid)
  const text = readFileSync(config, 'utf8')
  const marker = join(repository, 'tidemark.repository')
  const whole = readFileSync(marker, 'utf8')
  writeOwned(marker, whole.replace(',"encryption":1', ''))
  assert.equal((await refusal('list')).code, 'TM1521')
  writeOwned(marker, whole)
  writeOwned(config, text)
  await ok('list')
})

test('a key command is run by a shell, which replaces its variables itself', async () => {
  await withEncryption(`{ keyCommand: 'FILE=${keyFile}; cat "$FILE"' }`, async () => {
    await ok('list')
  })
  await withEncryption(`{ keyCommand: 'echo no vault here >&2; exit 7' }`, async () => {
    const failure = await refusal('list')
    assert.equal(failure.code, 'TM1523')
    assert.equal(failure.because, 'exit status 7: no vault here')
  })
})

interface KeysJson {
  readonly slots: readonly { id: string; kind: string; opensNewest: boolean }[]
  readonly generations: readonly { generation: number; objects: number }[]
}

const keys = async (): Promise<KeysJson> => (await ok('key', 'list', '--json')).json<KeysJson>()

test('slots: a passphrase is added, opens everything, and the last slot stays', async () => {
  const phrase = join(directory, 'phrase')
  writeOwned(phrase, 'correct horse battery staple\n')
  const said = await run('key', 'add', '--passphrase', 'correct horse battery staple')
  assert.equal(said.status, 2, 'a passphrase does not stand on the command line')
  const before = await keys()
  const added = await ok(
    'key',
    'add',
    '--passphrase',
    `file:${phrase}`,
    '--label',
    'safe',
    '--json',
  )
  const { slot } = added.json<{ slot: string }>()
  await withEncryption(`{ passphrase: "file:${phrase}" }`, async () => {
    await ok('verify', '--full')
    assert.equal((await refusal('key', 'remove', slot)).code, 'TM1524')
  })
  assert.equal((await refusal('key', 'remove', before.slots[0]?.id ?? '')).code, 'TM1524')
  assert.equal((await refusal('key', 'remove', '0000000000000000')).code, 'TM1525')
  assert.equal((await keys()).slots.length, 2)
  const listed = (await ok('key', 'list')).stdout
  assert.match(listed, /passphrase .* safe/)
  assert.match(listed, /opened this run/)
})

test('the key is rotated and all is sealed anew beside a running backup and its WAL', async () => {
  await server.sql(
    `INSERT INTO ${TABLE} SELECT i, md5(i::text) FROM generate_series(1, 60000) i`,
    [],
    DATABASE,
  )
  const [backingUp, rotated] = await Promise.all([
    run('backup', '--json'),
    run('key', 'rotate', '--rewrite', '--json'),
  ])
  assert.equal(backingUp.status, 0, backingUp.stderr)
  assert.equal(rotated.status, 0, rotated.stderr)
  const { rewritten } = rotated.json<{ rewritten: { objects: number; damaged: unknown[] } }>()
  assert.ok(rewritten.objects > 10, `${rewritten.objects}`)
  await archiveNow(server)
  await ok('backup')
  await ok('key', 'rotate', '--rewrite')
  const { generations } = await keys()
  const older = generations.slice(0, -1).reduce((sum, { objects }) => sum + objects, 0)
  // What verify has remembered is sealed anew by the next verify.
  assert.ok(older <= 1, JSON.stringify(generations))
  await ok('verify', '--full')
  const into = join(directory, 'after-rotation')
  await ok('restore', '--into', into)
  await using copy = await openRecovered(into)
  const [found] = await copy.sql<{ count: number }>(
    `SELECT count(*)::int AS count FROM ${TABLE}`,
    [],
    DATABASE,
  )
  assert.equal(found?.count, 60000)
  const early = join(directory, 'early')
  await ok('restore', '--into', early, '--to', moment)
})

test('a passphrase is derived once, and what is remembered is not the key', async () => {
  const phrase = join(directory, 'phrase')
  await withEncryption(`{ passphrase: "file:${phrase}" }`, async () => {
    await ok('list')
    await server.sql('SELECT pg_switch_wal()')
    await archiveNow(server)
    await ok('wal', 'list')
  })
})

test('unseal.py and rescue.py restore it without Tidemark', {
  skip: rescueReaderMissing(),
}, async () => {
  const open = join(directory, 'unsealed')
  const opened = await unseal(repository, open, '--key-file', keyFile)
  assert.equal(opened.status, 0, opened.stderr)
  const { backups } = (await ok('list', '--json')).json<{ backups: { id: string }[] }>()
  const newest = backups.at(-1)?.id ?? ''
  const into = join(directory, 'rescued')
  await rescueOk(open, 'restore', newest, into, '--wal')
  const { runAs } = server
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, into])
  await using copy = await openRecovered(into)
  const [found] = await copy.sql<{ count: number }>(
    `SELECT count(*)::int AS count FROM ${TABLE}`,
    [],
    DATABASE,
  )
  assert.equal(found?.count, 60000)
})

/** The last test: doctor --fix sets the server's archive_command to this configuration. */
test('doctor --fix creates an encrypted repository where the configuration names one', async () => {
  const other = join(directory, 'other.yaml')
  const url = `file://${join(directory, 'other')}`
  const phrase = join(directory, 'phrase')
  writeOwned(
    other,
    `repositories:\n  other: { url: "${url}", encryption: { passphrase: "file:${phrase}" } }\n` +
      `clusters:\n  main: { connection: "${server.url()}" }\n`,
  )
  const words = ['--config', other]
  const doctor = await tidemark([...words, 'doctor', '--fix', '--no-proof', '--json'], {
    runAs: server.runAs,
  })
  const { mended, checks } = doctor.json<{
    mended: string[]
    checks: { code: string; result: string; detail: string }[]
  }>()
  assert.ok(mended.includes(`created the repository ${url}`), JSON.stringify(mended))
  const reachable = checks.find(({ code }) => code === 'TM1710')
  assert.equal(reachable?.result, 'ok', reachable?.detail)
  const marker = readFileSync(join(directory, 'other/tidemark.repository'), 'utf8')
  assert.equal(JSON.parse(marker).encryption, 1)
  await tidemarkOk([...words, 'backup'], { runAs: server.runAs })
  await tidemarkOk([...words, 'verify', '--full'], { runAs: server.runAs })
  const key = await tidemarkOk([...words, 'key', 'list', '--json'], { runAs: server.runAs })
  const { slots, generations } = key.json<KeysJson>()
  assert.deepEqual(
    slots.map(({ kind }) => kind),
    ['passphrase'],
  )
  assert.ok((generations[0]?.objects ?? 0) > 3)
})
