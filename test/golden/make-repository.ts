/**
 * Makes the repository that is frozen in test/fixtures/repository-format-1, with the writers
 * of the format themselves: two backups of a simulated cluster that has every kind of entry,
 * its WAL, and `expected.json` with what each backup must restore to.
 *
 *   node test/golden/make-repository.ts DIRECTORY
 *
 * What is frozen is never made anew: repositories like it are out there, whatever today's
 * code would write. It was made once; a new version of the format gets a directory of its
 * own beside it.
 */
import { createHash } from 'node:crypto'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { pushWalFile } from '../../src/archive/push-wal.ts'
import { startCopyInThread } from '../../src/backup/copy-files.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { now, sleep } from '../../src/base/clock.ts'
import { SILENT } from '../../src/base/progress.ts'
import type { Row, ServerSession } from '../../src/postgres/server-session.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { writeHold } from '../../src/repository/holds.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { buildSegment, segmentName } from '../harness/wal-builder.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SEGMENT_PAGES, SimulatedCluster } from '../simulation/backup-cluster.ts'
import { makeRebuilder, readEntries } from '../simulation/backup-rebuild.ts'
import { describeEntry, type ExpectedBackup } from './expected-backup.ts'

const PAGE = 8192

/** What the simulation does not have: more than one leaf, frames that stay raw, odd names. */
function addRest(cluster: SimulatedCluster): void {
  const sparse = Buffer.alloc(2100 * PAGE)
  for (const page of [0, 1, 2, 17, 500, 1023, 1024, 1025, 2099]) {
    pages(1, 100 + page).copy(sparse, page * PAGE)
  }
  cluster.write('base/5/20000', sparse)
  cluster.write('base/5/20001', scrambled(3 * PAGE))
  cluster.write('base/5/20002', Buffer.alloc(5 * PAGE))
  cluster.write('base/5/20003', pages(40, 20))
  cluster.write('pg_logical/scrambled', scrambled(3000))
  cluster.write('pg_multixact/offsets/0000', pages(1, 21))
  cluster.write('größe 尺 😀.txt', 'a name beyond ASCII\n')
  writeFileSync(configurationOf(cluster), 'port = 5433\n')
  symlinkSync('/nowhere/certificate.pem', join(cluster.directory, 'server.crt'))
}

/** Bytes that do not compress, and are the same in every run. */
function scrambled(length: number): Buffer {
  const blocks: Buffer[] = []
  for (let at = 0; at < length; at += 32) {
    blocks.push(createHash('sha256').update(String(at)).digest())
  }
  return Buffer.concat(blocks).subarray(0, length)
}

/** Some pages, a file that grew, one that shrank, a stale segment, files gone and new. */
function change(cluster: SimulatedCluster): void {
  const path = join(cluster.directory, 'base/5/20000')
  const sparse = readFileSync(path)
  for (const page of [1, 30, 1024, 2000]) pages(1, 200 + page).copy(sparse, page * PAGE)
  writeFileSync(path, sparse)
  const spread = readFileSync(join(cluster.directory, 'base/5/20003'))
  for (let page = 0; page < 40; page += 3) pages(1, 300 + page).copy(spread, page * PAGE)
  cluster.write('base/5/20003', spread)
  cluster.write('base/5/16390', pages(4, 15))
  cluster.truncate('base/5/16391', 1)
  truncateSync(join(cluster.directory, 'base/5/16384'), (SEGMENT_PAGES - 10) * PAGE)
  cluster.write('pg_xact/0000', pages(1, 16))
  cluster.remove('pg_logical/scrambled')
  cluster.write('pg_logical/fresh', 'new\n')
}

/** The simulation's session, with a tablespace map and configuration as Debian has it. */
function openSession(cluster: SimulatedCluster): ServerSession {
  const session = cluster.openSession()
  return {
    ...session,
    async query<R extends Row>(text: string): Promise<R[]> {
      if (text.includes('pg_file_settings')) {
        return [{ sourcefile: configurationOf(cluster) }] as unknown as R[]
      }
      const rows = await session.query<R>(text)
      if (!text.includes('pg_backup_stop')) return rows
      return rows.map((row) => ({ ...row, spcmapfile: `16499 ${cluster.tablespace}\n` }))
    },
  }
}

function configurationOf(cluster: SimulatedCluster): string {
  return join(cluster.directory, '..', 'main.conf')
}

