/**
 * Damaged, missing and unreachable objects of the repository other than WAL. Whatever is
 * restored is what was backed up, byte for byte, or the restore fails and leaves nothing
 * that PostgreSQL starts; and every check that can know of the damage says so.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, rmdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, test } from 'node:test'
import { runProgram } from '../harness/run-program.ts'
import { removeDirectory } from '../harness/temporary-directory.ts'
import { failureOf, TIDEMARK, type TidemarkResult } from '../harness/tidemark.ts'
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
let marks: Mark[] = []
let backups: string[] = []
let packs: string[] = []
/** Of every file that a restore of the newest backup writes. */
let reference: ReadonlyMap<string, string>

before(async () => {
  cluster = await startFaultCluster()
  backups = [await cluster.backup()]
  marks = [await cluster.mark(1), await cluster.mark(2)]
  backups.push(await cluster.backup())
  marks.push(await cluster.mark(3))
  packs = filesBelow(cluster.repository).filter((path) => path.endsWith('.pack'))
  const directory = cluster.path('reference')
  await cluster.ok('restore', '--into', directory, '--to', `backup:${backups[1]}`)
  reference = digests(directory)
  await removeDirectory(directory)
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

/** What the restore itself invents (ids, its manifest) is left out. */
function digests(directory: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const path of filesBelow(directory)) {
    if (/^(tidemark\.|backup_manifest|postgresql\.conf$)/.test(path)) continue
    const file = join(directory, path)
    if (!statSync(file).isFile()) continue
    found.set(path, createHash('sha256').update(readFileSync(file)).digest('hex'))
  }
  return found
}

const inRepository = (path: string): string => join(cluster.repository, path)
const recordFile = (backup: string | undefined): string =>
  inRepository(`clusters/main/backups/${backup}.record`)

async function restoreNewest(): Promise<TidemarkResult> {
  const words = ['restore', '--into', cluster.path('copy'), '--to', `backup:${backups[1]}`]
  return await cluster.run('--json', ...words)
}

async function exitOf(...words: string[]): Promise<number | undefined> {
  return (await cluster.run(...words)).status
}

/** Refused, by this code, with the object's name, and nothing was written. */
async function assertRefused(result: TidemarkResult, code: string, name: string): Promise<void> {
  assert.equal(result.status, code === 'TM1505' ? 2 : 1, result.stdout + result.stderr)
  const failure = failureOf(result)
  assert.equal(failure.code, code, result.stdout)
  assert.ok(result.stdout.includes(name), result.stdout)
  assert.ok(!existsSync(cluster.path('copy')), 'something was written')
}

const cutInTheMiddle = (bytes: Buffer): Buffer => bytes.subarray(0, bytes.length >> 1)

const SEEN_BEFORE = {
  'cut in the middle': cutInTheMiddle,
  empty: () => Buffer.alloc(0),
  'one byte longer': (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(1)]),
  'a bit flipped in its header': flipBit(() => 10),
  'a bit flipped in its index': flipBit((length) => length - 70),
  'a bit flipped in its trailer': flipBit((length) => length - 50),
}

for (const [name, change] of Object.entries(SEEN_BEFORE)) {
  test(`a pack is damaged and refused before anything is written: ${name}`, async () => {
    for (const pack of packs) {
      const undo = spoil(inRepository(pack), change)
      try {
        const [attempt] = pack.split('/').slice(-2)
        const result = await restoreNewest()
        if (result.status === 0) {
          assert.fail(`${pack} is damaged, and the restore did not mind`)
        }
        await assertRefused(result, 'TM1601', attempt as string)
      } finally {
        undo()
      }
    }
  })
}

test('a bit flipped in a pack: the same bytes are restored, or nothing starts', async () => {
  const outcomes = { refused: 0, restored: 0 }
  for (const pack of packs) {
    const size = statSync(inRepository(pack)).size
    for (const part of [0.35]) {
      const undo = spoil(
        inRepository(pack),
        flipBit((length) => Math.floor(length * part)),
      )
      const result = await restoreNewest()
      undo()
      if (result.status === 0) {
        assert.deepEqual(digests(cluster.path('copy')), reference, `${pack} of ${size}`)
        outcomes.restored++
      } else {
        assert.equal(result.status, 1)
        assert.match(failureOf(result).code, /^TM1(601|218)$/, result.stdout)
        assert.match(result.stdout, /packs\/[0-9a-f]{24}\/[0-9]{8}\.pack/)
        assert.ok(!existsSync(cluster.path('copy/global/pg_control')))
        outcomes.refused++
      }
      await removeDirectory(cluster.path('copy'))
    }
  }
  assert.ok(outcomes.refused > packs.length / 2, JSON.stringify(outcomes))
})

