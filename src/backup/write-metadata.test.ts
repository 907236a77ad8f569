import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { FileEntry, FrameReference, PagesEntry } from '../repository/backup-record.ts'
import { decodePiece, encodePiece, endsPiece } from '../repository/file-list.ts'
import type { PackWriter } from '../repository/pack-writer.ts'
import { type BasePieces, type KnownPiece, writeFileList } from './write-metadata.ts'

const PACKS = ['a', 'b'].map((letter) => letter.repeat(32))
const BASE_PACK = 'f'.repeat(32)
const NEW_PACK = 'e'.repeat(32)

const pack = fc.constantFrom(...PACKS)
const mode = fc.constantFrom(0o600, 0o640)
const chunk = fc.record({ pack, frame: fc.nat(3) })
const leaf = fc.record({ pack, frame: fc.nat(3), slot: fc.nat(1) })
const seen = fc.record({
  device: fc.constant(1n),
  inode: fc.bigInt(1n, 3n),
  modifiedNs: fc.bigInt(1n, 3n),
  changedNs: fc.constant(5n),
  settled: fc.boolean(),
})

/** What stands under a path; few values, so that two often differ in one field only. */
const body = fc.oneof(
  fc.record({ kind: fc.constantFrom('directory', 'empty'), mode }),
  fc.record({ kind: fc.constant('link'), mode, target: fc.constantFrom('/one', '/two') }),
  fc
    .record({
      mode,
      chunks: fc.array(chunk, { minLength: 1, maxLength: 2 }),
      digit: fc.constantFrom('1', '2'),
    })
    .map(({ mode: bits, chunks, digit }) => {
      const size = chunks.length * 131_072
      return { kind: 'content', mode: bits, size, chunks, sha256: digit.repeat(64) }
    }),
  fc
    .record({ mode, leaves: fc.array(leaf, { minLength: 1, maxLength: 2 }), seen })
    .map(({ leaves, ...rest }) => {
      const size = leaves.length * 1024 * 8192
      const digest = '0'.repeat(64)
      return { kind: 'pages', ...rest, size, leaves, digest, packs: [PACKS[0]] }
    }),
)

const list = fc
  .dictionary(fc.constantFrom(...Array.from({ length: 12 }, (_, n) => `file${n}`)), body, {
    minKeys: 1,
    maxKeys: 5,
  })
  .map((bodies) =>
    Object.entries(bodies)
      .map(([path, rest]) => ({ path, ...rest }) as FileEntry)
      .sort((one, other) => (one.path < other.path ? -1 : 1)),
  )

/** Pieces as they were written, by where they lie. */
class Store {
  readonly pieces = new Map<string, Uint8Array>()
  added = 0

  add(raw: Uint8Array, pack: string): FrameReference {
    const reference = { pack, frame: this.pieces.size }
    this.pieces.set(`${pack}/${reference.frame}`, Buffer.from(raw))
    return reference
  }

  read({ pack, frame }: FrameReference): Uint8Array | undefined {
    return this.pieces.get(`${pack}/${frame}`)
  }

  writer(): PackWriter {
    const add = (_kind: number, raw: Uint8Array): FrameReference => {
      this.added++
      return this.add(raw, NEW_PACK)
    }
    return { needsPack: false, add } as unknown as PackWriter
  }
}

interface Base extends BasePieces {
  readonly byFirstPath: ReadonlyMap<string, KnownPiece>
}

/** The base's pieces, recognised by their entries alone: what is judged here. */
function storeBase(entries: readonly FileEntry[], store: Store): Base {
  const byFirstPath = new Map<string, KnownPiece>()
  let from = 0
  for (let at = 0; at < entries.length; at++) {
    const path = (entries[at] as FileEntry).path
    if (at + 1 < entries.length && !endsPiece(path, at + 1 - from)) continue
    const raw = encodePiece(entries.slice(from, at + 1))
    const decoded = decodePiece('base', raw)
    byFirstPath.set(decoded[0]?.path ?? '', {
      reference: store.add(raw, BASE_PACK),
      entries: decoded,
    })
    from = at + 1
  }
  return { bySha256: new Map(), byFirstPath }
}

/** Takes pages over as planCopy does: the object itself, or a copy with another mode. */
function takeOver(entry: FileEntry, base: Base): FileEntry {
  if (entry.kind !== 'pages') return entry
  const known = [...base.byFirstPath.values()]
    .flatMap(({ entries }) => entries)
    .find((one): one is PagesEntry => one.kind === 'pages' && one.path === entry.path)
  if (known?.seen.inode !== entry.seen.inode) return entry
  return known.mode === entry.mode ? known : { ...known, mode: entry.mode }
}

const change = fc.record({ at: fc.nat(), field: fc.nat(), other: body, isGone: fc.boolean() })

/** One field of an entry becomes that of another one of its kind, or the entry goes. */
function applyChange(
  entries: readonly FileEntry[],
  { at, field, other, isGone }: { at: number; field: number; other: object; isGone: boolean },
): FileEntry[] {
  const place = at % entries.length
  if (isGone && entries.length > 1) return entries.toSpliced(place, 1)
  const entry = entries[place] as FileEntry
  const { path } = entry
  if (!('kind' in other) || !isLike(entry.kind, String(other.kind))) {
    return entries.with(place, { path, ...other } as FileEntry)
  }
  const names = Object.keys(other)
  const name = names[field % names.length] as string
  const changed = { ...entry, [name]: (other as Record<string, unknown>)[name] }
  return entries.with(place, changed as FileEntry)
}

function isLike(kind: string, other: string): boolean {
  const bare = ['directory', 'empty']
  return kind === other || (bare.includes(kind) && bare.includes(other))
}

test('whatever changed, the pieces that are named hold the entries of this backup', async () => {
  await fc.assert(
    fc.asyncProperty(list, change, async (earlier, changed) => {
      const store = new Store()
      const base = storeBase(earlier, store)
      const later = applyChange(earlier, changed)
      const entries = later.map((entry) => takeOver(entry, base))
      const written = await writeFileList(entries, store.writer(), base)
      let from = 0
      for (const piece of written.pieces) {
        const expected = encodePiece(entries.slice(from, from + piece.entries))
        assert.deepEqual(store.read(piece), expected)
        assert.ok(written.packs.has(piece.pack))
        from += piece.entries
      }
      assert.equal(from, entries.length)
    }),
    { numRuns: 5000 },
  )
})

test('a list in which nothing changed is not written again', async () => {
  await fc.assert(
    fc.asyncProperty(list, async (earlier) => {
      const store = new Store()
      const base = storeBase(earlier, store)
      const entries = earlier.map((entry) => takeOver(structuredClone(entry), base))
      const written = await writeFileList(entries, store.writer(), base)
      assert.equal(store.added, 0)
      assert.ok(written.pieces.every((piece) => piece.pack === BASE_PACK))
    }),
    { numRuns: 100 },
  )
})
