import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MB, SYSTEM, SyntheticWal } from '../../test/harness/wal-builder.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { findTail } from './read-tail.ts'
import { settleTail } from './write-tail.ts'

const systemIdentifier = SYSTEM.toString()
const PLACE = { cluster: 'main', systemIdentifier, walSegmentSizeBytes: MB }
const NAME = '000000010000000000000001'

function makeWal(length: number): Buffer {
  const wal = new SyntheticWal()
  while (wal.position < BigInt(MB + length)) {
    wal.append({ xid: 1, info: 0, resourceManager: 1, mainData: Buffer.alloc(3000, 7) })
  }
  return (wal.segments.get(1n) as Buffer).subarray(0, length)
}

async function holding(bytes: Buffer, opening: string): Promise<Storage> {
  const storage = openMemoryStorage()
  const head = { systemIdentifier, segment: NAME, walSegmentSizeBytes: MB, opening }
  const whole = { ...head, writer: 'somebody', startedAt: '' }
  await settleTail({ storage, cluster: 'main', systemIdentifier }, whole, bytes)
  return storage
}

test('a tail that cannot be read is not passed over for a shorter one', async () => {
  const bytes = makeWal(50_000)
  const short = await holding(bytes.subarray(0, 20_000), '00000000000000aa')
  const long = new ForwardingStorage(await holding(bytes, '00000000000000bb'))
  assert.equal((await findTail([short, long], PLACE, NAME))?.bytes.length, 50_000)
  long.read = async () => {
    throw new Failure('TM1501', { message: 'a bad sector', fix: 'replace the disk' })
  }
  const isTold = (error: unknown) => isFailure(error, 'TM1501')
  await assert.rejects(findTail([short, long], PLACE, NAME), isTold)
})
