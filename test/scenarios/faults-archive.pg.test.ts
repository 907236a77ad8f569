/**
 * Holes and damage in the WAL archive. Every fault is named, with the moment that can still
 * be reached, before a byte is written; no recovery ends at it as if it were the end of WAL.
 *
 * Peers promote there: 41 rows live, 36 restored, exit status 0.
 */
import assert from 'node:assert/strict'
import { copyFileSync, readFileSync, truncateSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { removeDirectory } from '../harness/temporary-directory.ts'
import { failureOf } from '../harness/tidemark.ts'
import {
  archiveNow,
  type FaultCluster,
  filesBelow,
  flipBit,
  inTheMiddle,
  type Mark,
  marksOf,
  remove,
  spoil,
  startFaultCluster,
  withFault,
} from './faults-cluster.ts'

let cluster: FaultCluster
const marks: Mark[] = []
const ALL = [1, 2, 3, 4, 5, 6, 7]
const at = (number: number): Mark => marks[number - 1] as Mark

before(async () => {
  cluster = await startFaultCluster()
  const load = await cluster.load()
  await cluster.backup()
  for (const number of [1, 2, 3]) marks.push(await cluster.mark(number))
  await cluster.backup()
  for (const number of [4, 5, 6]) marks.push(await cluster.mark(number))
  await load.stop()
  marks.push(await cluster.mark(7))
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

/** Refused for the segment's sake, and nothing is there afterwards. */
async function assertRefused(target: string, codes: readonly string[], segment: string) {
  const before = filesBelow(cluster.base)
  const words = ['restore', '--into', cluster.path('no'), '--to', target]
  const result = await cluster.run('--json', ...words)
  assert.equal(result.status, 1, result.stdout + result.stderr)
  const failure = failureOf(result)
  assert.ok(codes.includes(failure.code), result.stdout)
  assert.match(`${failure.message} ${failure.because}`, new RegExp(segment))
  assert.deepEqual(filesBelow(cluster.base), before)
  return failure
}

async function restoredMarks(target: string, ...more: string[]): Promise<number[]> {
  const directory = cluster.path('copy')
  await cluster.ok('restore', '--into', directory, '--to', target, ...more)
  const found = await marksOf(directory)
  await removeDirectory(directory)
  return found
}

interface Checks {
  readonly checks: readonly Record<'code' | 'result' | 'detail', string>[]
}

/** doctor ends with 3 and names the segment under this code. */
async function assertDoctorSays(code: string, text: string): Promise<void> {
  const result = await cluster.run('--json', 'doctor', '--no-proof')
  assert.equal(result.status, 3, result.stdout)
  const { checks } = result.json<Checks>()
  const problems = checks.filter((check) => check.result === 'problem')
  assert.deepEqual(
    problems.map((check) => check.code),
    [code],
    result.stdout,
  )
  assert.ok(problems[0]?.detail.includes(text), result.stdout)
}

async function assertStatusSays(text: string): Promise<void> {
  for (const words of [
    ['status', '--check'],
    ['window', '--check'],
  ]) {
    const result = await cluster.run(...words)
    assert.equal(result.status, 3, `${words.join(' ')}\n${result.stdout}`)
    assert.ok(result.stdout.includes(text), result.stdout)
  }
}

test('without a fault everything is there and every check is content', async () => {
  assert.deepEqual(await restoredMarks('latest'), ALL)
  await cluster.ok('doctor', '--no-proof')
  await cluster.ok('status', '--check')
  await cluster.ok('window', '--check')
})

test('a segment is gone behind the newest backup', async () => {
  const { segment } = at(5)
  await withFault(remove(cluster.segmentFile(segment)), async () => {
    for (const target of ['latest', at(6).time, `xid:${at(6).xid}`, `lsn:${at(6).lsn}`]) {
      const { fix } = await assertRefused(target, ['TM1204'], segment)
      assert.match(fix, /--to end-of:gap/)
    }
    await assertRefused(`before:xid:${at(7).xid}`, ['TM1204'], segment)
    await assertStatusSays(segment)
    await assertDoctorSays('TM1716', segment)
    assert.deepEqual(await restoredMarks(at(3).time), [1, 2, 3])
    assert.deepEqual(await restoredMarks('end-of:gap'), [1, 2, 3, 4])
  })
})

test('a segment is gone between two backups', async () => {
  const { segment } = at(2)
  await withFault(remove(cluster.segmentFile(segment)), async () => {
    await assertRefused(at(3).time, ['TM1204'], segment)
    await assertStatusSays(segment)
    await assertDoctorSays('TM1716', segment)
    assert.deepEqual(await restoredMarks(`xid:${at(1).xid}`), [1])
    assert.deepEqual(await restoredMarks('latest'), ALL)
  })
})

test('the last segment is gone: the server knows that it was archived', async () => {
  const { segment } = at(7)
  await withFault(remove(cluster.segmentFile(segment)), async () => {
    const status = await cluster.run('status', '--check')
    assert.equal(status.status, 3, status.stdout)
    assert.ok(status.stdout.includes(segment), status.stdout)
    await assertDoctorSays('TM1721', segment)
    await assertRefused(at(7).time, ['TM1203', 'TM1204'], '')
    await assertRefused(`xid:${at(7).xid}`, ['TM1205', 'TM1206', 'TM1203'], '')
    assert.deepEqual(await restoredMarks('latest'), [1, 2, 3, 4, 5, 6])
  })
})

test("a backup's own WAL is gone", async () => {
  const { backups } = (await cluster.ok('--json', 'list')).json<{
    backups: { id: string; walFirst: string }[]
  }>()
  const newest = backups.at(-1)
  const segment = newest?.walFirst ?? ''
  assert.match(segment, /^[0-9A-F]{24}$/, JSON.stringify(newest))
  await withFault(remove(cluster.segmentFile(segment)), async () => {
    const failure = await assertRefused(`backup:${newest?.id}`, ['TM1204', 'TM1209'], segment)
    assert.ok(failure.fix)
    await assertRefused('latest', ['TM1204', 'TM1209'], segment)
    await assertStatusSays(segment)
    const doctor = await cluster.run('doctor', '--no-proof')
    assert.equal(doctor.status, 3)
    assert.ok(doctor.stdout.includes(segment), doctor.stdout)
    assert.deepEqual(await restoredMarks(at(3).time), [1, 2, 3])
  })
})

const DAMAGE = {
  'one bit flipped in the content': flipBit(inTheMiddle),
  'one bit flipped in the header': flipBit(() => 70),
  'one bit flipped at the very end': flipBit((length) => length - 1),
  'cut in the middle': (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1),
  empty: () => Buffer.alloc(0),
  'one byte longer': (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(1)]),
}

for (const [name, change] of Object.entries(DAMAGE)) {
  test(`a segment is damaged: ${name}`, async () => {
    const { segment } = at(5)
    await withFault(spoil(cluster.segmentFile(segment), change), async () => {
      const failure = await assertRefused('latest', ['TM1209'], segment)
      assert.match(failure.fix, /end-of:gap|wal push/)
      await assertRefused(at(6).time, ['TM1209'], segment)
      await assertDoctorSays('TM1718', segment)
      if (change === DAMAGE['one bit flipped in the content']) {
        assert.deepEqual(await restoredMarks(at(3).time), [1, 2, 3])
        assert.deepEqual(await restoredMarks('end-of:gap'), [1, 2, 3, 4])
      }
    })
  })
}

test('the last segment is damaged: no word of the program calls it the end of WAL', async () => {
  const { segment } = at(7)
  await withFault(spoil(cluster.segmentFile(segment), flipBit(inTheMiddle)), async () => {
    await assertRefused('latest', ['TM1209'], segment)
    await assertDoctorSays('TM1718', segment)
    const window = await cluster.run('window', '--check')
    assert.notEqual(window.status, 0, window.stdout)
    assert.ok((window.stdout + window.stderr).includes(segment), window.stdout + window.stderr)
    const status = await cluster.run('status', '--check')
    assert.equal(status.status, 3, status.stdout)
    assert.ok(status.stdout.includes(segment), status.stdout)
  })
})

test('two segments have changed places', async () => {
  const [one, two] = [cluster.segmentFile(at(4).segment), cluster.segmentFile(at(6).segment)]
  const contents = [readFileSync(one), readFileSync(two)] as const
  const undo = [spoil(one, () => contents[1]), spoil(two, () => contents[0])]
  await withFault(
    () => {
      for (const mend of undo) mend()
    },
    async () => {
      await assertRefused('latest', ['TM1209'], at(4).segment)
      const doctor = await cluster.run('doctor', '--no-proof')
      assert.equal(doctor.status, 3)
      for (const { segment } of [at(4), at(6)]) assert.ok(doctor.stdout.includes(segment))
      assert.deepEqual(await restoredMarks(at(3).time), [1, 2, 3])
    },
  )
})

test("a foreign server's segment stands under the right name", async () => {
  await using foreign = await startFaultCluster()
  const { segment } = at(4)
  while ((await archiveNow(foreign.server)) < segment) {
    await foreign.server.sql('SELECT pg_create_restore_point($$filler$$)')
  }
  const bytes = readFileSync(foreign.segmentFile(segment))
  await withFault(
    spoil(cluster.segmentFile(segment), () => bytes),
    async () => {
      await assertRefused('latest', ['TM1209'], segment)
      await assertDoctorSays('TM1718', segment)
      assert.deepEqual(await restoredMarks(at(3).time), [1, 2, 3])
    },
  )
})

test('what was damaged is mended by pushing the segment again', async () => {
  const { segment } = at(6)
  const file = cluster.segmentFile(segment)
  const kept = cluster.path(segment)
  await cluster.ok('wal', 'get', segment, kept, '--system-identifier', cluster.systemIdentifier)
  await withFault(spoil(file, flipBit(inTheMiddle)), async () => {
    await assertRefused('latest', ['TM1209'], segment)
    await cluster.ok('wal', 'push', kept)
    assert.deepEqual(await restoredMarks('latest'), ALL)
    await cluster.ok('doctor', '--no-proof')
  })
})

test('a damaged segment is not pushed over by another content', async () => {
  const { segment } = at(6)
  const kept = cluster.path(segment)
  const stored = readFileSync(cluster.segmentFile(segment))
  // Behind the records it says nothing else; within the first of them it is another content.
  for (const [place, status] of [
    [(length: number) => length - 100, 0],
    [() => 60, 1],
  ] as const) {
    const undo = spoil(kept, flipBit(place))
    const result = await cluster.run('--json', 'wal', 'push', kept)
    assert.equal(result.status, status)
    assert.ok(readFileSync(cluster.segmentFile(segment)).equals(stored))
    undo()
  }
  const cut = cluster.path(at(4).segment)
  copyFileSync(kept, cut)
  truncateSync(cut, 1_000_000)
  assert.equal((await cluster.run('wal', 'push', cut)).status, 1)
})
