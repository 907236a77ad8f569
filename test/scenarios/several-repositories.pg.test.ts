/**
 * Several repositories on directories: one that is away, new, damaged or full, and what the
 * others do then.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { failureOf } from '../harness/tidemark.ts'
import { protectServerBySeveral, type SeveralRepositories } from './several-fixture.ts'

let scene: SeveralRepositories
let rows = 0

async function addRows(): Promise<void> {
  await scene.server.sql('INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 2000) n')
  rows += 2000
}

const outcomes = (report: { repositories: readonly { outcome: string }[] }): string[] =>
  report.repositories.map(({ outcome }) => outcome)

/** Objects of a repository below a prefix whose names end so. */
function objects(repository: string, prefix: string, suffix: string): string[] {
  const root = join(scene.root(repository), 'clusters/main', prefix)
  return readdirSync(root, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(suffix))
    .map((name) => join(root, name))
    .sort()
}

/** Flips a bit every 64 KiB: in frames as in anything else, but not in a pack's index. */
function damage(path: string): void {
  const bytes = readFileSync(path)
  const step = Math.max(1, Math.min(65_536, bytes.length >> 2))
  for (let at = step; at < Math.max(step + 1, bytes.length - 65_536); at += step) {
    bytes[at] = (bytes[at] as number) ^ 1
  }
  writeFileSync(path, bytes)
}

describe('a cluster with two repositories on directories', () => {
  before(async () => {
    scene = await protectServerBySeveral({ others: { offsite: 'directory' } })
    await scene.server.sql('CREATE TABLE t (n int, filler text)')
    await addRows()
  })

  after(async () => {
    await scene?.server.dispose()
  })

  test('one backup is in both, and each restores alone', async () => {
    const { status, report } = await scene.backUp()
    assert.equal(status, 0)
    assert.deepEqual(outcomes(report), ['stored', 'stored'])
    const [local, offsite] = report.backups
    assert.equal(local?.id, offsite?.id)
    for (const name of ['local', 'offsite']) {
      assert.deepEqual(await scene.listed(name), [local?.id])
      assert.equal(await scene.restoredRows(`alone-${name}`, '--repository', name), rows)
    }
  })

  test('one that is not required is away: WAL and backups go on, and say it', async () => {
    scene.takeAway('offsite')
    await addRows()
    await scene.archiveNow()
    assert.match(
      await scene.server.log(),
      /warning TM1321: 0000000100000000000000.. was not stored/,
    )
    const { status, report } = await scene.backUp()
    assert.equal(status, 3)
    assert.deepEqual(outcomes(report), ['stored', 'failed'])
    const text = await scene.run('backup')
    assert.equal(text.status, 3)
    assert.match(text.stdout, /warning TM15\d\d: offsite was left out/)
    assert.match(text.stdout, /tidemark sync main --from local --to offsite/)
    await addRows()
    await scene.archiveNow()
    assert.equal(await scene.restoredRows('while-away'), rows)
  })

  test('it comes back: status tells what it lacks, the next backup is in both', async () => {
    scene.bringBack('offsite')
    const { findings } = (await scene.run('--json', 'status')).json<{
      findings: { code: string; detail: string; result: string }[]
    }>()
    const behind = findings.find(({ code }) => code === 'TM1320')
    assert.match(behind?.detail ?? '', /offsite is behind: it lacks 2 backups and \d+ WAL segments/)
    await addRows()
    const { status, report } = await scene.backUp()
    assert.equal(status, 0, JSON.stringify(report))
    assert.equal((await scene.listed('local')).length, 4)
    assert.equal((await scene.listed('offsite')).length, 2)
    await scene.archiveNow()
    assert.equal(await scene.restoredRows('offsite-after', '--repository', 'offsite'), rows)
    await scene.ok('verify', '--full', '--repository', 'local')
  })

  describePolicy()
  describeDamage()
})

