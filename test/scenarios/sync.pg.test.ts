/**
 * Two repositories of a real cluster, one of them away for some backups and WAL: after a sync
 * it restores alone, to the end of each backup and to moments between, byte for byte as the other;
 * what is damaged on either side is told, mended, and verified clean.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { after, before, test } from 'node:test'
import { removeDirectory } from '../harness/temporary-directory.ts'
import { failureOf, startTidemark, type TidemarkResult } from '../harness/tidemark.ts'
import {
  type FaultCluster,
  filesBelow,
  flipBit,
  inTheMiddle,
  type Mark,
  marksOf,
  remove,
  spoil,
  startFaultCluster,
} from './faults-cluster.ts'

interface SyncJson {
  readonly brought: {
    readonly backups: readonly string[]
    readonly packs: number
    readonly segments: number
  }
  readonly healed: readonly { readonly object: string; readonly frames: number | null }[]
  readonly keptBack: readonly { readonly backup: string }[]
  readonly problems: readonly {
    readonly object: string
    readonly code: string
    readonly repository: string
  }[]
}

let cluster: FaultCluster
let offsite: string
let both: string
const marks: Mark[] = []
const backups: string[] = []

/** Configurations beside that of the cluster: both repositories, and the second one alone. */
function writeConfigurations(): void {
  const [head = ''] = /^clusters:[\s\S]*/m.exec(readFileSync(cluster.config, 'utf8')) ?? []
  const clusters = head.replace(/^\s*repositories:.*$/m, '')
  const local = `  local: { url: "file://${cluster.repository}" }\n`
  const other = `  offsite: { url: "file://${offsite}" }\n`
  writeFileSync(both, `repositories:\n${local}${other}${clusters}`)
  writeFileSync(cluster.path('offsite.yaml'), `repositories:\n${other}${clusters}`)
  const { runAs } = cluster.server
  if (runAs !== undefined)
    execFileSync('chown', [`${runAs.uid}`, both, cluster.path('offsite.yaml')])
}

async function run(config: string, ...args: string[]): Promise<TidemarkResult> {
  const { runAs } = cluster.server
  return await startTidemark(['--config', config, ...args], { runAs }).done
}

async function ok(config: string, ...args: string[]): Promise<TidemarkResult> {
  const result = await run(config, ...args)
  assert.equal(result.status, 0, `${args.join(' ')}\n${result.stdout}${result.stderr}`)
  return result
}

async function sync(from: string, to: string, ...more: string[]): Promise<SyncJson> {
  const words = ['--json', 'sync', '--from', from, '--to', to, ...more]
  return (await ok(both, ...words)).json<SyncJson>()
}

