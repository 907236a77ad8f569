/**
 * A repository of format version 1, frozen as it was written once (make-repository.ts): what
 * the code of today, and the reader that shares no code with it, make of it.
 */
import assert from 'node:assert/strict'
import { cpSync, lstatSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { fetchWalFile } from '../../src/archive/fetch-wal.ts'
import { SILENT } from '../../src/base/progress.ts'
import { restoreFiles } from '../../src/recovery/restore-files.ts'
import { listHolds } from '../../src/repository/holds.ts'
import { backupKey } from '../../src/repository/keys.ts'
import { listBackups, readBackup } from '../../src/repository/read-backups.ts'
import { repack } from '../../src/retention/repack.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { RESCUE, rescue, rescueOk, rescueReaderMissing } from '../harness/rescue-reader.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { tidemarkOk } from '../harness/tidemark.ts'
import { describeEntry, type ExpectedBackup, type ExpectedRepository } from './expected-backup.ts'

const FROZEN = fileURLToPath(new URL('../fixtures/repository-format-1/', import.meta.url))
const SYSTEM = '7400000000000000001'

const expected = JSON.parse(
  readFileSync(join(FROZEN, 'expected.json'), 'utf8'),
) as ExpectedRepository
let repository: string
let url: string
let storage: Storage

before(async () => {
  repository = join(temporaryDirectory(), 'repository')
  cpSync(join(FROZEN, 'repository'), repository, { recursive: true })
  url = `file://${repository}`
  storage = await openStorage({ url })
})

/** What lies in a restored directory, described as the expectation describes it. */
function assertRestored(into: string, backup: ExpectedBackup, paths: readonly string[]): void {
  for (const path of paths) {
    const wanted = backup.entries[path] ?? ''
    const location = join(into, path)
    const status = lstatSync(location)
    const entry = { kind: wanted.split(' ')[0] ?? '', mode: status.mode & 0o7777 }
    const bytes = status.isFile() ? readFileSync(location) : undefined
    assert.equal(describeEntry(entry, bytes), wanted, path)
  }
}

function pathsOf(backup: ExpectedBackup): string[] {
  return Object.keys(backup.entries).filter((path) => !backup.entries[path]?.startsWith('link '))
}

test('it holds every kind of entry, and two backups that share', () => {
  const kinds = expected.backups.flatMap(({ entries }) =>
    Object.values(entries).map((description) => description.split(' ')[0]),
  )
  assert.deepEqual([...new Set(kinds)].sort(), ['content', 'directory', 'empty', 'link', 'pages'])
  assert.equal(expected.backups.length, 2)
})

test('its backups are listed', async () => {
  const { backups, damaged } = await listBackups(storage, 'main')
  assert.deepEqual(damaged, [])
  const shown = backups.map(({ id, stoppedAt, walFirst, walLast, backupLabel }) => {
    return { id, stoppedAt, walFirst, walLast, backupLabel }
  })
  const wanted = expected.backups.map(({ entries: _entries, ...rest }) => rest)
  const byId = (one: { id: string }, other: { id: string }): number => (one.id < other.id ? -1 : 1)
  assert.deepEqual(shown.sort(byId), wanted.sort(byId))
  const second = await readBackup(storage, 'main', expected.backups[1]?.id ?? '')
  assert.equal(second.comparedWith, expected.backups[0]?.id)
  assert.ok(second.packs.length > 2, 'it needs packs of the first one')
})

test('tidemark list shows them', async () => {
  const config = join(temporaryDirectory(), 'tidemark.yaml')
  writeFileSync(
    config,
    `repositories:\n  local: { url: "${url}" }\nclusters:\n  main: { connection: "postgresql:///" }\n`,
  )
  const { stdout } = await tidemarkOk(['--config', config, '--json', 'list'])
  for (const { id } of expected.backups) assert.ok(stdout.includes(`"${id}"`), stdout)
})

test('its backups restore to what they were', async () => {
  for (const backup of expected.backups) {
    const into = join(temporaryDirectory(), 'data')
    mkdirSync(join(into, 'pg_tblspc/16499'), { recursive: true })
    mkdirSync(join(into, '@config/0000'), { recursive: true })
    await restoreFiles({
      storage: { url },
      record: await readBackup(storage, 'main', backup.id),
      dataDirectory: into,
      owner: undefined,
      workers: 2,
      progress: SILENT,
      placeOf: ({ path, kind }) => (kind === 'link' ? undefined : path),
      onFile: () => {},
    })
    // Directories that the test made have the modes of the test.
    const made = ['pg_tblspc']
    assertRestored(
      into,
      backup,
      pathsOf(backup).filter((path) => !made.includes(path)),
    )
  }
})

test('its WAL, history, label and hold are read', async () => {
  const directory = temporaryDirectory()
  const label = '000000010000000000000001.00000028.backup'
  for (const name of [...Object.keys(expected.wal), label]) {
    const destination = join(directory, name)
    const storages = [storage]
    const found = { storages, cluster: 'main', systemIdentifier: SYSTEM, name, destination }
    assert.equal(await fetchWalFile(found), 'fetched', name)
    const content = describeEntry({ kind: '', mode: 0 }, readFileSync(destination))
    if (name !== label) assert.ok(content.endsWith(` ${expected.wal[name]}`), name)
  }
  assert.equal(readFileSync(join(directory, label), 'utf8'), 'START WAL LOCATION: 0/100028\n')
  const { holds } = await listHolds(storage, 'main')
  assert.deepEqual(
    holds.map(({ id }) => id),
    ['20261121-000000-hold'],
  )
})

const skip = rescueReaderMissing()

test('the independent reader stays small and needs nothing but Python', () => {
  const lines = readFileSync(RESCUE, 'utf8').trimEnd().split('\n')
  assert.ok(lines.length <= 300, `${lines.length} lines`)
  const modules = lines.flatMap((line) => /^(?:import|from) (\w+)/.exec(line)?.[1] ?? [])
  const standard = ['argparse', 'hashlib', 'io', 'json', 'os', 'pathlib', 'struct', 'subprocess']
  assert.deepEqual(modules, [...standard, 'sys'])
})

test('the independent reader restores the same', { skip }, async () => {
  const listed = await rescueOk(repository, 'list')
  for (const backup of expected.backups) {
    assert.ok(listed.includes(`main ${backup.id} `), listed)
    const into = join(temporaryDirectory(), 'data')
    await rescueOk(repository, 'restore', backup.id, into, '--wal', '--fingerprints')
    assertRestored(into, backup, pathsOf(backup))
    assert.equal(readFileSync(join(into, 'backup_label'), 'utf8'), backup.backupLabel)
    const place = `${into}.tablespaces/16499`
    assert.equal(readFileSync(join(into, 'tablespace_map'), 'utf8'), `16499 ${place}\n`)
    assert.equal(readlinkSync(join(into, 'pg_tblspc/16499')), place)
    for (const [name, sha256] of Object.entries(expected.wal)) {
      const content = readFileSync(join(into, 'pg_wal', name))
      assert.ok(describeEntry({ kind: '', mode: 0 }, content).endsWith(` ${sha256}`), name)
    }
  }
})

test('repacked after its first backup expired, the second restores the same', {
  skip,
}, async () => {
  const [first, second] = expected.backups as [ExpectedBackup, ExpectedBackup]
  const copy = join(temporaryDirectory(), 'repository')
  cpSync(join(FROZEN, 'repository'), copy, { recursive: true })
  const repacked = await openStorage({ url: `file://${copy}` })
  await repacked.remove(backupKey('main', first.id))
  const { repacked: packs, failed } = await repack({
    storage: repacked,
    cluster: 'main',
    list: await listBackups(repacked, 'main'),
    expired: new Set([first.id]),
    rule: { leastDeadBytes: 1, leastDeadShare: 0 },
    progress: SILENT,
    signal: new AbortController().signal,
  })
  assert.deepEqual(failed, [])
  assert.ok(packs.some(({ framesDropped }) => framesDropped > 1))
  const into = join(temporaryDirectory(), 'data')
  await rescueOk(copy, 'restore', second.id, into, '--wal', '--fingerprints')
  assertRestored(into, second, pathsOf(second))
  // The backup that expired: its record is put back, and what it lacks is told.
  const key = backupKey('main', first.id)
  await repacked.write(key, (await storage.read(key)) as Uint8Array)
  const { status, stderr } = await rescue(
    copy,
    'restore',
    first.id,
    join(temporaryDirectory(), 'x'),
  )
  assert.equal(status, 1)
  assert.match(stderr, /frame \d+ is missing or its SHA-256 does not hold/)
})
