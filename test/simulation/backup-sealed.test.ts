/**
 * A backup into an encrypted repository that is cut off wherever an object becomes visible or
 * goes: what is listed is whole, a second run ends it, and another one finds nothing in the clear.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { VerifyReport } from '../../src/recovery/verify.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { isSealedKey, openSealedStorage } from '../../src/storage/sealed-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { forEachCrashPoint } from '../harness/faulty-storage.ts'
import { testGenerations, testSealing } from '../harness/sealing.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SimulatedCluster } from './backup-cluster.ts'
import { verifyStorage } from './verify-repository.ts'
import { takeSimulatedBackup } from './take-simulated-backup.ts'

async function backUp(storage: Storage, cluster: SimulatedCluster): Promise<void> {
  await takeSimulatedBackup(storage, cluster)
}

/** The WAL of the simulated cluster has no records: that much is true of every run. */
function faultsOf({ findings }: VerifyReport): string[] {
  return findings.filter(({ code }) => code !== 'TM1409').map(({ message }) => message)
}

const VISIBLE: ReadonlySet<string> = new Set(['commit', 'write', 'remove'])

test('cut off anywhere, what is listed is whole and nothing is in the clear', async () => {
  const cluster = new SimulatedCluster(temporaryDirectory())
  const first = new Map<string, Uint8Array>()
  const { repositoryId } = await createRepository(openMemoryStorage(first), new Date(0), true)
  const keys = testGenerations(testSealing('test', repositoryId))
  for (const [key, bytes] of keys) first.set(key, bytes)
  const seal = (storage: Storage) => openSealedStorage(storage, testSealing('test', repositoryId))
  await backUp(seal(openMemoryStorage(first)), cluster)
  cluster.write('base/5/16391', pages(5, 15))
  let objects = new Map(first)
  const crashes = await forEachCrashPoint({
    async prepare() {
      objects = new Map(first)
      return openMemoryStorage(objects)
    },
    async run(faulty) {
      await backUp(seal(faulty), cluster)
    },
    async check(left) {
      for (const [key, bytes] of objects) {
        const isSealed = Buffer.from(bytes).toString('latin1', 0, 8) === 'TMSEAL01'
        assert.equal(isSealed, isSealedKey(key), key)
      }
      const before = await verifyStorage(seal(left))
      assert.deepEqual(faultsOf(before), [])
      await backUp(seal(left), cluster)
      const after = await verifyStorage(seal(left))
      assert.deepEqual(faultsOf(after), [])
      assert.ok(after.backups > before.backups && before.backups >= 1)
    },
    crashAt: ({ operation }) => VISIBLE.has(operation),
  })
  assert.ok(crashes >= 8, `${crashes} crashes`)
})
