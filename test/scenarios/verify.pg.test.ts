/**
 * `tidemark verify` of a real cluster's repository: nothing is found in a whole one, and its
 * counts are those of the directory; every kind of damage ends with status 3, names its
 * object and what it costs; mended, nothing is found again.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { FRAME_KINDS } from '../../src/repository/pack-format.ts'
import { openPack, type PackReader } from '../../src/repository/pack-reader.ts'
import { readBackup } from '../../src/repository/read-backups.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { openServerOn } from '../harness/postgres-server.ts'
import { environment } from '../harness/run-program.ts'
import { TIDEMARK, type TidemarkResult, tidemark } from '../harness/tidemark.ts'
import {
  type FaultCluster,
  filesBelow,
  flipBit,
  inTheMiddle,
  type Mark,
  mark,
  remove,
  spoil,
  startFaultCluster,
  waitUntilPromoted,
  withFault,
} from './faults-cluster.ts'

interface FindingJson {
  readonly code: string
  readonly object: string
  readonly frame: number | null
  readonly backups: readonly string[]
  readonly relations: readonly string[]
  readonly fix: string
  readonly intervals: readonly {
    readonly from: { readonly time: string | null; readonly lsn: string }
    readonly to: { readonly time: string | null; readonly lsn: string | null }
  }[]
}

interface ReportJson {
  readonly whole: boolean
  readonly findings: readonly FindingJson[]
  readonly proved: Readonly<Record<string, number>>
  readonly left: Readonly<Record<string, number>>
}

let cluster: FaultCluster
let storage: Storage
let marks: Mark[] = []
const records: BackupRecord[] = []

before(async () => {
  cluster = await startFaultCluster()
  const ids = [await cluster.backup()]
  marks = [await cluster.mark(1), await cluster.mark(2), await cluster.mark(3)]
  ids.push(await cluster.backup())
  marks.push(await cluster.mark(4), await cluster.mark(5))
  storage = await openStorage({ url: `file://${cluster.repository}` })
  for (const id of ids) records.push(await readBackup(storage, 'main', id))
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

const inRepository = (path: string): string => join(cluster.repository, path)

async function verifyFull(...more: string[]): Promise<{ result: TidemarkResult } & ReportJson> {
  const words = more.length > 0 ? more : ['--full']
  const result = await cluster.run('--json', 'verify', ...words)
  const [report] = result.json<{ repositories: ReportJson[] }>().repositories
  return { result, ...(report as ReportJson) }
}

/** With the damage status 3 and the object; mended, status 0. */
async function assertFound(
  undo: () => void,
  check: (report: ReportJson) => void | Promise<void>,
): Promise<void> {
  await withFault(undo, async () => {
    const { result, ...report } = await verifyFull()
    assert.equal(result.status, 3, result.stdout + result.stderr)
    assert.equal(report.whole, false)
    await check(report)
  })
  const { result } = await verifyFull()
  assert.equal(result.status, 0, result.stdout)
}

function findingOf({ findings }: ReportJson, object: string): FindingJson {
  const finding = findings.find((one) => one.object.endsWith(object))
  assert.ok(finding !== undefined, `${object} is not named: ${JSON.stringify(findings, null, 1)}`)
  return finding
}

const ids = (...backups: (BackupRecord | undefined)[]): string[] =>
  backups.map((backup) => backup?.id ?? '').sort()

