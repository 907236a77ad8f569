/** Sealed storage: the contract over other drivers, and that nothing changed passes. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { collect } from '../../test/harness/faulty-storage.ts'
import { testDataKey, testSealing } from '../../test/harness/sealing.ts'
import { describeStorageContract } from '../../test/harness/storage-contract.ts'
import { Failure, isFailure } from '../base/failure.ts'
import { ForwardingStorage } from './forwarding-storage.ts'
import { openMemoryStorage } from './memory-storage.ts'
import { openPosixStorage } from './posix-storage.ts'
import { openSealedStorage, type SealedStorage } from './sealed-storage.ts'
import type { ObjectWriter, Storage } from './storage.ts'
import { MARKER_KEY } from './storage-key.ts'

const BLOCK = 65536
const STORED = BLOCK + 16
const HEADER = 64
const GENERATION = 'keys/00000001.key'

describeStorageContract('sealed over memory', async () => {
  const objects = new Map<string, Uint8Array>()
  const open = (): Storage => openSealedStorage(openMemoryStorage(objects), testSealing())
  return { storage: open(), openAgain: async () => open(), dispose: async () => undefined }
})

describeStorageContract('sealed over posix', async () => {
  const root = mkdtempSync(join(tmpdir(), 'tidemark-sealed-'))
  const open = (): Storage => openSealedStorage(openPosixStorage({ root }), testSealing())
  const storage = open()
  await storage.write(MARKER_KEY, Buffer.from('{}'))
  const dispose = async () => rmSync(root, { recursive: true })
  return { storage, openAgain: async () => open(), dispose }
})

interface Place {
  readonly objects: Map<string, Uint8Array>
  readonly sealed: SealedStorage
}

function openPlace(): Place {
  const objects = new Map<string, Uint8Array>()
  return { objects, sealed: openSealedStorage(openMemoryStorage(objects), testSealing()) }
}

/** Bytes that differ everywhere, so that a block at a wrong place shows. */
function patternOf(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32LE((at * 2654435761) >>> 0, at)
  return bytes
}

const isDamage = (error: unknown): boolean => isFailure(error, 'TM1601') && error.fix !== ''

/** Sizes around every boundary of blocks. */
const SIZES = [0, 1, 15, 16, 17, 100, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 16, 2 * BLOCK]

test('sizes are plain ones, and stored sizes follow the formula', async () => {
  const { objects, sealed } = openPlace()
  for (const size of [...SIZES, 3 * BLOCK + 5]) {
    await sealed.write(`size/${size}`, patternOf(size))
    const stored = objects.get(`size/${size}`)?.length
    assert.equal(stored, HEADER + size + 16 * Math.max(1, Math.ceil(size / BLOCK)))
    assert.equal(await sealed.size(`size/${size}`), size)
    assert.ok(patternOf(size).equals((await sealed.read(`size/${size}`)) ?? Buffer.from('no')))
  }
  for (const { key, sizeBytes } of await collect(sealed.list('size/'))) {
    assert.equal(key, `size/${sizeBytes}`)
  }
})

test('any range of any size, written in any pieces, is that of the plain bytes', async () => {
  const size = fc.oneof(fc.constantFrom(...SIZES), fc.nat(3 * BLOCK + 100))
  const around = fc.oneof(fc.constantFrom(0, BLOCK - 1, BLOCK, BLOCK + 1), fc.nat(4 * BLOCK))
  await fc.assert(
    fc.asyncProperty(
      size,
      fc.array(around, { maxLength: 4 }),
      fc.array(fc.tuple(around, around), { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      async (bytes, cuts, ranges, recalls) => {
        const { objects, sealed } = openPlace()
        const plain = patternOf(bytes)
        const writer = await sealed.openWriter('object')
        let from = 0
        for (const cut of cuts.filter((at) => at <= bytes).sort((a, b) => a - b)) {
          writer.append([plain.subarray(from, cut)])
          from = cut
        }
        writer.append([plain.subarray(from)])
        await writer.commit()
        let reader = sealed
        for (const [offset, length] of ranges) {
          if (!recalls) reader = openSealedStorage(openMemoryStorage(objects), testSealing())
          const into = Buffer.alloc(length, 0xee)
          const expected = plain.subarray(offset, offset + length)
          const found = await reader.readRange('object', offset, length)
          assert.ok(expected.equals(found ?? Buffer.from('absent')), `${offset}, ${length}`)
          const put = await reader.readRange('object', offset, length, into)
          assert.ok(expected.equals(put ?? Buffer.from('absent')))
          assert.ok(into.subarray(0, expected.length).equals(expected))
        }
      },
    ),
    { numRuns: 60 },
  )
})

/** What every way of reading the object makes of it: each fails, or gives what was written. */
async function assertNoticed(objects: Map<string, Uint8Array>, key: string): Promise<void> {
  objects.set(GENERATION, Buffer.from('not looked at: it is known'))
  const fresh = () => openSealedStorage(openMemoryStorage(objects), testSealing())
  await assert.rejects(fresh().read(key), isDamage)
}

test('every bit of header, block and tag counts', async () => {
  const { objects, sealed } = openPlace()
  await sealed.write('a', patternOf(40))
  const stored = objects.get('a') as Uint8Array
  for (let bit = 0; bit < stored.length * 8; bit++) {
    const changed = new Uint8Array(stored)
    changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7))
    const place = new Map([['a', changed]])
    await assertNoticed(place, 'a')
    const reader = openSealedStorage(openMemoryStorage(place), testSealing())
    await assert.rejects(reader.readRange('a', 3, 5), isDamage, `bit ${bit}`)
  }
})

