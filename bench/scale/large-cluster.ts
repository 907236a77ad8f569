/**
 * A cluster of 10 TB in a million files that takes no room: sparse files in a real directory,
 * and packs whose frames are real and few bytes long. Every page of it is the same page, so
 * that one frame serves all; which pack a leaf lies in, and refers to, differs as it would.
 *
 * What is not real: the pages are not read (a runner that invents the results stands in for
 * the copy), and a pack has two frames where one of 32 MiB has some hundred.
 */
import { hash } from 'node:crypto'
import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CopyResults } from '../../src/backup/copy-results.ts'
import type { CopyPlan } from '../../src/backup/plan-copy.ts'
import { createPageKernel } from '../../src/postgres/page-kernel.ts'
import type { LeafReference } from '../../src/repository/backup-record.ts'
import { formatPackId, packKey, REPOSITORY_KEY } from '../../src/repository/keys.ts'
import { FRAME_KINDS, PAGE_BYTES, PAGES_PER_FRAME } from '../../src/repository/pack-format.ts'
import { type PackSummary, PackWriter } from '../../src/repository/pack-writer.ts'
import {
  encodeLeaf,
  encodeLeafFrame,
  LEAF_PAGES,
  LeafBuilder,
} from '../../src/repository/page-map.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'

type CopyPiece = CopyPlan['batches'] extends Iterable<readonly (infer P)[]> ? P : never
type PagesPiece = Extract<CopyPiece, { form: 'pages' }>
type CopyResult = Parameters<CopyResults['add']>[0]

export const CLUSTER = 'main'
export const ATTEMPT = 'a'.repeat(24)

export interface LargeShape {
  readonly databases: number
  /** Small files of each database, and tables of many whole segments. */
  readonly smallFiles: number
  readonly tables: number
  readonly segments: number
  readonly packs: number
}

/** 1,000,000 files: 8,600 segments of 1 GiB, and 991,400 of 8 kB to 8 MiB: 10 TB. */
export const TEN_TERABYTES: LargeShape = {
  databases: 10,
  smallFiles: 99_140,
  tables: 10,
  segments: 86,
  packs: 100_000,
}

export function scaleShape(shape: LargeShape, factor: number): LargeShape {
  return {
    ...shape,
    smallFiles: Math.round(shape.smallFiles * factor),
    segments: Math.max(1, Math.round(shape.segments * factor)),
    packs: Math.max(1, Math.round(shape.packs * factor)),
  }
}

const SEGMENT_BYTES = 1024 ** 3
/** Pages of small files, one of these: 152 pages on average, and each a leaf that is stored. */
const SMALL_PAGES = [1, 4, 17, 45, 130, 333, 534]
const WHOLE_LEAVES = 8
/** Leaves that a frame of 128 KiB holds about. */
const LEAVES_PER_PACK = 21

/** The directory, as `pg_basebackup` would find it; gives the number of files. */
export function makeDirectory(root: string, shape: LargeShape): number {
  let files = 0
  mkdirSync(join(root, 'base'), { recursive: true, mode: 0o700 })
  const make = (path: string, bytes: number): void => {
    const fd = openSync(join(root, path), 'w', 0o600)
    ftruncateSync(fd, bytes)
    closeSync(fd)
    files++
  }
  for (let database = 0; database < shape.databases; database++) {
    const directory = `base/${16_384 + database}`
    mkdirSync(join(root, directory), { mode: 0o700 })
    for (let number = 0; number < shape.smallFiles; number++) {
      const node = 100_000 + Math.floor(number / 3)
      const pages = SMALL_PAGES[(number * 7 + database) % SMALL_PAGES.length] as number
      make(`${directory}/${node}${['', '_fsm', '_vm'][number % 3]}`, pages * PAGE_BYTES)
    }
    for (let table = 0; table < shape.tables; table++) {
      for (let segment = 0; segment < shape.segments; segment++) {
        const suffix = segment === 0 ? '' : `.${segment}`
        make(`${directory}/${900_000 + table}${suffix}`, SEGMENT_BYTES)
      }
    }
  }
  writeFileSync(join(root, 'PG_VERSION'), '15\n', { mode: 0o600 })
  return files + 1
}