test('a whole repository: status 0, and the counts of the directory', async () => {
  const { result, findings, proved } = await verifyFull()
  assert.equal(result.status, 0, result.stdout)
  assert.deepEqual(findings, [])
  const files = filesBelow(cluster.repository).filter((path) => {
    return statSync(inRepository(path)).isFile() && !path.includes('.incoming')
  })
  const objects = files.filter((path) => !path.endsWith('verified.seen'))
  assert.equal(proved['objects'], objects.length)
  const bytes = objects.reduce((sum, path) => sum + statSync(inRepository(path)).size, 0)
  assert.equal(proved['bytes'], bytes)
  assert.equal(proved['packs'], files.filter((path) => path.endsWith('.pack')).length)
  assert.equal(proved['segments'], files.filter((path) => path.endsWith('.wal')).length)
  assert.equal(proved['backups'], 2)
  const named = new Set(records.flatMap(({ packs }) => packs.map(({ id }) => id)))
  let pages = 0
  for (const id of named) {
    for (const { kind, slots } of (await openPack(storage, 'main', id)).frames) {
      if (kind === FRAME_KINDS.pages) pages += slots
    }
  }
  assert.equal(proved['pages'], pages)
  const text = await cluster.ok('verify', '--full')
  assert.match(text.stdout, /no finding/)
  assert.match(text.stdout, new RegExp(`${objects.length} objects|${objects.length + 1} objects`))
})

test('the default run proves what is new, and then nothing twice', async () => {
  const first = await verifyFull('--days', '30')
  assert.equal(first.result.status, 0, first.result.stdout)
  const again = await verifyFull('--days', '30')
  assert.equal(again.result.status, 0)
  assert.equal(again.proved['packs'], 0)
  assert.equal(again.proved['segments'], 0)
})

/** A frame of this kind, and the pack that it lies in. */
async function findFrame(
  kind: number,
  packs: readonly { readonly id: string }[],
): Promise<{ reader: PackReader; frame: number }> {
  for (const { id } of packs) {
    const reader = await openPack(storage, 'main', id)
    const frame = reader.frames.findLastIndex((entry) => entry.kind === kind)
    if (frame >= 0) return { reader, frame }
  }
  throw new Error(`no frame of kind ${kind}`)
}

/** Those of dumps lie in packs of their own: src/dump/verify-dumps.test.ts. */
const ofBackups = Object.entries(FRAME_KINDS).filter(([, kind]) => kind <= FRAME_KINDS.record)

for (const [name, kind] of ofBackups) {
  test(`a bit flipped in a frame of ${name}`, async () => {
    const [first] = records
    const { reader, frame } = await findFrame(kind, first?.packs ?? [])
    const entry = reader.frames[frame]
    const at = (entry?.offset ?? 0) + ((entry?.storedLength ?? 0) >> 1)
    const undo = spoil(
      inRepository(reader.key),
      flipBit(() => at),
    )
    await assertFound(undo, (report) => {
      const finding = findingOf(report, reader.key)
      assert.equal(finding.code, 'TM1601')
      assert.equal(finding.frame, frame)
      const isNeeded = ['pages', 'content', 'leaves', 'fileList'].includes(name)
      if (isNeeded) assert.ok(finding.backups.includes(first?.id ?? ''), JSON.stringify(finding))
      else assert.deepEqual(finding.backups, [])
      if (name === 'pages') assert.ok(finding.relations.some((one) => /^\w+\.\w+\.\w+$/.test(one)))
    })
  })
}

const PACK_DAMAGE: Record<string, (bytes: Buffer) => Buffer> = {
  'a bit flipped in its header': flipBit(() => 10),
  'a bit flipped in its index': flipBit((length) => length - 70),
  'a bit flipped in its trailer': flipBit((length) => length - 50),
  'cut in the middle': (bytes) => bytes.subarray(0, bytes.length >> 1),
  empty: () => Buffer.alloc(0),
}

function ownPack(of: BackupRecord | undefined, not?: BackupRecord): string {
  const pack = of?.packs.find(({ id }) => !not?.packs.some((one) => one.id === id))
  const id = pack?.id ?? ''
  return `clusters/main/packs/${id.slice(0, 24)}/${id.slice(24)}.pack`
}

for (const [name, change] of Object.entries(PACK_DAMAGE)) {
  test(`a pack: ${name}`, async () => {
    const [first, second] = records
    const own = ownPack(second, first)
    await assertFound(spoil(inRepository(own), change), (report) => {
      assert.deepEqual(findingOf(report, own).backups, ids(second))
    })
  })
}