function describePolicy(): void {
  test('a required one is away: no backup, no acknowledged WAL, nothing left over', async () => {
    scene.configure(['local', 'offsite'])
    scene.takeAway('offsite')
    const failed = await scene.run('--json', 'backup')
    assert.notEqual(failed.status, 0)
    assert.match(failureOf(failed).code, /TM15/)
    const wal = readdirSync(join(scene.server.dataDirectory, 'pg_wal'))
    const segment = wal.find((name) => /^[0-9A-F]{24}$/.test(name)) ?? ''
    const path = join(scene.server.dataDirectory, 'pg_wal', segment)
    assert.notEqual((await scene.run('wal', 'push', '--cluster', 'main', path)).status, 0)
    scene.bringBack('offsite')
    scene.configure()
    assert.equal((await scene.listed('local')).length, 4)
    assert.deepEqual(objects('local', 'holds', '.hold'), [])
  })

  test('a new repository is behind; it has a record only of what is whole in it', async () => {
    await scene.create('third')
    scene.configure(undefined, ['local', 'offsite', 'third'])
    const { status, report } = await scene.backUp()
    assert.equal(status, 3)
    assert.deepEqual(outcomes(report), ['stored', 'stored', 'behind'])
    assert.equal(report.repositories[2]?.code, 'TM1320')
    assert.deepEqual(await scene.listed('third'), [])
    // A recovery asks all of them for WAL; that one has never been told of the server.
    await scene.archiveNow()
    assert.equal(await scene.restoredRows('with-a-new-one'), rows)
    scene.configure(['local', 'third'], ['local', 'offsite', 'third'])
    const whole = await scene.backUp()
    assert.deepEqual(outcomes(whole.report), ['stored', 'stored', 'stored'])
    assert.equal(await scene.restoredRows('third-alone', '--repository', 'third'), rows)
    scene.configure()
  })

  test('one whose disk is full is left out, and given back what it took', async (context) => {
    const small = scene.root('small')
    mkdirSync(small)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small], { stdio: 'ignore' })
    } catch {
      return context.skip('cannot mount a small file system here')
    }
    try {
      await scene.create('small')
      scene.configure(undefined, ['local', 'small'])
      await scene.server.sql(
        `INSERT INTO t SELECT n, (SELECT string_agg(md5(random()::text || n || m), '')
           FROM generate_series(1, 40) AS m) FROM generate_series(1, 3000) AS n`,
      )
      rows += 3000
      const { status, report } = await scene.backUp('--workers', '2')
      assert.equal(status, 3)
      assert.deepEqual(outcomes(report), ['stored', 'failed'])
      assert.equal(report.repositories[1]?.code, 'TM1506')
      assert.deepEqual(objects('small', '', '.pack'), [])
      assert.equal(await scene.restoredRows('beside-a-full-one'), rows)
    } finally {
      scene.configure()
      execFileSync('umount', ['-l', small])
    }
  })
}

function describeDamage(): void {
  test('records, packs and WAL that are damaged here are taken from there, and named', async () => {
    await addRows()
    await scene.backUp()
    await addRows()
    await scene.archiveNow()
    for (const pack of objects('local', 'packs', '.pack')) damage(pack)
    for (const segment of objects('local', 'wal', '.wal')) damage(segment)
    damage(objects('local', 'backups', '.record').at(-1) ?? '')
    rmSync(objects('local', 'packs', '.pack')[0] ?? '')
    const into = scene.root('mended')
    const result = await scene.ok('--json', 'restore', '--into', into)
    const { passedOver, notes } = result.json<{
      passedOver: { url: string; key: string }[]
      notes: string[]
    }>()
    assert.ok(passedOver.every(({ url }) => url === `file://${scene.root('local')}`))
    for (const suffix of ['.pack', '.record']) {
      assert.ok(
        passedOver.some(({ key }) => key.endsWith(suffix)),
        suffix,
      )
    }
    assert.ok(
      passedOver.some(({ key }) => /^[0-9A-F]{24}$/.test(key)),
      'WAL',
    )
    assert.match(notes.join('\n'), /taken from file:.*\/offsite/)
    rmSync(into, { recursive: true })
    assert.equal(await scene.restoredRows('mended'), rows)
  })

  test('what is damaged in both ends the restore, and both are named', async () => {
    for (const pack of objects('offsite', 'packs', '.pack')) damage(pack)
    const result = await scene.run('--json', 'restore', '--into', scene.root('nowhere'))
    assert.equal(result.status, 1)
    const { code, because = '' } = failureOf(result)
    assert.match(code, /TM160[12]/)
    assert.match(because, /\/local: .*\/offsite: /)
  })
}