test('a pack is gone', async () => {
  await withFault(remove(inRepository(packs[0] as string)), async () => {
    await assertRefused(await restoreNewest(), 'TM1602', packs[0] as string)
    assert.equal(await exitOf('status', '--check'), 3)
    assert.equal(await exitOf('doctor', '--no-proof'), 3)
  })
})

test('a pack is cut: the checks that only list see it', async () => {
  await withFault(spoil(inRepository(packs[0] as string), cutInTheMiddle), async () => {
    assert.equal(await exitOf('doctor', '--no-proof'), 3)
  })
})

for (const [name, change] of Object.entries({
  'a bit flipped': flipBit(inTheMiddle),
  cut: cutInTheMiddle,
  empty: () => Buffer.alloc(0),
})) {
  test(`the newest backup record is damaged: ${name}`, async () => {
    await withFault(spoil(recordFile(backups[1]), change), async () => {
      await assertRefused(await restoreNewest(), 'TM1601', `${backups[1]}.record`)
      for (const words of [
        ['status', '--check'],
        ['window', '--check'],
        ['doctor', '--no-proof'],
      ]) {
        const result = await cluster.run(...words)
        assert.equal(result.status, 3, words.join(' '))
        assert.ok(result.stdout.includes(backups[1] as string), result.stdout)
      }
      const directory = cluster.path('copy')
      const restored = await cluster.ok('restore', '--into', directory, '--to', 'latest')
      assert.ok(restored.stderr.includes(backups[1] as string), restored.stderr)
      if (change === cutInTheMiddle) assert.deepEqual(await marksOf(directory), [1, 2, 3])
      await removeDirectory(directory)
    })
  })
}

test('a backup record is gone: the older backup leads to the same moment', async () => {
  await withFault(remove(recordFile(backups[1])), async () => {
    const directory = cluster.path('copy')
    await assertRefused(await restoreNewest(), 'TM1505', backups[1] as string)
    await cluster.ok('restore', '--into', directory, '--to', 'latest')
    assert.deepEqual(await marksOf(directory), [1, 2, 3])
    await removeDirectory(directory)
  })
})

test('every record is gone', async () => {
  const undo = backups.map((backup) => remove(recordFile(backup)))
  const mendAll = (): void => {
    for (const mend of undo) mend()
  }
  await withFault(mendAll, async () => {
    const words = ['restore', '--into', cluster.path('copy'), '--to', 'latest']
    await assertRefused(await cluster.run('--json', ...words), 'TM1202', 'main')
    assert.equal(await exitOf('window', '--check'), 3)
    assert.equal(await exitOf('status', '--check'), 3)
  })
})

/** Makes the server finish a segment, and waits until its archiver failed with it. */
async function assertArchivingFails(): Promise<void> {
  const failures = async (): Promise<number> => {
    const [row] = await cluster.server.sql<{ n: number }>(
      'SELECT failed_count::int AS n FROM pg_stat_archiver',
    )
    return row?.n ?? 0
  }
  const before = await failures()
  await cluster.server.sql('INSERT INTO mark VALUES (-1); DELETE FROM mark WHERE number < 0')
  await cluster.server.sql('SELECT pg_switch_wal()')
  for (let waited = 0; (await failures()) === before; waited++) {
    assert.ok(waited < 1200, 'the archiver did not fail')
    await sleep(25)
  }
}

async function assertNothingIsLost(): Promise<void> {
  await archiveNow(cluster.server)
  const directory = cluster.path('copy')
  await cluster.ok('restore', '--into', directory, '--to', 'latest')
  assert.deepEqual(await marksOf(directory), [1, 2, 3])
  await removeDirectory(directory)
  await cluster.ok('doctor')
}