test('a pack is missing: the backups that name it, their relations and the moments', async () => {
  const [first, second] = records
  const shared = ownPack(first)
  await assertFound(remove(inRepository(shared)), (report) => {
    const finding = findingOf(report, shared)
    assert.equal(finding.code, 'TM1602')
    assert.deepEqual(finding.backups, ids(first, second))
    assert.equal(finding.intervals[0]?.from.time, first?.stoppedAt)
    assert.equal(finding.intervals[0]?.to.time, null)
    assert.match(finding.fix, /tidemark backup/)
  })
  const own = ownPack(second, first)
  await assertFound(remove(inRepository(own)), (report) => {
    const finding = findingOf(report, own)
    assert.deepEqual(finding.backups, ids(second))
    assert.deepEqual(finding.intervals, [])
  })
})

test('two packs changed places', async () => {
  const [first, second] = records
  const [one, other] = [ownPack(first), ownPack(second, first)].map(inRepository) as [
    string,
    string,
  ]
  const swap = (): void => {
    renameSync(one, `${one}.swap`)
    renameSync(other, one)
    renameSync(`${one}.swap`, other)
  }
  swap()
  await assertFound(swap, (report) => {
    assert.deepEqual(findingOf(report, ownPack(first)).backups, ids(first, second))
    assert.deepEqual(findingOf(report, ownPack(second, first)).backups, ids(second))
  })
})

test('a record is damaged or missing, and is rebuilt', async () => {
  const key = `clusters/main/backups/${records[0]?.id}.record`
  await assertFound(spoil(inRepository(key), flipBit(inTheMiddle)), (report) => {
    const finding = findingOf(report, key)
    assert.deepEqual([finding.code, finding.backups], ['TM1601', ids(records[0])])
    assert.match(finding.fix, /--rebuild-catalogue/)
  })
  await assertFound(remove(inRepository(key)), (report) => {
    const finding = findingOf(report, key)
    assert.deepEqual([finding.code, finding.backups], ['TM1602', ids(records[0])])
  })
  execFileSync('rm', [inRepository(key)])
  const rebuilt = await cluster.ok('verify', '--full', '--rebuild-catalogue')
  assert.match(rebuilt.stdout, /was missing and is written again/)
  assert.deepEqual(await readBackup(storage, 'main', records[0]?.id ?? ''), records[0])
})

test('a WAL segment: flipped, missing in the middle, foreign', async () => {
  const [middle, other] = [marks[1] as Mark, marks[2] as Mark]
  const file = cluster.segmentFile(middle.segment)
  const assertLoss = (report: ReportJson, code: string): void => {
    const finding = findingOf(report, `${middle.segment}.wal`)
    assert.equal(finding.code, code)
    assert.deepEqual(finding.backups, [])
    const [interval] = finding.intervals
    // From before what the segment holds, to the backup behind it.
    assert.ok(
      Date.parse(interval?.from.time ?? '') <= Date.parse(middle.time),
      JSON.stringify(interval),
    )
    assert.equal(interval?.to.time, records[1]?.stoppedAt)
    assert.match(finding.fix, /wal push/)
  }
  await assertFound(spoil(file, flipBit(inTheMiddle)), (report) => assertLoss(report, 'TM1601'))
  await assertFound(remove(file), (report) => assertLoss(report, 'TM1408'))
  const foreign = spoil(file, () => readFileSync(cluster.segmentFile(other.segment)))
  await assertFound(foreign, (report) => assertLoss(report, 'TM1601'))
})

test('WAL that a backup needs to be consistent takes the backup with it', async () => {
  const [first, second] = records
  await assertFound(remove(cluster.segmentFile(second?.walLast ?? '')), (report) => {
    const finding = findingOf(report, `${second?.walLast}.wal`)
    assert.equal(finding.code, 'TM1408')
    assert.deepEqual(finding.backups, ids(second))
  })
  await assertFound(
    spoil(cluster.segmentFile(first?.walFirst ?? ''), flipBit(inTheMiddle)),
    (report) => {
      const finding = findingOf(report, `${first?.walFirst}.wal`)
      assert.deepEqual(finding.backups, ids(first))
      assert.equal(finding.intervals[0]?.to.time, second?.stoppedAt)
    },
  )
})

