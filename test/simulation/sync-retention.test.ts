import assert from 'node:assert/strict'
import { test } from 'node:test'
import { walPrefix } from '../../src/archive/wal-file-name.ts'
import { SILENT } from '../../src/base/progress.ts'
import { pinBackup } from '../../src/repository/marks.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { readTargetRetention } from '../../src/retention/choose-for-sync.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { SYSTEM, segmentName } from '../harness/wal-builder.ts'
import { makeScene } from './expiry-scene.ts'

test('a sync wants what the retention of its target keeps, and what is pinned there', async () => {
  const scene = await makeScene()
  const source = openMemoryStorage(new Map(scene.objects))
  const target = openMemoryStorage(new Map(scene.objects))
  const { backups } = await listBackups(source, 'main')
  const policy = { windowMs: 0, last: 2, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
  const request = { source, target, cluster: 'main', policy, progress: SILENT }
  const wants = async (): Promise<boolean[]> => {
    const choice = (await readTargetRetention(request))(backups)
    return backups.map((record) => choice.wantsBackup(record))
  }
  // The first is pinned: the source's own pin counts nothing, the target's does.
  assert.deepEqual(await wants(), [true, false, true, true])
  await target.remove(`clusters/main/pins/${scene.ids[0]}.pin`)
  assert.deepEqual(await wants(), [false, false, true, true])
  const [, second] = backups
  assert.ok(second !== undefined)
  await pinBackup(target, second)
  assert.deepEqual(await wants(), [false, true, true, true])
  const { wantsWal } = (await readTargetRetention(request))(backups)
  const keyOf = (segment: bigint): { key: string } => {
    const prefix = walPrefix('main', SYSTEM.toString())
    return { key: `${prefix}00000001/00000000/${segmentName({ segment })}.wal` }
  }
  assert.deepEqual(
    [0n, 1n, 2n, 4n].map((one) => wantsWal(keyOf(one))),
    [false, false, true, true],
  )
})
