/** What was flushed of the last segment, brought by syncs while it grows, and after. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findWalFile } from '../../src/archive/fetch-wal.ts'
import { listWal } from '../../src/archive/list-wal.ts'
import { readTailsOf } from '../../src/archive/read-tail.ts'
import { formatSegmentName, lsn } from '../../src/postgres/lsn.ts'
import { openWalSink } from '../../src/receive/wal-sink.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { ensureSystemIdentity } from '../../src/repository/system-identity.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { openSealedStorage } from '../../src/storage/sealed-storage.ts'
import { testSealing } from '../harness/sealing.ts'
import { makeStreamed } from '../harness/streamed-wal.ts'
import { MB, SYSTEM } from '../harness/wal-builder.ts'
import { newObjects, syncStorages } from './sync-repositories.ts'

const ID = SYSTEM.toString()
const PLACE = { cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }
const { bytes, begin } = makeStreamed()

test('a repository behind has, after each sync, what was flushed by then', async () => {
  const source = openMemoryStorage(await newObjects())
  const inner = openMemoryStorage()
  await createRepository(inner, new Date(), true)
  const target = openSealedStorage(inner, testSealing())
  const identity = { major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(source, 'main', { systemIdentifier: ID, ...identity })
  const { sink } = await openWalSink({ required: [source], cluster: 'main', systemIdentifier: ID })
  let at = 0
  for (const to of [30_000, 500_000, 500_000, MB + 10_000, 3 * MB + 7000]) {
    if (to > at) sink.append(1, lsn(BigInt(begin + at)), bytes.subarray(at, to))
    at = to
    await sink.flush()
    const { problems } = await syncStorages(source, target)
    assert.deepEqual(problems, [])
    const last = formatSegmentName(1, BigInt(1 + Math.floor(at / MB)), MB)
    const tails = await readTailsOf(target, PLACE, last)
    assert.equal(tails.length, 1)
    assert.ok(tails[0]?.bytes.equals(bytes.subarray(at - (at % MB), at)))
    const listed = await listWal(target, 'main', ID)
    assert.deepEqual(
      listed.tails.map(({ parts }) => parts.length),
      [1],
      'shorter copies and those of whole segments are gone',
    )
    for (let segment = 0; segment < Math.floor(at / MB); segment++) {
      const name = formatSegmentName(1, BigInt(segment + 1), MB)
      const request = { storages: [target], cluster: 'main', systemIdentifier: ID, name }
      const expected = bytes.subarray(segment * MB, (segment + 1) * MB)
      assert.ok((await findWalFile(request))?.content.equals(expected))
    }
  }
  await sink.close()
})
