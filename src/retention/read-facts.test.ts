/** What lies beside the WAL is told apart, so that it expires with what it belongs to. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { INDEXED, storeSegment } from '../../test/harness/indexed-wal.ts'
import { MB } from '../../test/harness/wal-builder.ts'
import { breakKey, type WalBreak, writeBreak } from '../archive/break-mark.ts'
import { lsn } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { readFacts } from './read-facts.ts'

test('the mark of a break belongs to its segment', async () => {
  const storage = openMemoryStorage()
  const { cluster, systemIdentifier } = INDEXED
  const server = { systemIdentifier, major: 15, walSegmentSizeBytes: MB }
  await ensureSystemIdentity(storage, cluster, { ...server, createdAt: '2026-01-01T00:00:00Z' })
  await storeSegment(storage, 3n)
  const mark: WalBreak = { timeline: 1, lsn: lsn(BigInt(3 * MB + 160)), kind: 'minimal' }
  await writeBreak(storage, cluster, systemIdentifier, mark)
  const { systems } = await readFacts({ storage, cluster })
  const others = systems[0]?.others.map(({ key, kind, segment }) => [key, kind, segment])
  assert.deepEqual(others, [[breakKey(cluster, systemIdentifier, mark), 'break', 3]])
})
