/** A pack in two repositories, each with some of its frames, some of them damaged. */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../base/failure.ts'
import { packKey } from '../repository/keys.ts'
import {
  dropFrame,
  encodePackEnd,
  encodePackHeader,
  FRAME_KINDS,
  type FrameEntry,
  frameHash,
} from '../repository/pack-format.ts'
import { PackWriter } from '../repository/pack-writer.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { bringPack, type PackRequest } from './bring-pack.ts'
import { findPackShape, isKept } from './pack-frames.ts'

const FRAMES = 7
/** The last frame is the copy of a record. */
const RECORD = FRAMES - 1
const PACK = `${'b'.repeat(24)}00000000`
const KEY = packKey('main', PACK)

let full: Uint8Array
let frames: readonly FrameEntry[]

before(async () => {
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
  for (let ordinal = 0; ordinal < FRAMES; ordinal++) {
    const kind = ordinal === RECORD ? FRAME_KINDS.record : FRAME_KINDS.content
    writer.add(kind, Buffer.alloc(300 + ordinal, `frame ${ordinal} `), 1, [])
  }
  await writer.finish()
  full = objects.get(KEY) as Uint8Array
  frames = (await findPackShape(openMemoryStorage(objects), 'main', PACK))?.frames ?? []
})

/** The pack with these frames alone. */
function makeSparse(kept: ReadonlySet<number>): Uint8Array {
  if (kept.size === FRAMES) return full
  const header = encodePackHeader(PACK, 'sparse')
  let offset = header.length
  const pieces: Uint8Array[] = [header]
  const entries = frames.map((entry, ordinal) => {
    const placed = { ...(kept.has(ordinal) ? entry : dropFrame(entry)), offset }
    pieces.push(full.subarray(entry.offset, entry.offset + placed.storedLength))
    offset += placed.storedLength
    return placed
  })
  return Buffer.concat([...pieces, encodePackEnd(header, entries, offset)])
}

interface Side {
  readonly kept: ReadonlySet<number>
  readonly damaged: ReadonlySet<number>
}

function makeSide({ kept, damaged }: Side): Map<string, Uint8Array> {
  const bytes = Buffer.from(makeSparse(kept))
  let offset = frames[0]?.offset ?? 0
  for (const [ordinal, { storedLength }] of frames.entries()) {
    if (!kept.has(ordinal)) continue
    if (damaged.has(ordinal)) bytes[offset + 3] = (bytes[offset + 3] as number) ^ 1
    offset += storedLength
  }
  return new Map([[KEY, bytes]])
}

/** Ordinals whose frames are there and hold. */
async function wholeFrames(objects: Map<string, Uint8Array>): Promise<number[]> {
  const shape = await findPackShape(openMemoryStorage(objects), 'main', PACK)
  const bytes = objects.get(KEY) as Uint8Array
  return [...(shape?.frames ?? []).entries()]
    .filter(([, entry]) => {
      const stored = bytes.subarray(entry.offset, entry.offset + entry.storedLength)
      return isKept(entry) && frameHash(stored).equals(entry.hash)
    })
    .map(([ordinal]) => ordinal)
}

const ordinals = fc.uniqueArray(fc.nat(FRAMES - 1)).map((some) => new Set(some))
const anySide = fc.record({ kept: ordinals, damaged: ordinals })

function request(
  source: Map<string, Uint8Array>,
  target: Map<string, Uint8Array>,
  more: Partial<PackRequest>,
): PackRequest {
  return {
    source: openMemoryStorage(source),
    target: openMemoryStorage(target),
    cluster: 'main',
    packId: PACK,
    complete: true,
    prove: false,
    keepsRecord: true,
    mayReplace: true,
    ...more,
  }
}

