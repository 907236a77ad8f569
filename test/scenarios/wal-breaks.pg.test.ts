/**
 * What no recovery passes, done to a real server: wal_level=minimal and pg_resetwal, far behind
 * in the WAL. `window` ends there, and a recovery that believed otherwise is refused.
 */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { runProgram } from '../harness/run-program.ts'
import { filesBelow, type ProtectedServer, protectServer } from './recovery-cluster.ts'

interface Window {
  readonly intervals: readonly {
    readonly end: string
    readonly backups: readonly string[]
    readonly brokenAt?: string
    readonly to: { readonly lsn: string }
    readonly gap: null | { readonly segments: number }
    readonly withoutPageWritesFrom?: readonly string[]
  }[]
  readonly withoutBackup: readonly { readonly isBeforeBackup: boolean }[]
}

let cluster: ProtectedServer

before(async () => {
  cluster = await protectServer({ walSegmentSizeMb: 1, settings: { wal_recycle: 'off' } })
  await cluster.server.sql('CREATE TABLE notes (id int, text text)')
  const url = `file://${cluster.repository}`
  await cluster.ok('init', '--yes', '--connection', cluster.server.url(), '--repository', url)
  await cluster.backup()
})

after(async () => {
  await cluster[Symbol.asyncDispose]()
})

const window = async (): Promise<Window> => (await cluster.run('--json', 'window')).json<Window>()

const breaks = (): string[] =>
  filesBelow(cluster.repository).filter((name) => name.endsWith('.break'))

/** More segments than `window` reads; their indexes bring the marks. */
async function writeMuch(): Promise<void> {
  const rows = 'SELECT n, repeat(md5(n::text), 9) FROM generate_series(1, 30000) n'
  await cluster.server.sql(`INSERT INTO notes ${rows}`)
  await cluster.archiveNow()
  await cluster.ok('wal', 'index')
}

const MINIMAL = { wal_level: 'minimal', archive_mode: 'off', max_wal_senders: '0' }

test('wal_level=minimal of long ago ends the window, until a backup is behind it', async () => {
  const first = (await window()).intervals.flatMap(({ backups }) => backups)
  await cluster.server.sql('INSERT INTO notes VALUES (0)')
  await cluster.server.restart(MINIMAL)
  await cluster.server.sql('INSERT INTO notes VALUES (1)')
  await cluster.server.restart()
  await writeMuch()
  assert.equal(breaks().length, 1, breaks().join())
  const { intervals, withoutBackup } = await window()
  assert.deepEqual(
    intervals.map(({ end, backups, gap }) => [end, backups, gap]),
    [['minimal', first, null]],
  )
  assert.equal(intervals[0]?.brokenAt, intervals[0]?.to.lsn)
  assert.ok(withoutBackup.some(({ isBeforeBackup }) => !isBeforeBackup))
  const plan = ['restore', '--plan', '--into', cluster.path('copy'), '--to', 'latest']
  const refused = await cluster.run(...plan)
  assert.match(refused.stderr, new RegExp(`from ${intervals[0]?.brokenAt} on .*wal_level=minimal`))

  // Derived: whoever loses it makes it again.
  const [mark] = breaks()
  rmSync(join(cluster.repository, mark as string))
  await cluster.ok('wal', 'index', '--rebuild')
  assert.deepEqual(breaks(), [mark])
  await cluster.ok('verify', '--full')

  const behind = await cluster.backup()
  const mended = await window()
  assert.deepEqual(
    mended.intervals.map(({ end, backups }) => [end, backups]),
    [
      ['minimal', first],
      ['archive', [behind]],
    ],
  )
})

test('what was recycled meanwhile is a gap behind the break', async () => {
  const before = await window()
  await cluster.server.restart(MINIMAL)
  const rows = 'SELECT n, repeat(md5(n::text), 9) FROM generate_series(1, 15000) n'
  await cluster.server.sql(`INSERT INTO notes ${rows}`)
  await cluster.server.sql('CHECKPOINT')
  await cluster.server.restart()
  await cluster.archiveNow()
  await cluster.ok('wal', 'index')
  const { intervals } = await window()
  assert.equal(intervals.length, before.intervals.length)
  // A stop that archives ends its segment: what says so lies behind, and went with the rest.
  const { end, gap } = intervals.at(-1) ?? assert.fail()
  assert.equal(end, 'gap', JSON.stringify(intervals))
  assert.ok((gap?.segments ?? 0) > 1)
  await cluster.backup()
})

test('pg_resetwal ends the window', async () => {
  const backups = (await window()).intervals.at(-1)?.backups
  await cluster.server.sql('INSERT INTO notes VALUES (3)')
  await cluster.archiveNow()
  await cluster.server.stop()
  const { binDirectory, dataDirectory, runAs } = cluster.server
  await runProgram(join(binDirectory, 'pg_resetwal'), ['-D', dataDirectory], { runAs })
  await cluster.server.restart()
  await writeMuch()
  const { intervals, withoutBackup } = await window()
  const last = intervals.at(-1)
  assert.deepEqual([last?.end, last?.backups], ['reset', backups], JSON.stringify(intervals))
  assert.ok(withoutBackup.some(({ isBeforeBackup }) => !isBeforeBackup))
  const text = (await cluster.ok('window')).stdout
  assert.match(text, /then pg_resetwal: WAL begins anew at/)
  const behind = await cluster.backup()
  assert.deepEqual((await window()).intervals.at(-1)?.backups, [behind])
})
