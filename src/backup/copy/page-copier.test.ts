import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import type { LeafReference } from '../../repository/backup-record.ts'
import { PAGE_BYTES } from '../../repository/pack-format.ts'
import { openPack } from '../../repository/pack-reader.ts'
import { PackWriter } from '../../repository/pack-writer.ts'
import { LEAF_PAGES, pageLocations } from '../../repository/page-map.ts'
import { makeLeafReader } from '../../repository/read-leaves.ts'
import { openMemoryStorage } from '../../storage/memory-storage.ts'
import type { Storage } from '../../storage/storage.ts'
import { LeafStore } from './leaf-store.ts'
import { PageCopier } from './page-copier.ts'
import type { PagesResult } from './protocol.ts'

const directory = mkdtempSync(join(tmpdir(), 'tidemark-copier-'))
after(() => rmSync(directory, { recursive: true }))

/** Backs up one file as one attempt; small packs, so that leaves span several. */
async function backUp(
  storage: Storage,
  attempt: number,
  content: Uint8Array,
  base: readonly LeafReference[],
): Promise<PagesResult> {
  const location = join(directory, 'relation')
  writeFileSync(location, content)
  const packs = new PackWriter({
    storage,
    cluster: 'main',
    attemptId: attempt.toString(16).padStart(24, '0'),
    firstSequence: 0,
    sequenceStep: 1,
    compressionLevel: 1,
    packTargetBytes: 40_000,
  })
  const leaves = new LeafStore(packs)
  const copier = new PageCopier(packs, leaves, makeLeafReader(storage, 'main', 'a test'), {
    verifyChecksums: false,
    oldPacks: new Set(),
  })
  const fd = openSync(location, 'r')
  let result: PagesResult | undefined
  const pages = content.length / PAGE_BYTES
  const head = { form: 'pages' as const, file: 0, location, path: 'base/1/1' }
  await copier.copy({ ...head, firstPage: 0, pages, firstBlock: 0, base }, fd, (done) => {
    result = done
  })
  await copier.flushFrame()
  await leaves.flush()
  await packs.finish()
  closeSync(fd)
  assert.ok(result !== undefined, 'the copier gives a result once everything is flushed')
  return result
}

async function restore(storage: Storage, result: PagesResult): Promise<Uint8Array> {
  const out = new Uint8Array(result.pages * PAGE_BYTES)
  const reader = makeLeafReader(storage, 'main', 'a test')
  let page = 0
  for (const reference of result.leaves) {
    for (const location of pageLocations(await reader.read(reference))) {
      if (location !== undefined) {
        const pack = await openPack(storage, 'main', location.pack)
        const frame = await pack.readFrame(location.frame)
        const at = location.slot * PAGE_BYTES
        out.set(frame.subarray(at, at + PAGE_BYTES), page * PAGE_BYTES)
      }
      page++
    }
  }
  assert.equal(page, result.pages)
  return out
}

type Change = { page: number; kind: 'zero' | 'fill' | 'byte8' | 'noise'; value: number }

function apply(content: Uint8Array, pages: number, changes: readonly Change[]): Uint8Array {
  const next = new Uint8Array(pages * PAGE_BYTES)
  next.set(content.subarray(0, next.length))
  for (const { page, kind, value } of changes) {
    if (page >= pages) continue
    const bytes = next.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
    if (kind === 'zero') bytes.fill(0)
    if (kind === 'fill') bytes.fill(value)
    if (kind === 'byte8') bytes[8] = value
    if (kind === 'noise') for (let at = 0; at < PAGE_BYTES; at++) bytes[at] = (at * value) & 255
  }
  return next
}

const change = fc.record({
  page: fc.nat(60),
  kind: fc.constantFrom('zero' as const, 'fill' as const, 'byte8' as const, 'noise' as const),
  value: fc.integer({ min: 1, max: 255 }),
})
const step = fc.record({ pages: fc.nat(60), changes: fc.array(change, { maxLength: 40 }) })

test('any sequence of page changes restores to the same bytes, at every step', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 5 }), async (steps) => {
      const storage = openMemoryStorage()
      let content: Uint8Array = new Uint8Array(0)
      let base: readonly LeafReference[] = []
      const states: { content: Uint8Array; result: PagesResult }[] = []
      for (const [number, { pages, changes }] of steps.entries()) {
        content = apply(content, pages, changes)
        const result = await backUp(storage, number + 1, content, base)
        states.push({ content, result })
        base = result.leaves
      }
      for (const state of states) {
        assert.deepEqual(await restore(storage, state.result), state.content)
      }
    }),
    { numRuns: 60 },
  )
})

test('an unchanged leaf is not written again and a changed page stores one page', async () => {
  const storage = openMemoryStorage()
  const pages = LEAF_PAGES + 5
  const all = Array.from({ length: pages }, (_, page) => page)
  const first = new Uint8Array(pages * PAGE_BYTES)
  for (const page of all) first.fill((page % 255) + 1, page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
  const one = await backUp(storage, 1, first, [])
  assert.equal(one.storedPages, pages)
  const second = first.slice()
  second[8] = 77
  const two = await backUp(storage, 2, second, one.leaves)
  assert.equal(two.storedPages, 1)
  assert.notDeepEqual(two.leaves[0], one.leaves[0])
  assert.deepEqual(two.leaves[1], one.leaves[1])
  assert.notEqual(two.leafDigests[0], one.leafDigests[0])
  assert.equal(two.leafDigests[1], one.leafDigests[1])
  assert.deepEqual(await restore(storage, two), second)
})
