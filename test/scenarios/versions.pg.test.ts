/**
 * Every supported major, every kind of target, from a full and from an incremental backup:
 * at each of them the four sums agree and exactly the rows are there that must be.
 */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { embeddedDirectory, findTool } from '../harness/postgres-binaries.ts'
import { MAJORS, openServerOn, type StartOptions } from '../harness/postgres-server.ts'
import { removeDirectory } from '../harness/temporary-directory.ts'
import { checkInvariant } from '../harness/workload.ts'
import {
  archiveNow,
  type FaultCluster,
  flipBit,
  inTheMiddle,
  type Mark,
  readMarks,
  spoil,
  startFaultCluster,
  waitUntilPromoted,
} from './faults-cluster.ts'

interface Story {
  readonly full: string
  readonly incremental: string
  /** 1 and 2 before the incremental backup, 3 to 5 after it. */
  readonly marks: readonly Mark[]
}

/** Load runs all the time; a restore point stands between marks 4 and 5. */
async function live(cluster: FaultCluster): Promise<Story> {
  const load = await cluster.load()
  const full = await cluster.backup()
  const marks = [await cluster.mark(1), await cluster.mark(2)]
  const incremental = await cluster.backup()
  marks.push(await cluster.mark(3), await cluster.mark(4))
  await cluster.server.sql(`SELECT pg_create_restore_point('between')`)
  await load.stop()
  marks.push(await cluster.mark(5))
  return { full, incremental, marks }
}

/** The words behind --to, and the marks that must be there. */
type Targets = readonly { readonly to: string; readonly wanted: number }[]

/** The oldest and the newest major see all of them, those between what differs most. */
function targetsOf({ full, incremental, marks }: Story, all: boolean): Targets {
  const at = (number: number): Mark => marks[number - 1] as Mark
  const always = [
    { to: `latest --backup ${full}`, wanted: 5 },
    { to: `backup:${full}`, wanted: 0 },
    { to: 'immediate', wanted: 2 },
    { to: at(3).time, wanted: 3 },
    { to: `before:xid:${at(4).xid}`, wanted: 3 },
    { to: 'name:between', wanted: 4 },
  ]
  if (!all) return always
  return [
    ...always,
    { to: 'latest', wanted: 5 },
    { to: `backup:${incremental}`, wanted: 2 },
    { to: at(1).time, wanted: 1 },
    { to: `lsn:${at(3).lsn} --backup ${full}`, wanted: 3 },
    { to: `xid:${at(4).xid}`, wanted: 4 },
  ]
}

async function checkTarget(
  cluster: FaultCluster,
  words: readonly string[],
  wanted: readonly number[],
  options: StartOptions,
): Promise<void> {
  const { major } = cluster.server
  const directory = cluster.path('copy')
  await cluster.ok('restore', '--into', directory, ...words)
  if (findTool('pg_verifybackup', major) !== undefined) {
    await cluster.server.tool('pg_verifybackup', ['-n', '-q', directory])
  }
  const embedded = options.embedded === undefined ? {} : { embedded: options.embedded }
  const copy = await openServerOn(directory, { major, ...embedded })
  try {
    await waitUntilPromoted(copy)
    assert.deepEqual(await readMarks(copy), wanted, words.join(' '))
    await checkInvariant(copy)
    await copy.stop()
    if (options.checksums !== false && findTool('pg_checksums', major) !== undefined) {
      await cluster.server.tool('pg_checksums', ['--check', '-D', directory])
    }
  } finally {
    await copy.dispose()
    await removeDirectory(directory)
  }
}

for (const major of MAJORS) {
  const skip = existsSync(embeddedDirectory(major)) ? false : 'no embedded server here'
  test(`PostgreSQL ${major}: every kind of target`, { skip }, async () => {
    const options: StartOptions = { major, embedded: true }
    await using cluster = await startFaultCluster(options)
    const story = await live(cluster)
    const all = major === MAJORS[0] || major === MAJORS.at(-1)
    for (const { to, wanted } of targetsOf(story, all)) {
      const numbers = story.marks.map(({ number }) => number).slice(0, wanted)
      await checkTarget(cluster, ['--to', ...to.split(' ')], numbers, options)
    }
    await cluster.ok('doctor')
  })
}

test('an idle cluster: a time behind the last transaction', async () => {
  await using cluster = await startFaultCluster()
  await cluster.backup()
  await cluster.mark(1)
  // Checkpoints and segments go on, transactions do not.
  for (let round = 0; round < 3; round++) {
    await cluster.server.sql('CHECKPOINT; SELECT pg_switch_wal()')
    await archiveNow(cluster.server)
  }
  const [row] = await cluster.server.sql<{ now: string }>(
    `SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS now`,
  )
  await cluster.server.sql('SELECT pg_create_restore_point($$later$$)')
  await archiveNow(cluster.server)
  await checkTarget(cluster, ['--to', row?.now ?? ''], [1], {})
  const directory = cluster.path('no')
  const future = new Date(Date.now() + 3_600_000).toISOString()
  const refused = await cluster.run('--json', 'restore', '--into', directory, '--to', future)
  assert.equal(refused.status, 1)
  assert.match(refused.stdout, /TM1203/)
})

test('segments of 1 MB that do not compress, one of them flipped; no page checksums', async () => {
  const options = { walSegmentSizeMb: 1, checksums: false }
  await using cluster = await startFaultCluster(options)
  const { server } = cluster
  await server.sql('CREATE TABLE noise (bytes bytea)')
  await server.sql('ALTER TABLE noise ALTER COLUMN bytes SET STORAGE EXTERNAL')
  await cluster.backup()
  const first = await cluster.mark(1)
  await server.sql(
    `INSERT INTO noise SELECT decode(string_agg(md5(random()::text), ''), 'hex')
       FROM generate_series(1, 250000)`,
  )
  const last = await cluster.mark(2)
  await checkTarget(cluster, ['--to', 'latest'], [1, 2], options)
  const middle = segmentBetween(first, last)
  const file = cluster.segmentFile(middle)
  const object = readFileSync(file)
  assert.ok(object.length > 990_000, 'it compresses')
  const undo = spoil(file, flipBit(inTheMiddle))
  const refused = await cluster.run('--json', 'restore', '--into', cluster.path('no'))
  assert.equal(refused.status, 1)
  assert.match(refused.stdout, new RegExp(`TM1209[^]*${middle}`))
  assert.equal((await cluster.run('doctor', '--no-proof')).status, 3)
  await checkTarget(cluster, ['--to', 'end-of:gap'], [1], options)
  undo()
  await checkTarget(cluster, ['--to', 'latest'], [1, 2], options)
})

function segmentBetween(first: Mark, last: Mark): string {
  const number = (mark: Mark): number => Number.parseInt(mark.segment.slice(16), 16)
  const middle = Math.floor((number(first) + number(last)) / 2)
  return `${first.segment.slice(0, 16)}${middle.toString(16).toUpperCase().padStart(8, '0')}`
}

test('segments of 64 MB', async () => {
  const options = { walSegmentSizeMb: 64 }
  await using cluster = await startFaultCluster(options)
  await cluster.backup()
  const marks = [await cluster.mark(1), await cluster.mark(2)]
  await checkTarget(cluster, ['--to', 'latest'], [1, 2], options)
  await checkTarget(cluster, ['--to', marks[0]?.time ?? ''], [1], options)
})
