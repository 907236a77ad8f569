import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { testGenerations, testSealing } from '../../test/harness/sealing.ts'
import { removeDirectory, temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { isFailure } from '../base/failure.ts'
import { decodeJournal, JournalEncoder } from './journal.ts'
import { openMemoryStorage } from './memory-storage.ts'
import { openPosixStorage } from './posix-storage.ts'
import { openSealedStorage } from './sealed-storage.ts'
import type { Journal, Storage } from './storage.ts'
import { MARKER_KEY } from './storage-key.ts'

const KEY = 'tails/one.journal'
const HEAD = Buffer.from('head')

function build(payloads: readonly Uint8Array[]): Buffer {
  const encoder = new JournalEncoder()
  const chunks = payloads.map((payload) => Buffer.from(encoder.encode([payload])))
  return Buffer.concat([encoder.header, ...chunks])
}

const arbitraryPayloads = fc.array(fc.uint8Array({ minLength: 0, maxLength: 200 }), {
  minLength: 1,
  maxLength: 8,
})

/** What was read is the first of what was written, byte for byte. */
function isPrefix(read: readonly Uint8Array[], written: readonly Uint8Array[]): boolean {
  return read.every((one, at) => Buffer.from(one).equals(Buffer.from(written[at] as Uint8Array)))
}

test('every cut of a journal gives the chunks that are whole, and no byte else', () => {
  fc.assert(
    fc.property(arbitraryPayloads, fc.nat(), fc.boolean(), (payloads, where, isPadded) => {
      const whole = build(payloads)
      const cut = 64 + (where % (whole.length - 63))
      const bytes = Buffer.alloc(isPadded ? whole.length + 5000 : cut)
      whole.copy(bytes, 0, 0, cut)
      const reading = decodeJournal(bytes)
      assert.ok(reading !== undefined)
      assert.ok(isPrefix(reading.chunks, payloads))
      assert.notEqual(reading.ending, 'damaged')
      if (cut === whole.length) assert.equal(reading.chunks.length, payloads.length)
    }),
  )
})

test('every flipped bit ends the journal there; what lies behind makes it damaged', () => {
  fc.assert(
    fc.property(arbitraryPayloads, fc.nat(), fc.nat(7), (payloads, where, bit) => {
      const bytes = build(payloads)
      const at = where % bytes.length
      bytes[at] = (bytes[at] as number) ^ (1 << bit)
      const reading = decodeJournal(bytes)
      if (reading === undefined) return assert.ok(at < 8, 'only the magic tells')
      assert.ok(isPrefix(reading.chunks, payloads))
      const isLost = reading.chunks.length < payloads.length
      const wasLast = reading.chunks.length === payloads.length - 1
      // The id is in every chunk's hash: nothing holds any more.
      if (at >= 24 && at >= 64 && isLost) assert.equal(reading.ending === 'damaged', !wasLast)
    }),
    { numRuns: 500 },
  )
})

test('chunks of another journal at the same place are not taken', () => {
  const [one, other] = [build([HEAD, Buffer.from('aaaa')]), build([HEAD, Buffer.from('bbbb')])]
  const mixed = Buffer.concat([one.subarray(0, 136), other.subarray(136)])
  assert.equal(decodeJournal(mixed)?.chunks.length, 1)
})

interface Place {
  readonly name: string
  open(): Promise<{ storage: Storage; again(): Promise<Storage>; path?: string }>
}

const PLACES: readonly Place[] = [
  {
    name: 'memory',
    open: async () => {
      const objects = new Map<string, Uint8Array>()
      return {
        storage: openMemoryStorage(objects),
        again: async () => openMemoryStorage(objects),
      }
    },
  },
  {
    name: 'posix',
    open: async () => {
      const root = join(temporaryDirectory(undefined, 'tidemark-journal-'), 'repository')
      const storage = openPosixStorage({ root })
      await storage.write(MARKER_KEY, Buffer.from('{}'))
      return { storage, again: async () => openPosixStorage({ root }), path: join(root, KEY) }
    },
  },
  {
    name: 'sealed posix',
    open: async () => {
      const root = join(temporaryDirectory(undefined, 'tidemark-journal-'), 'repository')
      const plain = openPosixStorage({ root })
      await plain.write(MARKER_KEY, Buffer.from('{}'))
      const sealing = testSealing()
      for (const [key, bytes] of testGenerations(sealing)) await plain.write(key, bytes)
      const again = async () => openSealedStorage(openPosixStorage({ root }), sealing)
      return { storage: await again(), again, path: join(root, KEY) }
    },
  },
]

async function begin(storage: Storage): Promise<Journal> {
  const journal = await storage.openJournal?.(KEY, HEAD)
  assert.ok(journal !== undefined)
  return journal
}

async function payloads(storage: Storage): Promise<string[]> {
  const reading = decodeJournal((await storage.read(KEY)) ?? new Uint8Array(0))
  return reading?.chunks.map(String) ?? []
}

for (const { name, open } of PLACES) {
  test(`${name}: what was appended is read by another process at once, and once only`, async () => {
    const { storage, again } = await open()
    const journal = await begin(storage)
    const expected = ['head']
    for (let round = 0; round < 40; round++) {
      const payload = String(round).repeat(1 + round * 900)
      journal.append([Buffer.from(payload.slice(0, 5)), Buffer.from(payload.slice(5))])
      expected.push(payload)
      if (round % 13 === 0) assert.deepEqual(await payloads(await again()), expected)
    }
    await journal.close()
    assert.deepEqual(await payloads(await again()), expected)
    await assert.rejects(
      async () => await storage.openJournal?.(KEY, HEAD),
      (error) => isFailure(error, 'TM1502'),
    )
    assert.deepEqual(await payloads(storage), expected)
    const listed = []
    for await (const { key } of storage.list('tails/')) listed.push(key)
    assert.deepEqual(listed, [KEY])
  })

  test(`${name}: a journal that was removed acknowledges nothing`, async () => {
    const { storage, again } = await open()
    const journal = await begin(storage)
    journal.append([Buffer.from('one')])
    await (await again()).remove(KEY)
    assert.throws(
      () => journal.append([Buffer.from('two')]),
      (error) => isFailure(error, 'TM1440'),
    )
    await journal.close()
  })

  test(`${name}: a damaged chunk before a good one is told apart from a torn end`, async () => {
    const { storage, again, path } = await open()
    const journal = await begin(storage)
    for (const text of ['aaaa', 'bbbb', 'cccc']) journal.append([Buffer.from(text.repeat(50))])
    await journal.close()
    if (path === undefined) return
    const bytes = await readFile(path)
    const reading = decodeJournal(bytes)
    const second = bytes.indexOf(reading?.chunks[2] as Buffer)
    bytes[second + 3] = (bytes[second + 3] as number) ^ 4
    await writeFile(path, bytes)
    const seen = decodeJournal((await (await again()).read(KEY)) ?? new Uint8Array(0))
    assert.equal(seen?.ending, 'damaged')
    assert.equal(seen.chunks.length, 2)
    assert.equal(seen.later?.ordinal, 3)
    assert.equal(String(seen.later?.payload), 'cccc'.repeat(50))
  })
}

test('a sealed chunk that was changed and hashed anew is damage, not content', async () => {
  const objects = new Map<string, Uint8Array>()
  const sealing = testSealing()
  for (const [key, bytes] of testGenerations(sealing)) objects.set(key, bytes)
  const storage = openSealedStorage(openMemoryStorage(objects), sealing)
  const journal = await begin(storage)
  journal.append([Buffer.from('secret')])
  const stored = Buffer.from(objects.get(KEY) as Uint8Array)
  assert.equal(stored.indexOf('secret'), -1)
  assert.equal(stored.indexOf('head'), -1)
  const chunks = decodeJournal(stored)?.chunks.map((one) => Buffer.from(one)) ?? []
  const last = chunks[1] as Buffer
  last[0] = (last[0] as number) ^ 1
  objects.set(KEY, new Uint8Array(build(chunks)))
  await assert.rejects(storage.read(KEY), (error) => isFailure(error, 'TM1601'))
  // Chunks of one journal are none of another's, whose seal was drawn anew.
  const other = await storage.openJournal?.('tails/two.journal', HEAD)
  other?.append([Buffer.from('other!')])
  const foreign = decodeJournal(objects.get('tails/two.journal') as Uint8Array)?.chunks ?? []
  objects.set(KEY, new Uint8Array(build([chunks[0] as Buffer, foreign[1] as Buffer])))
  await assert.rejects(storage.read(KEY), (error) => isFailure(error, 'TM1601'))
})

test('a full disk ends the journal, and what was there stays', async (context) => {
  const directory = temporaryDirectory(undefined, 'tidemark-full-')
  const { execFileSync } = await import('node:child_process')
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tidemark', directory], {
      stdio: 'ignore',
    })
  } catch {
    return context.skip('needs the right to mount a tmpfs')
  }
  try {
    const storage = openPosixStorage({ root: join(directory, 'repository') })
    await storage.write(MARKER_KEY, Buffer.from('{}'))
    const journal = await begin(storage)
    const acknowledged: string[] = ['head']
    const fill = () => {
      for (let round = 0; ; round++) {
        const text = String(round % 10).repeat(100_000)
        journal.append([Buffer.from(text)])
        acknowledged.push(text)
      }
    }
    assert.throws(fill, (error) => isFailure(error, 'TM1506'))
    assert.ok(acknowledged.length > 10)
    assert.throws(() => journal.append([HEAD]), /finished/)
    await journal.close()
    assert.deepEqual(await payloads(storage), acknowledged)
  } finally {
    execFileSync('umount', [directory])
    removeDirectory(directory)
  }
})