async function backUp(storage: Storage, cluster: SimulatedCluster): Promise<BackupRecord> {
  const options = {
    storage,
    cluster: 'main',
    connection: 'postgresql:///',
    workers: 1,
    archiveCheck: false,
    archiveCommand: '',
    tidemarkVersion: '0.1.0',
    startCopying: startCopyInThread,
    openSession: async () => openSession(cluster),
  }
  const { record } = await takeBackup(options, SILENT, new AbortController().signal)
  return record
}

/** A second timeline with its history, a backup label (a long name) and a partial segment. */
async function archiveRest(storage: Storage, cluster: SimulatedCluster): Promise<void> {
  const second = { timeline: 2, segment: 3n }
  const files: Record<string, string | Buffer> = {
    [segmentName({ segment: 2n })]: buildSegment({ segment: 2n, mark: 1 }),
    '00000002.history': '1\t0/300000\tno recovery target specified\n',
    [segmentName(second)]: buildSegment(second),
    [`${segmentName({ segment: 1n })}.00000028.backup`]: 'START WAL LOCATION: 0/100028\n',
    [`${segmentName({ segment: 3n })}.partial`]: buildSegment({ segment: 3n }),
  }
  for (const [name, content] of Object.entries(files)) {
    cluster.write(`pg_wal/${name}`, content)
    const path = join(cluster.directory, 'pg_wal', name)
    await pushWalFile({ storages: [storage], cluster: 'main', path })
  }
}

async function describe(storage: Storage, record: BackupRecord): Promise<ExpectedBackup> {
  const rebuild = makeRebuilder(storage, record)
  const entries: Record<string, string> = {}
  for (const entry of await readEntries(storage, record)) {
    entries[entry.path] = describeEntry(entry, await rebuild(entry))
  }
  const { id, stoppedAt, walFirst, walLast, backupLabel } = record
  return { id, stoppedAt, walFirst, walLast, backupLabel, entries }
}

/** The rebuilt files are those of the data directory, or nothing is frozen. */
function requireSame(cluster: SimulatedCluster, expected: ExpectedBackup): void {
  for (const [path, description] of Object.entries(expected.entries)) {
    const isConfiguration = path.startsWith('@config/')
    const location = isConfiguration ? configurationOf(cluster) : join(cluster.directory, path)
    if (description.startsWith('empty ')) continue
    const status = lstatSync(location)
    const mode = status.mode & 0o7777
    const found = status.isSymbolicLink()
      ? describeEntry({ kind: 'link', mode, target: readlinkSync(location) })
      : describeEntry(
          { kind: status.isDirectory() ? 'directory' : 'content', mode },
          status.isFile() ? readFileSync(location) : undefined,
        )
    const [kind, ...rest] = description.split(' ')
    const same = found.split(' ').slice(1).join(' ') === rest.join(' ')
    if (!same) throw new Error(`${path} (${kind}): ${description}, not ${found}`)
  }
}

async function main(directory: string): Promise<void> {
  const repository = join(directory, 'repository')
  if (existsSync(repository)) throw new Error(`${repository} is there: what is frozen stays`)
  mkdirSync(dirname(repository), { recursive: true })
  const storage = await openStorage({ url: `file://${repository}` })
  await createRepository(storage, now())
  const cluster = new SimulatedCluster(temporaryDirectory(undefined, 'tidemark-golden-'))
  addRest(cluster)
  // So that what does not change is taken over unread by the second backup.
  await sleep(2100)
  const backups: ExpectedBackup[] = []
  for (const prepare of [() => {}, change]) {
    prepare(cluster)
    const expected = await describe(storage, await backUp(storage, cluster))
    requireSame(cluster, expected)
    backups.push(expected)
  }
  await archiveRest(storage, cluster)
  await writeHold(storage, 'main', {
    id: '20261121-000000-hold',
    purpose: 'backup',
    attemptId: '0'.repeat(24),
    host: 'nowhere',
    writer: 'boot-0 1 1',
    startedAt: '2026-11-21T00:00:00.000Z',
    needs: [],
  })
  const wal = walOf(join(cluster.directory, 'pg_wal'))
  writeFileSync(join(directory, 'expected.json'), `${JSON.stringify({ backups, wal }, null, 1)}\n`)
}

function walOf(directory: string): Record<string, string> {
  const names = readdirSync(directory).filter((name) => /^[0-9A-F]{24}$|\.history$/.test(name))
  return Object.fromEntries(
    names.sort().map((name) => {
      const bytes = readFileSync(join(directory, name))
      return [name, createHash('sha256').update(bytes).digest('hex')]
    }),
  )
}

const [directory] = process.argv.slice(2)
if (directory === undefined) throw new Error('usage: make-repository.ts DIRECTORY')
await main(resolve(directory))
