/** Whatever is damaged is refused by name, or gives the very bytes that were written. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../base/failure.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { FileEntry } from './backup-record.ts'
import { decodeEnvelope, encodeEnvelope } from './envelope.ts'
import { decodePiece, encodePiece } from './file-list.ts'
import { packKey } from './keys.ts'
import { FRAME_KINDS } from './pack-format.ts'
import { openPack } from './pack-reader.ts'
import { PackWriter } from './pack-writer.ts'
import { decodeLeaf, encodeLeaf, LeafBuilder, pageLocations } from './page-map.ts'

const PACK = 'a'.repeat(32)

/** A pack with a frame of every sort; its bytes, its id and the frames' content. */
async function writePack() {
  const objects = new Map<string, Uint8Array>()
  const writer = new PackWriter({
    storage: openMemoryStorage(objects),
    cluster: 'main',
    attemptId: 'b'.repeat(24),
    firstSequence: 0,
    sequenceStep: 1,
    compressionLevel: 1,
  })
  await writer.begin()
  const noise = Buffer.from(Array.from({ length: 900 }, (_, at) => (at * at * 31 + at) & 255))
  const raws = [Buffer.alloc(8192, 'x'), noise, Buffer.alloc(0), Buffer.from('{"a":1}'.repeat(30))]
  const extent = { path: 'base/5/1', first: 0, count: 1 }
  writer.add(FRAME_KINDS.pages, raws[0] as Buffer, 1, [extent])
  writer.add(FRAME_KINDS.content, raws[1] as Buffer, 1, [{ ...extent, path: 'x' }])
  writer.add(FRAME_KINDS.content, raws[2] as Buffer, 1, [])
  writer.add(FRAME_KINDS.fileList, raws[3] as Buffer, 1, [])
  await writer.finish()
  const id = writer.packs[0]?.id as string
  return {
    id,
    key: packKey('main', id),
    bytes: objects.get(packKey('main', id)) as Uint8Array,
    raws,
  }
}

async function assertRefusedOrRight(
  pack: Awaited<ReturnType<typeof writePack>>,
  bytes: Uint8Array,
): Promise<number> {
  const storage = openMemoryStorage(new Map([[pack.key, bytes]]))
  let refused = 0
  const reader = await openPack(storage, 'main', pack.id).catch((error: unknown) => {
    assert.ok(isFailure(error, 'TM1601'), String(error))
    return undefined
  })
  if (reader === undefined) return pack.raws.length
  for (const [ordinal, raw] of pack.raws.entries()) {
    try {
      assert.deepEqual(Buffer.from(await reader.readFrame(ordinal)), raw)
    } catch (error) {
      assert.ok(isFailure(error, 'TM1601'), String(error))
      refused++
    }
  }
  return refused
}

test('a pack with any bit flipped is refused, at least in the frame that it touches', async () => {
  const pack = await writePack()
  assert.equal(await assertRefusedOrRight(pack, pack.bytes), 0)
  for (let at = 0; at < pack.bytes.length; at++) {
    const bytes = Buffer.from(pack.bytes)
    bytes[at] = (bytes[at] as number) ^ (1 << (at % 8))
    const refused = await assertRefusedOrRight(pack, bytes)
    assert.ok(refused > 0, `byte ${at} of ${bytes.length}`)
  }
})

test('a pack that was cut anywhere, or has bytes more, is refused', async () => {
  const pack = await writePack()
  for (let length = 0; length < pack.bytes.length; length++) {
    const refused = await assertRefusedOrRight(pack, pack.bytes.subarray(0, length))
    assert.equal(refused, pack.raws.length, `${length} bytes`)
  }
  const longer = Buffer.concat([pack.bytes, Buffer.from([0])])
  assert.equal(await assertRefusedOrRight(pack, longer), pack.raws.length)
})

test('a pack under the name of another is refused, a missing one has its own code', async () => {
  const pack = await writePack()
  const key = packKey('main', PACK)
  const storage = openMemoryStorage(new Map([[key, pack.bytes]]))
  await assert.rejects(openPack(storage, 'main', PACK), (error) => isFailure(error, 'TM1601'))
  await assert.rejects(openPack(storage, 'main', pack.id), (error) => isFailure(error, 'TM1602'))
})