export function packIdOf(number: number): string {
  return formatPackId(ATTEMPT, number)
}

/** Written without fsync below `repository`; gives the stored sizes. */
export async function makePacks(repository: string, shape: LargeShape): Promise<PackSummary[]> {
  const storage = openMemoryStorage()
  await storage.write(REPOSITORY_KEY, new Uint8Array(1))
  mkdirSync(join(repository, `clusters/${CLUSTER}/packs/${ATTEMPT}`), { recursive: true })
  const page = new Uint8Array(PAGE_BYTES).fill(7)
  const frame = Buffer.concat(new Array<Uint8Array>(PAGES_PER_FRAME).fill(page))
  const made: PackSummary[] = []
  for (let number = 0; number < shape.packs; number++) {
    const packs = new PackWriter({
      storage,
      cluster: CLUSTER,
      attemptId: ATTEMPT,
      firstSequence: number,
      sequenceStep: shape.packs,
      compressionLevel: 3,
    })
    await packs.begin()
    const id = packIdOf(number)
    packs.add(FRAME_KINDS.pages, frame, PAGES_PER_FRAME, [])
    const leaves = variants().map((pages) => encodeSameLeaf(id, pages))
    packs.add(FRAME_KINDS.leaves, encodeLeafFrame(leaves), leaves.length, [])
    await packs.finish()
    const key = packKey(CLUSTER, id)
    writeFileSync(join(repository, key), (await storage.read(key)) as Uint8Array)
    await storage.remove(key)
    made.push(...packs.packs)
  }
  return made
}

function variants(): number[] {
  return [...new Array<number>(WHOLE_LEAVES).fill(LEAF_PAGES), ...SMALL_PAGES]
}

function encodeSameLeaf(pack: string, pages: number): Uint8Array {
  const builder = new LeafBuilder()
  for (let at = 0; at < pages; at++) builder.addStored(pack, 0, at % PAGES_PER_FRAME)
  return encodeLeaf(builder.build(fingerprintsOf(pages)))
}

const FINGERPRINT = ((): bigint => {
  const kernel = createPageKernel({ readBufferBytes: PAGE_BYTES })
  kernel.readBuffer.fill(7)
  const one = new BigUint64Array(1)
  kernel.fingerprint(0, 1, new Uint8Array(one.buffer))
  return one[0] as bigint
})()

function fingerprintsOf(pages: number): BigUint64Array {
  return new BigUint64Array(pages).fill(FINGERPRINT)
}

const DIGESTS = new Map(
  variants().map((pages) => [pages, hash('sha256', fingerprintsOf(pages), 'hex')]),
)

/** What a copy of this cluster would answer: leaves dealt to the packs one after the other. */
export class InventedCopy {
  readonly #packs: number
  #leaves = 0

  constructor(shape: LargeShape) {
    this.#packs = shape.packs
  }

  copy(piece: CopyPiece): CopyResult {
    if (piece.form === 'pages') return this.#copyPages(piece)
    const chunks = [{ pack: packIdOf(0), frame: 0 }]
    return { form: 'content', file: piece.file, size: 3, sha256: DIGESTS.get(1) as string, chunks }
  }

  #copyPages({ file, firstPage, pages }: PagesPiece): CopyResult {
    const leaves: LeafReference[] = []
    const leafDigests: string[] = []
    const packs = new Set<string>()
    for (let at = 0; at < pages; at += LEAF_PAGES) {
      const count = Math.min(LEAF_PAGES, pages - at)
      const pack = packIdOf(Math.floor(this.#leaves / LEAVES_PER_PACK) % this.#packs)
      const whole = this.#leaves % WHOLE_LEAVES
      const slot = count === LEAF_PAGES ? whole : WHOLE_LEAVES + SMALL_PAGES.indexOf(count)
      this.#leaves++
      leaves.push({ pack, frame: 1, slot })
      leafDigests.push(DIGESTS.get(count) as string)
      packs.add(pack)
    }
    const facts = { badPages: [], storedPages: pages, lostBaseLeaves: 0 }
    return {
      form: 'pages',
      file,
      firstPage,
      pages,
      leaves,
      leafDigests,
      packs: [...packs],
      ...facts,
    }
  }
}