test('the last segment is missing: seen before, it is missed', async () => {
  const last = marks.at(-1) as Mark
  await assertFound(remove(cluster.segmentFile(last.segment)), (report) => {
    const finding = findingOf(report, `${last.segment}.wal`)
    assert.equal(finding.code, 'TM1408')
    assert.equal(finding.intervals[0]?.to.time, null)
  })
})

test('a summary for people names code, object, backups and what to do', async () => {
  const undo = remove(inRepository(ownPack(records[0])))
  await withFault(undo, async () => {
    const { status, stdout } = await cluster.run('verify')
    assert.equal(status, 3)
    assert.match(stdout, /TM1602: the object clusters\/main\/packs/)
    assert.match(stdout, new RegExp(`not whole any more: ${records[0]?.id}`))
    assert.match(stdout, /fix: +move clusters/)
    assert.match(stdout, /1 finding/)
  })
  // What the packs before it said stays remembered: the default run finds it whole again.
  await cluster.ok('verify')
})

/** Ends with this status when it is interrupted as soon as it says `when`. */
async function interruptAt(when: string): Promise<number | null> {
  const words = ['--config', cluster.config, '--progress', 'verify', '--full']
  const child = spawn(TIDEMARK, words, { env: environment(), cwd: '/', ...cluster.server.runAs })
  child.stdout.resume()
  child.stderr.on('data', (chunk: Buffer) => {
    if (chunk.includes(when)) child.kill('SIGINT')
  })
  const [status] = (await once(child, 'close')) as [number | null]
  return status
}

test('Ctrl-C ends it with 130, and the next run is none the wiser', async () => {
  const before = filesBelow(cluster.repository)
  for (const when of ['proving packs', 'proving page maps', 'reading WAL']) {
    assert.equal(await interruptAt(when), 130, when)
    assert.deepEqual(filesBelow(cluster.repository), before)
  }
  await cluster.ok('verify', '--full')
})

test('options that contradict each other are refused', async () => {
  for (const words of [
    ['--full', '--backup', 'latest'],
    ['--full', '--budget', '1GiB'],
    ['--budget', 'much'],
    ['--days', '-1'],
  ]) {
    assert.equal((await cluster.run('verify', ...words)).status, 2, words.join(' '))
  }
  assert.notEqual((await cluster.run('verify', '--backup', '20200101-000000-aaaa')).status, 0)
  await cluster.ok('verify', '--backup', records[0]?.id ?? '')
  await cluster.ok('verify', '--budget', '1GiB')
  await cluster.ok('verify', '--budget', '10s')
})

test('what a finding says to do mends it: a segment', async () => {
  const { segment } = marks[1] as Mark
  const kept = cluster.path(segment)
  await cluster.ok('wal', 'get', segment, kept, '--system-identifier', cluster.systemIdentifier)
  for (const change of [flipBit(inTheMiddle), undefined]) {
    const file = cluster.segmentFile(segment)
    const undo = change === undefined ? remove(file) : spoil(file, change)
    assert.equal((await verifyFull()).result.status, 3)
    await cluster.ok('wal', 'push', kept, '--system-identifier', cluster.systemIdentifier)
    assert.equal((await verifyFull()).result.status, 0)
    undo()
  }
})

test('what a finding says to do mends it: a pack, for the backups to come', async () => {
  const shared = inRepository(ownPack(records[0]))
  const damage = spoil(shared, flipBit(inTheMiddle))
  const { findings } = await verifyFull()
  assert.match(findings[0]?.fix ?? '', /^move clusters.* then run: tidemark backup main/)
  const away = remove(shared)
  const id = await cluster.backup()
  const newest = await verifyFull('--backup', id)
  assert.equal(newest.result.status, 0, newest.result.stdout)
  const all = await verifyFull()
  assert.equal(all.result.status, 3)
  assert.deepEqual(all.findings[0]?.backups, ids(...records))
  away()
  damage()
  assert.equal((await verifyFull()).result.status, 0)
})

