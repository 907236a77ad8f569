import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../../base/failure.ts'
import type { PagesEntry } from '../../repository/backup-record.ts'
import { PAGE_BYTES, PAGES_PER_FRAME } from '../../repository/pack-format.ts'
import { LEAF_PAGES, type Leaf, LeafBuilder } from '../../repository/page-map.ts'
import { BatchBuilder } from './batch.ts'
import { RUN_FIELDS } from './messages.ts'

const PACKS = ['a', 'b', 'c'].map((letter) => letter.repeat(32))

/** Where each page lies: a number of a pack, or undefined for a zero page. */
type Layout = readonly (number | undefined)[]

/** Pages fill the frames of their packs in order; `places` learns what lies where. */
function makeLeaves(
  layout: Layout,
  next: Map<string, number>,
  places: Map<string, string>,
  path: string,
): Leaf[] {
  const leaves: Leaf[] = []
  for (let first = 0; first < layout.length; first += LEAF_PAGES) {
    const builder = new LeafBuilder()
    const part = layout.slice(first, first + LEAF_PAGES)
    for (const [number, pack] of part.entries()) {
      if (pack === undefined) {
        builder.addZero()
        continue
      }
      const id = PACKS[pack] as string
      const position = next.get(id) ?? 0
      next.set(id, position + 1)
      const frame = Math.floor(position / PAGES_PER_FRAME)
      const slot = position % PAGES_PER_FRAME
      builder.addStored(id, frame, slot)
      places.set(`${path}/${first + number}`, `${id}/${frame}/${slot}`)
    }
    leaves.push(builder.build(new BigUint64Array(part.length)))
  }
  return leaves
}

function entryOf(path: string, leaves: readonly Leaf[]): PagesEntry {
  const pages = leaves.reduce((sum, leaf) => sum + leaf.pageCount, 0)
  const digests = leaves.map(({ fingerprints }) => hash('sha256', fingerprints, 'buffer'))
  const digest = hash('sha256', Buffer.concat(digests), 'hex')
  const size = pages * PAGE_BYTES
  return { path, kind: 'pages', mode: 0o600, size, digest } as unknown as PagesEntry
}

const layout = fc
  .tuple(
    fc.integer({ min: 1, max: 3000 }),
    fc.integer({ min: 1, max: 40 }),
    fc.array(fc.option(fc.nat(2), { nil: undefined }), { minLength: 1, maxLength: 12 }),
  )
  .map(
    ([pages, run, packs]): Layout =>
      Array.from({ length: pages }, (_, page) => packs[Math.floor(page / run) % packs.length]),
  )

test('every stored page is in one task, and a large file is written in order', () => {
  fc.assert(
    fc.property(fc.array(layout, { minLength: 1, maxLength: 5 }), (layouts) => {
      const builder = new BatchBuilder()
      const places = new Map<string, string>()
      const next = new Map<string, number>()
      for (const [number, pages] of layouts.entries()) {
        const path = `file${number}`
        const leaves = makeLeaves(pages, next, places, path)
        builder.addPages(entryOf(path, leaves), leaves)
      }
      const batch = builder.build()
      const found = new Map<string, string>()
      for (const queue of batch.queues) {
        let last = -1
        for (const task of queue) {
          if (task.kind !== 'pages') continue
          for (let at = 0; at < task.runs.length; at += RUN_FIELDS) {
            const run = [...task.runs.subarray(at, at + RUN_FIELDS)] as number[]
            const [pack = 0, frame = 0, slot = 0, count = 0, file = 0, page = 0] = run
            assert.ok(slot + count <= PAGES_PER_FRAME)
            const { path, direct } = batch.files[file] as { path: string; direct?: boolean }
            if (direct === true) {
              assert.ok(page > last, 'a large file goes back')
              last = page + count - 1
            }
            for (let more = 0; more < count; more++) {
              const key = `${path}/${page + more}`
              assert.ok(!found.has(key), `${key} twice`)
              found.set(key, `${task.packs[pack]}/${frame}/${slot + more}`)
            }
          }
        }
      }
      assert.deepEqual([...found].toSorted(), [...places].toSorted())
    }),
    { numRuns: 60 },
  )
})

test('a file whose own order would decode frames over and over is taken in pack order', () => {
  const pages = 8 * LEAF_PAGES
  // Each frame of 16 pages takes one page from every 512: four leaves need each frame.
  const order = Array.from({ length: pages }, (_, page) => page)
  const builder = new BatchBuilder()
  const leaves: Leaf[] = []
  for (let first = 0; first < pages; first += LEAF_PAGES) {
    const leaf = new LeafBuilder()
    for (const page of order.slice(first, first + LEAF_PAGES)) {
      const frame = page % (pages / PAGES_PER_FRAME)
      leaf.addStored(PACKS[0] as string, frame, Math.floor(page / (pages / PAGES_PER_FRAME)))
    }
    leaves.push(leaf.build(new BigUint64Array(LEAF_PAGES)))
  }
  builder.addPages(entryOf('file', leaves), leaves)
  const { files, queues } = builder.build()
  assert.equal(files[0]?.direct, false)
  assert.ok(queues.every((queue) => queue.length === 1))
})

test('leaves of another file, in another order or not full are no map', () => {
  const leafOf = (pages: number, first: bigint): Leaf => {
    const leaf = new LeafBuilder()
    for (let page = 0; page < pages; page++) leaf.addZero()
    return leaf.build(BigUint64Array.from({ length: pages }, (_, page) => first + BigInt(page)))
  }
  const leaves = [leafOf(LEAF_PAGES, 0n), leafOf(LEAF_PAGES, 5000n), leafOf(9, 9000n)]
  const [one, two, three] = leaves as [Leaf, Leaf, Leaf]
  const entry = entryOf('file', leaves)
  new BatchBuilder().addPages(entry, leaves)
  const short = [leafOf(1000, 0n), two]
  for (const [claimed, given] of [
    [entry, [two, one, three]],
    [entry, [one, leafOf(LEAF_PAGES, 5001n), three]],
    [entry, [one, two]],
    [entry, [one, two, leafOf(10, 9000n)]],
    [entryOf('file', short), short],
  ] as const) {
    const builder = new BatchBuilder()
    assert.throws(() => {
      builder.addPages(claimed, given)
    }, isMapFailure)
  }
})

function isMapFailure(error: unknown): boolean {
  return isFailure(error, 'TM1218') && /page map of file/.test(error.message)
}
