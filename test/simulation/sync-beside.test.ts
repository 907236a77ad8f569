/**
 * A sync beside other writers of its target, in many interleavings of their storage calls: what
 * is listed rebuilds, nobody fails for the other's sake, and a clean re-run converges.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { readBackup } from '../../src/repository/read-backups.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SEGMENT_PAGES, SimulatedCluster } from './backup-cluster.ts'
import { makeRandom, SlowStorage } from './slow-storage.ts'
import {
  holdsOf,
  newObjects,
  rebuildAll,
  sharedObjects,
  syncObjects,
  syncStorages,
} from './sync-repositories.ts'
import { CLUSTER, type Objects } from './verify-repository.ts'
import { takeSimulatedBackup } from './take-simulated-backup.ts'

const SEEDS = 40

let cluster: SimulatedCluster
let source: Objects
let backups: string[]

before(async () => {
  cluster = new SimulatedCluster(temporaryDirectory())
  source = await newObjects()
  backups = [await backUp(openMemoryStorage(source))]
  cluster.write('base/5/16384', pages(SEGMENT_PAGES, 3).fill(7, 8192 * 5, 8192 * 6))
  cluster.write('pg_xact/0000', pages(1, 16))
  backups.push(await backUp(openMemoryStorage(source)))
})

async function backUp(storage: Storage): Promise<string> {
  return (await takeSimulatedBackup(storage, cluster)).id
}

async function assertConverged(from: Objects, to: Objects, message: string): Promise<void> {
  const report = await syncObjects(from, to)
  assert.deepEqual([report.problems, report.keptBack], [[], []], message)
  const there = sharedObjects(to)
  for (const [key, bytes] of sharedObjects(from)) {
    // Each repository writes its identities itself.
    assert.ok(key.includes('/systems/') || there.get(key) === bytes, `${message}: ${key}`)
  }
  assert.deepEqual(holdsOf(to), [], message)
}

test('beside a backup into the target, whose base may have just been brought', async () => {
  const bases = new Set<string | undefined>()
  for (let seed = 1; seed <= SEEDS; seed++) {
    const target = await newObjects()
    const from = new Map(source)
    const random = makeRandom(seed)
    cluster.write('base/5/16391', pages(5, 100 + seed))
    const slow = (): Storage => new SlowStorage(openMemoryStorage(target), random)
    const later = async (): Promise<string> => {
      for (let at = 0; at < 15 * (seed - 1); at++) await turn()
      return await backUp(slow())
    }
    const [report, id] = await Promise.all([syncStorages(openMemoryStorage(from), slow()), later()])
    assert.deepEqual([report.problems, report.keptBack], [[], []], `seed ${seed}`)
    const listed = await rebuildAll(target)
    assert.deepEqual(listed.sort(), [...backups, id].sort(), `seed ${seed}`)
    const { comparedWith } = await readBackup(openMemoryStorage(target), CLUSTER, id)
    bases.add(comparedWith)
    await assertConverged(from, target, `seed ${seed}`)
  }
  assert.ok(bases.size > 1, `bases: ${[...bases].join()}`)
})