test('every repository is verified, and one that is away stops no other', async () => {
  const config = cluster.path('two.yaml')
  const two = {
    repositories: {
      away: { url: `file://${cluster.path('away')}` },
      local: { url: `file://${cluster.repository}` },
    },
    clusters: { main: { connection: cluster.server.url(), repositories: ['away', 'local'] } },
  }
  // JSON is YAML.
  writeFileSync(config, JSON.stringify(two))
  const words = ['--config', config, '--json', 'verify', '--full']
  const result = await tidemark(words, { runAs: cluster.server.runAs })
  const { repositories, whole } = result.json<{
    whole: boolean
    repositories: (ReportJson & { error: { code: string } | null })[]
  }>()
  assert.ok([1, 2].includes(result.status ?? 0), result.stdout)
  assert.equal(whole, false)
  assert.deepEqual(
    repositories.map(({ error }) => error?.code),
    ['TM1503', undefined],
  )
  assert.equal(repositories[1]?.whole, true)
})

test('a page that was damaged in the cluster is told apart', async () => {
  const { server } = cluster
  await server.sql(
    'CREATE TABLE rotten AS SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, 500) g',
  )
  const [row] = await server.sql<{ path: string }>(`SELECT pg_relation_filepath('rotten') AS path`)
  await server.sql('CHECKPOINT')
  const file = join(server.dataDirectory, row?.path ?? '')
  const kept = cluster.path('rotten')
  copyFileSync(file, kept)
  spoil(
    file,
    flipBit(() => 3 * 8192 + 5000),
  )
  execFileSync('rm', [`${file}.intact`])
  const id = await cluster.backup()
  const { damage } = await readBackup(storage, 'main', id)
  assert.deepEqual(
    damage.map(({ blocks }) => blocks),
    [[3]],
  )
  const { result, findings, proved } = await verifyFull()
  assert.equal(result.status, 0, result.stdout)
  assert.deepEqual(findings, [])
  assert.equal(proved['knownDamage'], 1)

  // The same backup, had it not noticed.
  const { encodeEnvelope } = await import('../../src/repository/envelope.ts')
  const key = `clusters/main/backups/${id}.record`
  const record = await readBackup(storage, 'main', id)
  const unaware = Buffer.from(JSON.stringify({ ...record, damage: [] }))
  const undo = spoil(inRepository(key), () => Buffer.from(encodeEnvelope('RECD', unaware)))
  await assertFound(undo, (report) => {
    const [finding] = report.findings
    assert.equal(finding?.code, 'TM1604')
    assert.deepEqual(finding?.backups, [id])
    assert.match(finding?.relations[0] ?? '', /\.public\.rotten$/)
  })
})

test('a successor writes a second timeline: its history is damaged or missing', async () => {
  await cluster.server.stop()
  const directory = cluster.path('heir')
  await cluster.ok('restore', '--into', directory, '--to', 'latest', '--take-over')
  await using heir = await openServerOn(directory)
  await waitUntilPromoted(heir)
  const six = await mark(heir, 6)
  assert.equal(six.segment.slice(0, 8), '00000002')
  assert.equal((await verifyFull()).result.status, 0)
  const key = `clusters/main/wal/${cluster.systemIdentifier}/00000002.history`
  const assertLoss = (report: ReportJson, code: string): void => {
    const finding = findingOf(report, key)
    assert.equal(finding.code, code)
    assert.equal(finding.intervals.length, 1, JSON.stringify(finding))
    assert.match(finding.fix, /wal push/)
  }
  const flipped = spoil(inRepository(key), flipBit(inTheMiddle))
  await assertFound(flipped, (report) => assertLoss(report, 'TM1601'))
  await assertFound(remove(inRepository(key)), (report) => assertLoss(report, 'TM1602'))
  // The parent's copy of the fork's segment does not stand in for the successor's own.
  const first = filesBelow(cluster.repository).find((path) => /\/00000002\/.*\.wal$/.test(path))
  await assertFound(remove(inRepository(first as string)), (report) => {
    assert.equal(findingOf(report, first as string).code, 'TM1408')
  })
})