before(async () => {
  cluster = await startFaultCluster()
  offsite = cluster.path('offsite')
  both = cluster.path('both.yaml')
  writeConfigurations()
  const place = ['--connection', cluster.server.url(), '--repository', `file://${offsite}`]
  await ok(cluster.path('throw-away.yaml'), 'init', '--yes', ...place, '--name', 'main')
  backups.push(await cluster.backup())
  marks.push(await cluster.mark(1))
  await sync('local', 'offsite')
  // The second repository is away from here on.
  backups.push(await cluster.backup())
  marks.push(await cluster.mark(2), await cluster.mark(3))
  backups.push(await cluster.backup())
  marks.push(await cluster.mark(4), await cluster.mark(5))
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

const files = (repository: string, pattern: RegExp): string[] =>
  filesBelow(join(repository, 'clusters')).filter((path) => pattern.test(path))

function digests(directory: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const path of filesBelow(directory)) {
    if (/^(tidemark\.|backup_manifest|postgresql\.(auto\.)?conf$)/.test(path)) continue
    const file = join(directory, path)
    if (!statSync(file).isFile()) continue
    found.set(path, createHash('sha256').update(readFileSync(file)).digest('hex'))
  }
  return found
}

/** From the second repository alone: the first is not even there. */
async function alone<T>(act: () => Promise<T>): Promise<T> {
  const undo = remove(cluster.repository)
  try {
    return await act()
  } finally {
    undo()
  }
}

async function restoreMarks(to: string): Promise<number[]> {
  const copy = cluster.path('copy')
  await ok(cluster.path('offsite.yaml'), 'restore', '--into', copy, '--to', to)
  try {
    return await marksOf(copy)
  } finally {
    await removeDirectory(copy)
  }
}

test('a dry run tells what the sync then brings, and nothing is brought twice', async () => {
  const planned = await sync('local', 'offsite', '--dry-run')
  assert.deepEqual(planned.brought.backups, backups.slice(1))
  const text = await ok(both, 'sync', '--from', 'local', '--to', 'offsite', '--dry-run')
  assert.match(text.stdout, /local to offsite: would bring 2 backups/)
  const done = await sync('local', 'offsite')
  assert.deepEqual(done.brought.backups, backups.slice(1))
  assert.equal(done.brought.packs, planned.brought.packs)
  assert.ok(done.brought.segments >= 4)
  for (const pattern of [/\.pack$/, /\.record$/, /\.wal$/, /\.backup$/]) {
    const [here, there] = [cluster.repository, offsite].map((one) => files(one, pattern))
    assert.deepEqual(there, here)
    for (const path of here ?? []) {
      const [a, b] = [cluster.repository, offsite].map((one) => join(one, 'clusters', path))
      assert.ok(readFileSync(a ?? '').equals(readFileSync(b ?? '')), path)
    }
  }
  const again = await sync('local', 'offsite')
  assert.deepEqual(again.brought.backups, [])
  assert.equal(again.brought.packs + again.brought.segments, 0)
  await ok(cluster.path('offsite.yaml'), 'verify', '--full')
})

test('a command line that does not say what to sync is refused', async () => {
  const [here, there] = [cluster.repository, offsite].map(filesBelow)
  for (const words of [
    ['--from', 'local'],
    ['--from', 'local', '--to', 'local'],
    ['--from', 'local', '--to', 'nowhere'],
    ['--from', 'local', '--to', 'offsite', '--heal', '--object', 'clusters/main/packs/x'],
    ['--from', 'local', '--to', 'offsite', '--object', 'clusters/main/verified.seen'],
  ]) {
    const result = await run(both, '--json', 'sync', ...words)
    assert.equal(result.status, 2, result.stdout + result.stderr)
    assert.equal(failureOf(result).code, 'TM1001')
  }
  assert.deepEqual([cluster.repository, offsite].map(filesBelow), [here, there])
})

test('the repository that was away restores alone, to backups and moments between', async () => {
  const reference = cluster.path('reference')
  await ok(both, 'restore', '--into', reference, '--to', `backup:${backups[2]}`)
  const expected = digests(reference)
  await removeDirectory(reference)
  await alone(async () => {
    const copy = cluster.path('bytes')
    const words = ['restore', '--into', copy, '--to', `backup:${backups[2]}`]
    await ok(cluster.path('offsite.yaml'), ...words)
    assert.deepEqual(digests(copy), expected)
    await removeDirectory(copy)
    assert.deepEqual(await restoreMarks(`backup:${backups[0]}`), [])
    assert.deepEqual(await restoreMarks(`backup:${backups[1]}`), [1])
    assert.deepEqual(await restoreMarks(`lsn:${marks[1]?.lsn}`), [1, 2])
    assert.deepEqual(await restoreMarks(marks[2]?.time ?? ''), [1, 2, 3])
    assert.deepEqual(await restoreMarks('latest'), [1, 2, 3, 4, 5])
  })
})

const KINDS: Record<string, RegExp> = {
  pack: /\.pack$/,
  record: /\.record$/,
  segment: /\.wal$/,
  label: /\.backup$/,
  identity: /systems\/\d+\.json$/,
}

for (const [kind, pattern] of Object.entries(KINDS)) {
  for (const how of ['damaged', 'missing'] as const) {
    test(`a ${kind} that is ${how} in the second repository is healed from the first`, async () => {
      const path = files(offsite, pattern).at(-1) as string
      const file = join(offsite, 'clusters', path)
      const intact = readFileSync(file)
      if (how === 'damaged') spoil(file, flipBit(inTheMiddle))
      else remove(file)
      const { healed, brought } = await sync('local', 'offsite', '--heal')
      const known = healed.map(({ object }) => object)
      if (how === 'damaged') assert.deepEqual(known, [`clusters/${path}`])
      else assert.ok(known.length + brought.segments + brought.packs + brought.backups.length <= 2)
      // Each repository has written its identities itself, at another time.
      assert.ok(kind === 'identity' || readFileSync(file).equals(intact))
      await ok(cluster.path('offsite.yaml'), 'verify', '--full')
    })
  }
}

interface Healable {
  readonly repository: string
  readonly command: string
}

interface VerifyJson {
  readonly repositories: readonly {
    readonly findings: readonly {
      readonly object: string
      readonly healableFrom: readonly Healable[] | null
    }[]
  }[]
}

test('verify tells from where its findings can be healed, and the command mends them', async () => {
  const kinds = [KINDS['pack'], KINDS['record'], KINDS['segment']] as RegExp[]
  const paths = kinds.map((pattern) => files(offsite, pattern)[0] as string)
  for (const path of paths) spoil(join(offsite, 'clusters', path), flipBit(inTheMiddle))
  const lost = join(offsite, 'clusters', files(offsite, /\.pack$/).at(-1) ?? '')
  remove(lost)
  const words = ['--json', 'verify', '--full', '--repository', 'offsite']
  const result = await run(both, ...words)
  assert.equal(result.status, 3, result.stdout + result.stderr)
  const [report] = result.json<VerifyJson>().repositories
  const findings = report?.findings ?? []
  for (const path of [...paths, relative(join(offsite, 'clusters'), lost)]) {
    const finding = findings.find(({ object }) => object === `clusters/${path}`)
    assert.equal(finding?.healableFrom?.[0]?.repository, 'local', JSON.stringify(findings, null, 1))
  }
  const text = await run(both, ...words.slice(1))
  assert.match(text.stdout, /healable: +local has it whole: tidemark sync main --from local/)
  const commands = new Set(findings.map(({ healableFrom }) => healableFrom?.[0]?.command ?? ''))
  for (const command of commands) await ok(both, ...command.split(' ').slice(1))
  await ok(both, ...words.slice(1))
})

test('damage in the first repository is named, does not travel, and is healed back', async () => {
  const [pack] = files(cluster.repository, /\.pack$/).filter((path) => /00000000\.pack$/.test(path))
  const file = join(cluster.repository, 'clusters', pack ?? '')
  const intact = readFileSync(file)
  spoil(file, flipBit(inTheMiddle))
  const third = cluster.path('third')
  writeFileSync(
    cluster.path('three.yaml'),
    readFileSync(both, 'utf8').replace('offsite:', `third: { url: "file://${third}" }\n  offsite:`),
  )
  const place = ['--connection', cluster.server.url(), '--repository', `file://${third}`]
  await ok(cluster.path('throw-away-2.yaml'), 'init', '--yes', ...place, '--name', 'main')
  const words = ['--json', 'sync', '--from', 'local', '--to', 'third']
  const result = await run(cluster.path('three.yaml'), ...words)
  assert.equal(result.status, 3, result.stdout + result.stderr)
  const { problems, keptBack, brought } = result.json<SyncJson>()
  const named = problems.find(({ object }) => object === `clusters/${pack}`)
  assert.equal(named?.code, 'TM1601')
  assert.equal(named?.repository, 'local')
  assert.equal(keptBack.length + brought.backups.length, backups.length)
  assert.ok(keptBack.length > 0)
  const { healed } = await sync('offsite', 'local', '--object', `clusters/${pack}`)
  assert.deepEqual(
    healed.map(({ object, frames }) => [object, frames]),
    [[`clusters/${pack}`, 1]],
  )
  assert.ok(readFileSync(file).equals(intact))
  await ok(cluster.path('three.yaml'), 'sync', '--from', 'local', '--to', 'third')
  await ok(cluster.path('three.yaml'), 'verify', '--full', '--repository', 'third')
})

test('what the retention of a repository would remove is not brought there', async () => {
  const [short, config] = [cluster.path('short'), cluster.path('four.yaml')]
  const place = ['--connection', cluster.server.url(), '--repository', `file://${short}`]
  await ok(cluster.path('throw-away-4.yaml'), 'init', '--yes', ...place, '--name', 'main')
  const four = readFileSync(both, 'utf8')
    .replace('  offsite:', `  short: { url: "file://${short}" }\n  offsite:`)
    .replace(/^( +)connection:/m, '$1retentionIn: { short: { last: 1 } }\n$1connection:')
  writeFileSync(config, four)
  const words = ['--json', 'sync', '--from', 'local', '--to', 'short']
  const { brought } = (await ok(config, ...words)).json<SyncJson>()
  assert.deepEqual(brought.backups, backups.slice(2))
  assert.ok(files(short, /\.wal$/).length < files(cluster.repository, /\.wal$/).length)
  const before = files(short, /./)
  await ok(config, 'expire', '--apply', '--repository', 'short')
  assert.deepEqual(files(short, /./), before)
  await ok(config, 'verify', '--full', '--repository', 'short')
  const copy = cluster.path('short-copy')
  await ok(config, 'restore', '--repository', 'short', '--into', copy)
  assert.deepEqual(await marksOf(copy), [1, 2, 3, 4, 5])
})

test('a sync into a new encrypted repository encrypts an existing one', async () => {
  const [sealed, config] = [cluster.path('sealed'), cluster.path('five.yaml')]
  const { runAs } = cluster.server
  const key = cluster.path('key')
  writeFileSync(key, 'f3b1'.repeat(16), { mode: 0o600 })
  if (runAs !== undefined) execFileSync('chown', [`${runAs.uid}`, key])
  const place = ['--connection', cluster.server.url(), '--repository', `file://${sealed}`]
  const init = ['init', '--yes', ...place, '--name', 'main', '--key-file', key]
  await ok(cluster.path('throw-away-5.yaml'), ...init)
  const entry = `  sealed: { url: "file://${sealed}", encryption: { keyFile: "${key}" } }\n`
  writeFileSync(config, readFileSync(both, 'utf8').replace('  offsite:', `${entry}  offsite:`))
  const words = ['--json', 'sync', '--from', 'local', '--to', 'sealed']
  const { brought } = (await ok(config, ...words)).json<SyncJson>()
  assert.deepEqual(brought.backups, backups)
  await ok(config, 'verify', '--full', '--repository', 'sealed')
  const copy = cluster.path('sealed-copy')
  await ok(config, 'restore', '--repository', 'sealed', '--into', copy)
  assert.deepEqual(await marksOf(copy), [1, 2, 3, 4, 5])
  const record = `clusters/main/backups/${backups[0]}.record`
  const [plain, hidden] = [cluster.repository, sealed].map((one) => readFileSync(join(one, record)))
  assert.equal(plain?.toString('latin1', 0, 8), 'TMOBJ001')
  assert.equal(hidden?.toString('latin1', 0, 8), 'TMSEAL01')
})