test('no frame that held is lost, and all that are wanted come, or none', async () => {
  await fc.assert(
    fc.asyncProperty(anySide, anySide, fc.boolean(), fc.boolean(), async (a, b, prove, record) => {
      const [source, target] = [makeSide(a), makeSide(b)]
      const had = await wholeFrames(target)
      const has = new Set(await wholeFrames(source))
      const wanted = [...a.kept].filter((at) => !b.kept.has(at) && (record || at !== RECORD))
      const work = bringPack(request(source, target, { prove, keepsRecord: record }))
      const outcome = await work.catch((error: unknown) => error)
      const now = new Set(await wholeFrames(target))
      for (const ordinal of had) assert.ok(now.has(ordinal), `frame ${ordinal} is lost`)
      if (outcome instanceof Error) {
        assert.ok(isFailure(outcome, 'TM1601'), String(outcome))
        assert.ok(wanted.some((ordinal) => !has.has(ordinal)))
        return
      }
      for (const ordinal of wanted) assert.ok(now.has(ordinal), `frame ${ordinal} was not brought`)
      if (!record && !b.kept.has(RECORD)) assert.ok(!now.has(RECORD))
      if (!prove) return
      for (const ordinal of b.kept) {
        assert.equal(now.has(ordinal), had.includes(ordinal) || has.has(ordinal))
      }
    }),
    { numRuns: 300 },
  )
})

test('a heal brings no frame back that the target has dropped', async () => {
  await fc.assert(
    fc.asyncProperty(anySide, anySide, async (a, b) => {
      const target = makeSide(b)
      const source = makeSide({ ...a, damaged: new Set() })
      await bringPack(request(source, target, { complete: false, prove: true }))
      for (const ordinal of await wholeFrames(target)) assert.ok(b.kept.has(ordinal))
    }),
    { numRuns: 100 },
  )
})

test('both with all frames are byte for byte the pack that was written', async () => {
  const all = new Set(frames.keys())
  const target = makeSide({ kept: all, damaged: new Set([1, 4]) })
  const source = makeSide({ kept: all, damaged: new Set([2]) })
  const brought = await bringPack(request(source, target, { prove: true }))
  assert.deepEqual(
    { ...brought, bytes: 0 },
    { outcome: 'healed', bytes: 0, healed: 2, unhealed: [] },
  )
  assert.ok(Buffer.from(full).equals(target.get(KEY) as Uint8Array))
})

test('what another may be replacing is left, a pack of other frames is refused', async () => {
  const all = new Set(frames.keys())
  const target = makeSide({ kept: new Set([0]), damaged: new Set() })
  const before = target.get(KEY)
  const source = makeSide({ kept: all, damaged: new Set() })
  const busy = await bringPack(request(source, target, { mayReplace: false }))
  assert.equal(busy.outcome, 'busy')
  assert.equal(target.get(KEY), before)
  const other = frames.map((entry) => ({ ...entry, hash: Buffer.alloc(16, 7) }))
  const indexOffset = (frames.at(-1)?.offset ?? 0) + (frames.at(-1)?.storedLength ?? 0)
  const head = Buffer.from(full.subarray(0, indexOffset))
  const end = encodePackEnd(full.subarray(0, 64), other, indexOffset)
  const strange = new Map([[KEY, Buffer.concat([head, end])]])
  await assert.rejects(bringPack(request(strange, target, {})), (error) =>
    isFailure(error, 'TM1933'),
  )
  assert.equal(target.get(KEY), before)
})

test('a source that is repacked while it is read is opened again', async () => {
  const all = new Set(frames.keys())
  const source = makeSide({ kept: all, damaged: new Set() })
  const sparse = makeSparse(new Set([2, 3, 5]))
  for (let at = 1; at <= 8; at++) {
    source.set(KEY, full)
    const storage = openMemoryStorage(source)
    const { readRange } = storage
    let calls = 0
    storage.readRange = async (...args) => {
      if (++calls === at) source.set(KEY, sparse)
      return await readRange.apply(storage, args)
    }
    const target = new Map<string, Uint8Array>()
    await bringPack({ ...request(source, target, {}), source: storage })
    const brought = new Set(await wholeFrames(target))
    for (const ordinal of [2, 3, 5]) assert.ok(brought.has(ordinal), `call ${at}`)
  }
})
