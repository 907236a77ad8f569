/** Sparse packs: what is kept reads as before, what was dropped is missing, by name. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { forEachCrashPoint, openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { isFailure } from '../base/failure.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { compactPack } from './compact-pack.ts'
import { packKey } from './keys.ts'
import { FRAME_KINDS, PACK_TRAILER_BYTES } from './pack-format.ts'
import { openPack } from './pack-reader.ts'
import { PackWriter } from './pack-writer.ts'
import { createRepository } from './repository.ts'

const ID = `${'b'.repeat(24)}00000000`
const KEY = packKey('main', ID)

/** A pack whose frame n holds n and noise, of lengths that differ. */
async function makePack(frames: number): Promise<{ storage: Storage; raws: Buffer[] }> {
  const storage = openMemoryStorage(new Map())
  await createRepository(storage, new Date(0))
  const writer = new PackWriter({
    storage,
    cluster: 'main',
    attemptId: 'b'.repeat(24),
    firstSequence: 0,
    sequenceStep: 1,
    compressionLevel: 1,
  })
  await writer.begin()
  const raws = Array.from({ length: frames }, (_, n) => {
    const bytes = Buffer.alloc(200 + ((n * 37) % 900))
    for (let at = 0; at < bytes.length; at++)
      bytes[at] = Math.imul(n * 7919 + at, 2654435761) >>> 24
    return n % 3 === 0 ? Buffer.alloc(4000, n) : bytes
  })
  raws.forEach((raw, n) => {
    writer.add(FRAME_KINDS.content, raw, 1, [{ path: `f${n}`, first: n, count: 1 }])
  })
  await writer.finish()
  return { storage, raws }
}

async function assertHolds(storage: Storage, raws: readonly Buffer[], live: ReadonlySet<number>) {
  const pack = await openPack(storage, 'main', ID)
  for (const [ordinal, raw] of raws.entries()) {
    if (live.has(ordinal)) assert.deepEqual(Buffer.from(await pack.readFrame(ordinal)), raw)
    else {
      assert.equal(pack.holdsFrame(ordinal), false)
      await assert.rejects(pack.readFrame(ordinal), (error) => {
        assert.ok(isFailure(error, 'TM1602'))
        return error.message.includes(`frame ${ordinal} of ${KEY}`)
      })
      const stored = await pack.readStored(ordinal, 1)
      assert.throws(() => pack.decodeUnproved(ordinal, ordinal, stored), /is missing/)
    }
  }
}

