/** Events out of what was flushed of a segment, wherever that ends. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MB, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { encodeTailPiece } from '../archive/tail-format.ts'
import { pieceKey } from '../archive/tail-keys.ts'
import { segmentKey } from '../archive/wal-file-name.ts'
import { encodeWalObject } from '../archive/wal-object.ts'
import { formatSegmentName } from '../postgres/lsn.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { readEvents } from './read-events.ts'

const ID = SYSTEM.toString()

test('every whole commit of a tail is told, and never one that the tail cuts', async () => {
  const wal = new SyntheticWal()
  const ends: bigint[] = []
  for (let xid = 1; wal.position < BigInt(2 * MB + 40_000); xid++) {
    // What is behind the tail is read as zeros, which must not be the content.
    const mainData = Buffer.alloc(8 + 4 * (xid % 300), 0x5a)
    mainData.writeBigInt64LE(BigInt(xid) * 1_000_000n)
    wal.append({ xid, info: 0, resourceManager: 1, mainData })
    ends.push(wal.position)
  }
  const bytes = wal.segments.get(2n) as Buffer
  const segment = formatSegmentName(1, 2n, MB)
  const name = formatSegmentName(1, 1n, MB)
  const content = wal.segments.get(1n) as Buffer
  const before = encodeWalObject({ systemIdentifier: ID, name, headerTimeline: 1, content })
  for (const length of [50, 3000, 8192, 8200, 20_011, 20_012, 33_333, 39_999]) {
    const storage = openMemoryStorage()
    const identity = { major: 15, walSegmentSizeBytes: MB, createdAt: '' }
    await ensureSystemIdentity(storage, 'main', { systemIdentifier: ID, ...identity })
    await storage.write(segmentKey('main', ID, name), before)
    const opening = '0123456789abcdef'
    const rest = { walSegmentSizeBytes: MB, opening, writer: '', startedAt: '' }
    const head = { systemIdentifier: ID, segment, ...rest }
    const key = pieceKey('main', ID, segment, opening, 0, length)
    await storage.write(key, encodeTailPiece(head, 0, [bytes.subarray(0, length)]))
    const archive = { cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }
    const path = { timeline: 1, ancestors: [] }
    const found: number[] = []
    let others = 0
    const options = { storages: [storage], ...archive, path, from: 'start', to: 'end' } as const
    for await (const event of readEvents(options)) {
      if (event.kind === 'transaction') found.push(event.xid)
      else others++
    }
    const reached = BigInt(2 * MB + length)
    const whole = ends.filter((end) => end <= reached).length
    const most = ends.filter((end) => end <= reached + 7n).length
    assert.ok(
      found.length >= whole && found.length <= most,
      `${length}: ${found.length}, not ${whole} to ${most}`,
    )
    assert.deepEqual([found.at(-1) ?? 0, others], [found.length, 0])
  }
})
