/** Two repositories with retentions of their own, and expiry beside a sync. */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { startCopyInThread } from '../../src/backup/copy-files.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { SILENT } from '../../src/base/progress.ts'
import { expire } from '../../src/retention/expire.ts'
import type { RetentionPolicy } from '../../src/retention/retention-policy.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { pinBackup } from '../../src/repository/marks.ts'
import { readBackup } from '../../src/repository/read-backups.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { ownPack } from '../../src/sync/plan-sync.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { SimulatedCluster } from './backup-cluster.ts'
import { makeRandom, SlowStorage } from './slow-storage.ts'
import {
  assertEqual,
  holdsOf,
  newObjects,
  rebuildAll,
  syncObjects,
  syncStorages,
} from './sync-repositories.ts'
import {
  CLUSTER,
  changeRecord,
  makeRepository,
  type Objects,
  verifyObjects,
} from './verify-repository.ts'

const NONE = { windowMs: 0, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
const LAST: RetentionPolicy = { ...NONE, last: 1 }

let source: Objects
/** The older one first. */
let ids: [string, string]

before(async () => {
  const { objects, backups } = await makeRepository()
  source = objects
  const [first, second] = backups
  assert.ok(first !== undefined && second !== undefined)
  // Their simulated server has a clock that stands still.
  const earlier = { stoppedAt: '2026-01-02T00:00:00.000Z', stopLsn: '0/180000' }
  changeRecord(objects, first.id, (record) => ({ ...record, ...earlier }))
  ids = [first.id, second.id]
})

async function expireIn(storage: Storage, policy: RetentionPolicy, apply = true) {
  const signal = new AbortController().signal
  return await expire({ storage, cluster: CLUSTER, policy, apply, progress: SILENT, signal })
}

test('what the target would expire at once is not brought', async () => {
  const target = await newObjects()
  const report = await syncObjects(source, target, { policy: LAST })
  assert.deepEqual(report.problems, [])
  assert.deepEqual(report.counts.backups, [ids[1]])
  assert.deepEqual(await rebuildAll(target), [ids[1]])
  assert.deepEqual((await verifyObjects(target)).findings, [])
  const { plan } = await expireIn(openMemoryStorage(target), LAST, false)
  assert.deepEqual([plan.expire, plan.packs, plan.wal], [[], [], []])
  // With another retention the rest comes, packs in part are completed.
  await syncObjects(source, target)
  assertEqual(source, target)
  assert.equal((await rebuildAll(target)).length, 2)
})

test('what the target has expired does not come back, whatever the source keeps', async () => {
  const target = await newObjects()
  await syncObjects(source, target)
  await expireIn(openMemoryStorage(target), LAST)
  assert.deepEqual(await rebuildAll(target), [ids[1]])
  const before = [...target.keys()].sort()
  const again = await syncObjects(source, target, { policy: LAST })
  assert.deepEqual(again.counts, { backups: [], packs: 0, segments: 0, others: 0, bytes: 0 })
  assert.deepEqual([...target.keys()].sort(), before)
})

test('a pin comes with its backup, and keeps it in the target', async () => {
  const from = new Map(source)
  const storage = openMemoryStorage(from)
  await pinBackup(storage, await readBackup(storage, CLUSTER, ids[0]))
  const target = await newObjects()
  const report = await syncObjects(from, target, { policy: LAST })
  assert.deepEqual(report.counts.backups, ids)
  await expireIn(openMemoryStorage(target), LAST)
  assert.equal((await rebuildAll(target)).length, 2)
})

/** Two backups that share nothing: the older one's packs are garbage without its record. */
async function makeApart(): Promise<{ objects: Objects; backups: readonly string[] }> {
  const objects = await newObjects()
  const cluster = new SimulatedCluster(temporaryDirectory())
  const backups: string[] = []
  for (const rewrite of [false, true]) {
    const options = {
      storage: openMemoryStorage(objects),
      cluster: CLUSTER,
      connection: 'postgresql:///',
      workers: 1,
      archiveCheck: false,
      archiveCommand: '',
      tidemarkVersion: 'test',
      full: rewrite,
      rewrite,
      startCopying: startCopyInThread,
      openSession: async () => cluster.openSession(),
    }
    const { record } = await takeBackup(options, SILENT, new AbortController().signal)
    backups.push(record.id)
  }
  const earlier = { stoppedAt: '2026-01-02T00:00:00.000Z', stopLsn: '0/180000' }
  changeRecord(objects, backups[0] as string, (record) => ({ ...record, ...earlier }))
  return { objects, backups }
}

test('an expiry of the target beside a sync into it: what is listed rebuilds', async () => {
  const { objects: source, backups: ids } = await makeApart()
  const outcomes = new Set<string>()
  for (let seed = 1; seed <= 40; seed++) {
    const target = await newObjects()
    await syncObjects(source, target)
    // As a sync leaves it that was cut off: packs, the last one and the record not yet.
    const older = await readBackup(openMemoryStorage(source), CLUSTER, ids[0] ?? '')
    target.delete(backupKey(CLUSTER, older.id))
    target.delete(packKey(CLUSTER, ownPack(older) ?? ''))
    const random = makeRandom(seed)
    const slow = (): Storage => new SlowStorage(openMemoryStorage(target), random)
    const later = async () => {
      for (let at = 0; at < 3 * seed; at++) await turn()
      return await syncStorages(openMemoryStorage(new Map(source)), slow())
    }
    const [report] = await Promise.all([later(), expireIn(slow(), LAST)])
    const listed = await rebuildAll(target)
    assert.ok(listed.includes(ids[1] ?? ''), `seed ${seed}`)
    const isThere = listed.includes(ids[0] ?? '')
    const isTold = report.keptBack.some(({ backupId }) => backupId === ids[0])
    assert.ok(isThere !== isTold, `seed ${seed}`)
    outcomes.add(`${isThere}`)
    assert.deepEqual(holdsOf(target), [], `seed ${seed}`)
    const clean = await syncObjects(source, target)
    assert.deepEqual([clean.problems, clean.keptBack], [[], []], `seed ${seed}`)
    assertEqual(source, target)
  }
  assert.ok(outcomes.size > 1, [...outcomes].join())
})

test('an expiry of the source beside a sync out of it: the target rebuilds', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const target = await newObjects()
    const from = new Map(source)
    const random = makeRandom(seed)
    const slow = (): Storage => new SlowStorage(openMemoryStorage(from), random)
    await Promise.all([syncStorages(slow(), openMemoryStorage(target)), expireIn(slow(), LAST)])
    assert.ok((await rebuildAll(target)).includes(ids[1]), `seed ${seed}`)
    assert.ok((await rebuildAll(from)).includes(ids[1]), `seed ${seed}`)
    assert.deepEqual([...holdsOf(from), ...holdsOf(target)], [])
  }
})