test('any frames may be dropped, in any number of steps; the rest stays as it was', async () => {
  const steps = fc.array(fc.uniqueArray(fc.nat({ max: 19 })), { minLength: 1, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(steps, async (drops) => {
      const { storage, raws } = await makePack(20)
      const live = new Set(raws.keys())
      const first = await openPack(storage, 'main', ID)
      for (const drop of drops) {
        const before = live.size
        for (const ordinal of drop) live.delete(ordinal)
        const done = await compactPack(storage, 'main', ID, (n) => live.has(n))
        assert.equal(done.framesDropped, before - live.size)
        assert.equal(done.bytesAfter, await storage.size(KEY))
        await assertHolds(storage, raws, live)
      }
      const last = await openPack(storage, 'main', ID)
      assert.equal(last.isSparse, live.size < raws.length)
      first.frames.forEach(({ kind, slots, rawLength, hash, extents, codec }, ordinal) => {
        const kept = live.has(ordinal)
        const now = last.frames[ordinal]
        assert.deepEqual(
          { ...now, offset: 0, storedLength: 0 },
          {
            kind,
            slots,
            rawLength,
            hash,
            extents: kept ? extents : [],
            codec: kept ? codec : 255,
            offset: 0,
            storedLength: 0,
          },
        )
      })
    }),
    { numRuns: 60 },
  )
})

test('the same frames dropped in one step or in several give the same bytes', async () => {
  const [one, two] = [await makePack(12), await makePack(12)]
  await compactPack(one.storage, 'main', ID, (n) => n > 6)
  await compactPack(two.storage, 'main', ID, (n) => n > 2)
  await compactPack(two.storage, 'main', ID, (n) => n > 6)
  assert.deepEqual(await one.storage.read(KEY), await two.storage.read(KEY))
})

test('a reader with the index of before finds what it needs in the sparse pack', async () => {
  const { storage, raws } = await makePack(30)
  const early = await openPack(storage, 'main', ID)
  const stale = await openPack(storage, 'main', ID)
  const bytes = await early.readStored(10, 5)
  await compactPack(storage, 'main', ID, (n) => n % 2 === 0)
  // What was read before goes on to hold, by the index that it was read with.
  assert.deepEqual(Buffer.from(early.decodeStored(12, 10, bytes)), raws[12])
  assert.deepEqual(Buffer.from(await early.readFrame(28)), raws[28])
  await assert.rejects(early.readFrame(29), (error) => isFailure(error, 'TM1602'))
  const read = async () => stale.decodeStored(24, 24, await stale.readStored(24, 1))
  await assert.rejects(read(), (error) => isFailure(error, 'TM1601'))
  const now = await stale.reopen()
  assert.ok(now !== undefined)
  assert.deepEqual(Buffer.from(now.decodeStored(24, 24, await now.readStored(24, 1))), raws[24])
  assert.equal(await now.reopen(), undefined)
})

test('what is damaged stays damage: a wrong frame is no reason to go on for ever', async () => {
  const { storage } = await makePack(5)
  const pack = await openPack(storage, 'main', ID)
  const bytes = Buffer.from((await storage.read(KEY)) as Uint8Array)
  const at = pack.frames[1]?.offset ?? 0
  bytes[at] = (bytes[at] as number) ^ 1
  await storage.write(KEY, bytes)
  await assert.rejects(pack.readFrame(1), (error) => isFailure(error, 'TM1601'))
  // A living frame that does not hold: the pack is left as it is.
  const repacked = compactPack(storage, 'main', ID, (n) => n !== 4)
  await assert.rejects(repacked, (error) => isFailure(error, 'TM1601'))
  assert.deepEqual(Buffer.from((await storage.read(KEY)) as Uint8Array), bytes)
  // A dead one goes with its damage.
  await compactPack(storage, 'main', ID, (n) => n !== 1)
})

test('a pack that is replaced while it is opened is opened again', async () => {
  const { storage, raws } = await makePack(30)
  const old = Buffer.from((await storage.read(KEY)) as Uint8Array)
  await compactPack(storage, 'main', ID, (n) => n < 5)
  const sparse = Buffer.from((await storage.read(KEY)) as Uint8Array)
  for (let at = 1; at <= 4; at++) {
    await storage.write(KEY, old)
    const faulty = openFaultyStorage(storage)
    const { size, readRange } = faulty
    let calls = 0
    const replace = async () => {
      if (++calls === at) await storage.write(KEY, sparse)
    }
    faulty.size = async (key) => {
      await replace()
      return await size.call(faulty, key)
    }
    faulty.readRange = async (key, offset, length) => {
      await replace()
      return await readRange.call(faulty, key, offset, length)
    }
    const pack = await openPack(faulty, 'main', ID)
    assert.deepEqual(Buffer.from(await pack.readFrame(3)), raws[3])
  }
})

test('unknown flags of a pack ask for a newer Tidemark', async () => {
  const { storage } = await makePack(2)
  const bytes = Buffer.from((await storage.read(KEY)) as Uint8Array)
  bytes[24] = 4
  // With a hash that holds: somebody wrote it so.
  const { hash } = await import('node:crypto')
  const at = bytes.length - PACK_TRAILER_BYTES
  const index = bytes.subarray(Number(bytes.readBigUInt64LE(at)), at)
  const proof = Buffer.concat([bytes.subarray(0, 64), index, bytes.subarray(at, at + 16)])
  hash('sha256', proof, 'buffer').copy(bytes, at + 16)
  await storage.write(KEY, bytes)
  await assert.rejects(openPack(storage, 'main', ID), (error) => isFailure(error, 'TM1504'))
})

test('repacking that crashes at any call leaves the old pack or the sparse one', async () => {
  const live = new Set([0, 3, 4, 9])
  const { raws } = await makePack(12)
  const crashes = await forEachCrashPoint({
    prepare: async () => (await makePack(12)).storage,
    run: async (storage) => await compactPack(storage, 'main', ID, (n) => live.has(n)),
    check: async (storage, { when }) => {
      const { isSparse } = await openPack(storage, 'main', ID)
      if (when === 'never') assert.ok(isSparse)
      await assertHolds(storage, raws, isSparse ? live : new Set(raws.keys()))
      await compactPack(storage, 'main', ID, (n) => live.has(n))
      await assertHolds(storage, raws, live)
    },
  })
  assert.ok(crashes > 20, `${crashes} crashes`)
})

test('a storage that still gives the old pack is found out', async () => {
  const { storage } = await makePack(8)
  const old = Buffer.from((await storage.read(KEY)) as Uint8Array)
  const { openWriter } = storage
  storage.openWriter = async (key) => {
    const writer = await openWriter.call(storage, key)
    const commit = async () => {
      await writer.commit()
      await storage.write(key, old)
    }
    return { append: (pieces) => writer.append(pieces), abort: writer.abort, commit }
  }
  const repacked = compactPack(storage, 'main', ID, (n) => n > 2)
  await assert.rejects(repacked, (error) => isFailure(error, 'TM1920'))
})