const UNREACHABLE: Record<string, { codes: RegExp; begin: () => () => void }> = {
  'its identity of the server is gone': {
    codes: /TM1407|TM1710/,
    begin: () => remove(identityFile()),
  },
  'its identity of the server is empty': {
    codes: /TM1601/,
    begin: () => spoil(identityFile(), () => Buffer.alloc(0)),
  },
  'its identity of the server is cut': {
    codes: /TM1601/,
    begin: () => spoil(identityFile(), cutInTheMiddle),
  },
  'tidemark.repository is gone': {
    codes: /TM150[37]/,
    begin: () => remove(inRepository('tidemark.repository')),
  },
  'tidemark.repository is empty': {
    codes: /TM150[347]|TM1601/,
    begin: () => spoil(inRepository('tidemark.repository'), () => Buffer.alloc(0)),
  },
  'tidemark.repository names another format': {
    codes: /TM1504/,
    begin: () =>
      spoil(inRepository('tidemark.repository'), (bytes) =>
        Buffer.from(bytes.toString().replace(/"format": ?1/, '"format":9')),
      ),
  },
  'its directory is gone': { codes: /TM150[37]/, begin: () => remove(cluster.repository) },
  'its file system is not mounted': {
    codes: /TM150[37]/,
    begin: () => {
      const undo = remove(cluster.repository)
      mkdirSync(cluster.repository)
      giveToServer(cluster.repository)
      return () => {
        assert.deepEqual(filesBelow(cluster.repository), [], 'something was written there')
        rmdirSync(cluster.repository)
        undo()
      }
    },
  },
  'it cannot be read': {
    codes: /TM1501/,
    begin: () => {
      chmodSync(cluster.repository, 0)
      return () => {
        chmodSync(cluster.repository, 0o700)
      }
    },
  },
}

function identityFile(): string {
  return inRepository(`clusters/main/systems/${cluster.systemIdentifier}.json`)
}

function giveToServer(path: string): void {
  const { runAs } = cluster.server
  if (runAs !== undefined) execFileSync('chown', [`${runAs.uid}:${runAs.gid}`, path])
}

for (const [name, { codes, begin }] of Object.entries(UNREACHABLE)) {
  test(`the repository is unusable: ${name}`, async () => {
    const undo = begin()
    try {
      const restored = await cluster.run(
        '--json',
        'restore',
        '--into',
        cluster.path('copy'),
        '--to',
        'latest',
      )
      assert.ok([1, 2].includes(restored.status ?? 0), restored.stdout)
      assert.match(failureOf(restored).code, codes)
      assert.ok(!existsSync(cluster.path('copy')))
      // A backup introduces its server again, and so mends this one.
      if (!name.endsWith('server is gone')) {
        const backup = await cluster.run('--json', 'backup')
        assert.notEqual(backup.status, 0)
        assert.match(failureOf(backup).code, codes)
      }
      assert.notEqual(await exitOf('window', '--check'), 0)
      assert.equal(await exitOf('status', '--check'), 3)
      assert.equal(await exitOf('doctor', '--no-proof'), 3)
      // A push needs no more of tidemark.repository than that it is there.
      if (!/repository (is empty|names)/.test(name)) await assertArchivingFails()
    } finally {
      undo()
    }
    await assertNothingIsLost()
  })
}

test('a bit flipped in tidemark.repository shows as what it is', async () => {
  const file = inRepository('tidemark.repository')
  const size = statSync(file).size
  for (let at = 0; at < size; at += 9) {
    const undo = spoil(
      file,
      flipBit(() => at),
    )
    const result = await cluster.run('--json', 'window', '--check')
    undo()
    if (result.status === 0) continue
    assert.ok([1, 2].includes(result.status ?? 0), `byte ${at}: ${result.stdout}`)
    assert.match(failureOf(result).code, /^TM1(50[347]|601)$/, result.stdout)
  }
})

test('a limit on file sizes: the push fails, nothing half-made is seen', async () => {
  const segment = await archiveNow(cluster.server)
  const kept = cluster.path(segment)
  await cluster.ok('wal', 'get', segment, kept, '--system-identifier', cluster.systemIdentifier)
  const undo = remove(cluster.segmentFile(segment))
  const words = ['-c', 'ulimit -f 0; exec "$@"', 'sh', TIDEMARK, '--config', cluster.config]
  const { runAs } = cluster.server
  const result = await runProgram('sh', [...words, 'wal', 'push', kept], { runAs })
  assert.notEqual(result.status, 0, result.stdout + result.stderr)
  assert.ok(!existsSync(cluster.segmentFile(segment)))
  await cluster.ok('wal', 'push', kept)
  assert.ok(existsSync(cluster.segmentFile(segment)))
  execFileSync('rm', [cluster.segmentFile(segment)])
  undo()
})