test('a bit of a block is noticed by whole reads, and by ranges that touch the block', async () => {
  const { objects, sealed } = openPlace()
  await sealed.write('a', patternOf(3 * BLOCK + 10))
  const stored = objects.get('a') as Uint8Array
  for (const at of [HEADER, HEADER + STORED + 7, HEADER + 2 * STORED - 1, stored.length - 1]) {
    const changed = new Uint8Array(stored)
    changed[at] = (changed[at] as number) ^ 1
    const place = new Map([['a', changed]])
    await assertNoticed(place, 'a')
    const block = Math.floor((at - HEADER) / STORED)
    for (let other = 0; other <= 3; other++) {
      const reader = openSealedStorage(openMemoryStorage(place), testSealing())
      const reading = reader.readRange('a', other * BLOCK, 5)
      if (other === block) await assert.rejects(reading, isDamage)
      else
        assert.ok(
          patternOf(3 * BLOCK + 10)
            .subarray(other * BLOCK, other * BLOCK + 5)
            .equals((await reading) as Uint8Array),
        )
    }
  }
})

test('every cut is noticed, also by ranges behind it', async () => {
  const { objects, sealed } = openPlace()
  await sealed.write('a', patternOf(3 * BLOCK))
  const stored = objects.get('a') as Uint8Array
  const cuts = [0, 1, 63, 64, 79, 80, 100]
  for (let block = 0; block <= 3; block++) {
    for (const more of [-17, -16, -1, 0, 1, 15, 16, 17]) cuts.push(HEADER + block * STORED + more)
  }
  for (const cut of cuts.filter((at) => at >= 0 && at < stored.length)) {
    const place = new Map([['a', stored.subarray(0, cut)]])
    await assertNoticed(place, 'a')
    for (const offset of [cut, 3 * BLOCK - 5, 5 * BLOCK]) {
      const reader = openSealedStorage(openMemoryStorage(place), testSealing())
      await assert.rejects(reader.readRange('a', offset, 10), isDamage, `${cut}: ${offset}`)
    }
    const last = Math.max(0, Math.ceil((cut - HEADER) / STORED) - 1)
    const reader = openSealedStorage(openMemoryStorage(place), testSealing())
    await assert.rejects(reader.readRange('a', last * BLOCK, BLOCK), isDamage, `${cut}`)
  }
})

test('bytes behind the end are noticed', async () => {
  const { objects, sealed } = openPlace()
  for (const size of [0, 5, BLOCK, BLOCK + 3]) {
    await sealed.write('a', patternOf(size))
    for (const more of [1, 16, 17, STORED]) {
      const longer = Buffer.concat([objects.get('a') as Uint8Array, Buffer.alloc(more)])
      await assertNoticed(new Map([['a', longer]]), 'a')
    }
  }
})

test('exchanged blocks, of one object or of two, are noticed', async () => {
  const { objects, sealed } = openPlace()
  await sealed.write('a', Buffer.alloc(4 * BLOCK, 1))
  await sealed.write('b', Buffer.alloc(4 * BLOCK, 1))
  const [a, b] = [objects.get('a') as Buffer, objects.get('b') as Buffer]
  const block = (of: Uint8Array, i: number) =>
    of.subarray(HEADER + i * STORED, HEADER + (i + 1) * STORED)
  for (let one = 0; one < 4; one++) {
    for (let other = 0; other < 4; other++) {
      const swapped = new Uint8Array(a)
      swapped.set(block(a, other), HEADER + one * STORED)
      swapped.set(block(a, one), HEADER + other * STORED)
      if (one !== other) await assertNoticed(new Map([['a', swapped]]), 'a')
      const mixed = new Uint8Array(a)
      mixed.set(block(b, other), HEADER + one * STORED)
      await assertNoticed(new Map([['a', mixed]]), 'a')
    }
  }
})

test('an object under another name, or of another repository, is noticed', async () => {
  const { objects, sealed } = openPlace()
  await sealed.write('a', patternOf(100))
  await sealed.write('b', patternOf(100))
  const a = objects.get('a') as Uint8Array
  await assertNoticed(new Map([['b', a]]), 'b')
  await assertNoticed(new Map([['a/b', a]]), 'a/b')
  const elsewhere = openSealedStorage(
    openMemoryStorage(new Map([['a', a]])),
    testSealing('test', '1'.repeat(32)),
  )
  await assert.rejects(elsewhere.read('a'), isDamage)
  await assert.rejects(elsewhere.readRange('a', 0, 1), isDamage)
})

