/** Backups into a bucket with object lock: everything they need stays locked, and expiry waits. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { now, sleep } from '../../src/base/clock.ts'
import { isFailure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { ObjectLocks, Storage } from '../../src/storage/storage.ts'
import { type S3Server, startS3Server, whyNoS3Server } from '../harness/s3-server.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SimulatedCluster } from './backup-cluster.ts'
import { rebuildBackup } from './backup-rebuild.ts'
import { simulatedOptions } from './take-simulated-backup.ts'

const skip = whyNoS3Server() ?? false
const LOCK_S = 16
let server: S3Server

before(async () => {
  if (skip === false) server = await startS3Server()
})
after(async () => await server?.stop())

async function backUp(storage: Storage, cluster: SimulatedCluster) {
  const options = {
    storage,
    ...simulatedOptions(cluster),
  }
  return await takeBackup(options, SILENT, new AbortController().signal)
}

test('each backup extends the locks that it needs, and locked packs outlive an expiry', {
  skip,
}, async () => {
  const cluster = new SimulatedCluster(temporaryDirectory())
  const objectLock = { mode: 'governance', days: LOCK_S / 86_400 } as const
  const url = `s3://${await server.createBucket('locked')}/x`
  const storage = await openStorage({ url, s3: { ...server.settings, objectLock } })
  await createRepository(storage, now())
  const locks = storage.locks as ObjectLocks
  const first = (await backUp(storage, cluster)).record
  assert.equal(first.locks?.length, 1)
  const oldKeys = first.packs.map(({ id }) => packKey('main', id))
  const before = await Promise.all(oldKeys.map(async (key) => await locks.lockedUntil(key)))
  assert.ok(before.every((until) => (until?.getTime() ?? 0) > now().getTime()))
  // Still more than half of the time.
  cluster.write('global/1262', pages(2, 5))
  const second = await backUp(storage, cluster)
  assert.ok(!second.notes.some((note) => note.includes('locked')), second.notes.join())
  const halfAway = (before[0]?.getTime() ?? 0) - (LOCK_S * 1000) / 2
  while (now().getTime() < halfAway) await sleep(200)
  cluster.write('global/1262', pages(2, 6))
  const third = await backUp(storage, cluster)
  assert.match(third.notes.join(), /\d+ packs in s3.* are locked until/)
  const names = new Set(third.record.packs.map(({ id }) => packKey('main', id)))
  for (const [number, key] of oldKeys.entries()) {
    if (!names.has(key)) continue
    const until = (await locks.lockedUntil(key))?.getTime() ?? 0
    assert.ok(until > (before[number]?.getTime() ?? 0) + 4000, key)
  }
  assert.ok((await rebuildBackup(storage, third.record)).size > 20)
  // An expiry that comes too early: nothing that is locked is hidden or gone.
  const packs = third.record.packs.map(({ id }) => packKey('main', id))
  const removal = storage.removeMany([backupKey('main', third.record.id), ...packs])
  await assert.rejects(removal, (error) => isFailure(error, 'TM1513'))
  assert.ok((await rebuildBackup(storage, third.record)).size > 20)
  await storage.close()
})