test('an envelope with any bit flipped or cut anywhere is refused', () => {
  const raw = Buffer.from('{"format":1,"text":"a record"}')
  const bytes = encodeEnvelope('RECD', raw)
  assert.deepEqual(decodeEnvelope('k', 'RECD', bytes), raw)
  assert.throws(
    () => decodeEnvelope('k', 'HOLD', bytes),
    (error) => isFailure(error, 'TM1601'),
  )
  for (let at = 0; at < bytes.length; at++) {
    assert.throws(
      () => decodeEnvelope('k', 'RECD', bytes.subarray(0, at)),
      (error) => isFailure(error, 'TM1601'),
    )
    for (let bit = 0; bit < 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[at] = (flipped[at] as number) ^ (1 << bit)
      try {
        assert.deepEqual(decodeEnvelope('k', 'RECD', flipped), raw)
      } catch (error) {
        assert.ok(isFailure(error, 'TM1601'), `byte ${at}: ${String(error)}`)
      }
    }
  }
})

const location = fc.option(
  fc.record({ pack: fc.constantFrom(PACK, 'c'.repeat(32)), frame: fc.nat(5), slot: fc.nat(15) }),
  { nil: undefined },
)

test('a page map tells every page where it was put, whatever the runs', () => {
  fc.assert(
    fc.property(fc.array(location, { minLength: 1, maxLength: 200 }), (locations) => {
      const builder = new LeafBuilder()
      for (const at of locations) {
        if (at === undefined) builder.addZero()
        else builder.addStored(at.pack, at.frame, at.slot)
      }
      const fingerprints = BigUint64Array.from(locations.map((_, page) => BigInt(page) * 77n))
      const leaf = decodeLeaf('k', encodeLeaf(builder.build(fingerprints)))
      const plain = locations.map((at) => (at === undefined ? undefined : { ...at }))
      assert.deepEqual([...pageLocations(leaf)], plain)
      assert.deepEqual(leaf.fingerprints, fingerprints)
    }),
  )
})

test('a page map of any bytes is refused or read, never a crash', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
      try {
        const leaf = decodeLeaf('k', bytes)
        assert.equal([...pageLocations(leaf)].length, leaf.pageCount)
      } catch (error) {
        assert.ok(isFailure(error, 'TM1601'), String(error))
      }
    }),
  )
})

const seen = { device: 1n, inode: 2n ** 60n, modifiedNs: 3n, changedNs: 4n, settled: true }
const ENTRIES: FileEntry[] = [
  { kind: 'directory', path: 'base', mode: 0o700 },
  {
    kind: 'content',
    path: 'a',
    mode: 0o600,
    size: 5,
    sha256: 'ff',
    chunks: [{ pack: PACK, frame: 3 }],
  },
  {
    kind: 'pages',
    path: 'base/5/1',
    mode: 0o600,
    size: 8192,
    leaves: [{ pack: PACK, frame: 1, slot: 2 }],
    digest: 'ee',
    packs: [PACK, 'c'.repeat(32)],
    seen,
  },
  { kind: 'link', path: 'pg_tblspc/1', mode: 0o777, target: '/far' },
  { kind: 'empty', path: 'base/5/1.1', mode: 0o600 },
]

test('a piece of the file list comes back as it was', () => {
  assert.deepEqual(decodePiece('k', encodePiece(ENTRIES)), ENTRIES)
})

function change(act: (piece: { packs: string[]; entries: Record<string, unknown>[] }) => void) {
  const piece = JSON.parse(Buffer.from(encodePiece(ENTRIES)).toString())
  act(piece)
  return Buffer.from(JSON.stringify(piece))
}

test('an unknown kind of entry asks for a newer Tidemark, anything missing is damage', () => {
  const unknown = change(({ entries }) => Object.assign(entries[0] as object, { kind: 'sparse' }))
  assert.throws(
    () => decodePiece('k', unknown),
    (error) => isFailure(error, 'TM1504') && /kind 'sparse', for base/.test(error.message),
  )
  for (const [entry, field] of [
    [1, 'size'],
    [1, 'chunks'],
    [1, 'sha256'],
    [2, 'leaves'],
    [2, 'digest'],
    [2, 'packs'],
    [3, 'target'],
    [0, 'mode'],
  ] as const) {
    const lacking = change(
      ({ entries }) => delete (entries[entry] as Record<string, unknown>)[field],
    )
    assert.throws(
      () => decodePiece('k', lacking),
      (error) => isFailure(error, 'TM1601'),
      field,
    )
  }
  const hole = change(({ entries }) => Object.assign(entries[2] as object, { size: 2 ** 30 }))
  assert.throws(
    () => decodePiece('k', hole),
    (error) => isFailure(error, 'TM1601'),
  )
  const noPack = change((piece) => piece.packs.pop())
  assert.throws(
    () => decodePiece('k', noPack),
    (error) => isFailure(error, 'TM1601'),
  )
})