test('an object without a seal is refused, and the open ones are as they are', async () => {
  const { objects, sealed } = openPlace()
  objects.set('plain', patternOf(1000))
  await assert.rejects(sealed.read('plain'), isDamage)
  await assert.rejects(sealed.readRange('plain', 0, 10), isDamage)
  for (const key of [MARKER_KEY, 'keys/00000001.key', 'probe/x']) {
    await sealed.write(key, Buffer.from('open'))
    assert.equal(String(Buffer.from(objects.get(key) ?? [])), 'open')
    assert.equal(String(Buffer.from((await sealed.read(key)) ?? [])), 'open')
    assert.equal(String(Buffer.from((await sealed.readRange(key, 1, 2)) ?? [])), 'pe')
    assert.equal(await sealed.size(key), 4)
    const writer = await sealed.openWriter(key)
    writer.append([Buffer.from('again')])
    await writer.commit()
    assert.equal(String(Buffer.from(objects.get(key) ?? [])), 'again')
  }
})

test('an object that is replaced between two ranges is read as it is now', async () => {
  const { objects, sealed } = openPlace()
  const other = openSealedStorage(openMemoryStorage(objects), testSealing())
  await sealed.write('a', Buffer.alloc(3 * BLOCK, 1))
  assert.equal((await sealed.readRange('a', 0, 1))?.[0], 1)
  await other.write('a', Buffer.alloc(2 * BLOCK, 2))
  assert.equal((await sealed.readRange('a', BLOCK, 1))?.[0], 2)
  await other.write('a', Buffer.alloc(10, 3))
  assert.equal((await sealed.readRange('a', 2 * BLOCK, 1))?.length, 0)
  await other.remove('a')
  assert.equal(await sealed.readRange('a', 0, 1), undefined)
})

test('one that is replaced between its blocks and its header is not called damaged', async () => {
  const { objects, sealed } = openPlace()
  await sealed.write('a', Buffer.alloc(10, 1))
  const before = openMemoryStorage(new Map(objects))
  await sealed.write('a', Buffer.alloc(10, 2))
  const inner = new LateHeader(openMemoryStorage(objects), before)
  const read = await openSealedStorage(inner, testSealing()).readRange('a', 0, 10)
  assert.deepEqual(read && Buffer.from(read), Buffer.alloc(10, 2))
})

/** The first blocks come from before the replacement, everything else from behind it. */
class LateHeader extends ForwardingStorage {
  #before: Storage | undefined

  constructor(inner: Storage, before: Storage) {
    super(inner)
    this.#before = before
  }

  override async readRange(
    key: string,
    offset: number,
    length: number,
  ): Promise<Uint8Array | undefined> {
    if (offset < HEADER || this.#before === undefined) {
      return await super.readRange(key, offset, length)
    }
    const before = this.#before
    this.#before = undefined
    return await before.readRange(key, offset, length)
  }
}

test('the same object is never sealed twice in the same way', async () => {
  const { objects, sealed } = openPlace()
  const seen = new Set<string>()
  for (let round = 0; round < 20; round++) {
    await sealed.write('a', Buffer.alloc(50))
    seen.add(Buffer.from(objects.get('a') as Uint8Array).toString('hex', HEADER))
  }
  assert.equal(seen.size, 20)
})

test('an object of an unknown key is damage while all generations are there', async () => {
  const { objects, sealed } = openPlace()
  const sealing = testSealing()
  const other = { ...sealing, keys: [testDataKey('other')] }
  await openSealedStorage(openMemoryStorage(objects), other).write('a', Buffer.from('x'))
  objects.set(GENERATION, Buffer.from('not looked at: it is known'))
  await assert.rejects(sealed.read('a'), isDamage)
  const gap = { ...sealing, keys: [testDataKey('third', 3)] }
  objects.set('keys/00000003.key', Buffer.from('not looked at: it is known'))
  const gapped = openSealedStorage(openMemoryStorage(objects), gap)
  await assert.rejects(gapped.read('a'), (error) => isFailure(error, 'TM1605'))
})

test('a commit that is called again ends the object once', async () => {
  const { objects } = openPlace()
  const slow = new LateCommit(openMemoryStorage(objects))
  const sealed = openSealedStorage(slow, testSealing())
  for (const size of SIZES) {
    const writer = await sealed.openWriter('a')
    writer.append([patternOf(size)])
    await assert.rejects(writer.commit(), (error) => isFailure(error, 'TM1509'))
    await writer.commit()
    assert.ok(patternOf(size).equals((await sealed.read('a')) ?? Buffer.from('absent')))
    assert.equal(await sealed.size('a'), size)
  }
})

/** The first commit of each writer is not answered. */
class LateCommit extends ForwardingStorage {
  override async openWriter(key: string): Promise<ObjectWriter> {
    const writer = await super.openWriter(key)
    let commits = 0
    const commit = async () => {
      commits += 1
      if (commits > 1) return await writer.commit()
      throw new Failure('TM1509', { message: 'no answer', fix: 'try again' })
    }
    return { append: (pieces) => writer.append(pieces), commit, abort: () => writer.abort() }
  }
}
