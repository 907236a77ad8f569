/**
 * Joins the results of the copy to the entries of the file list, one at a time. Pure.
 *
 * Invariants: a file is as long as the pages that were read without a gap; when a fork's
 * segment is missing or shorter than a whole one, its later segments are stored empty (all
 * that they held was changed after the backup's start and is in WAL; mdnblocks, mdtruncate,
 * mdunlinkfork in md.c).
 */
import { hash } from 'node:crypto'
import { parseRelationPath } from '../postgres/relation-path.ts'
import type { ContentEntry, FileEntry, PagesEntry } from '../repository/backup-record.ts'
import { PAGE_BYTES } from '../repository/pack-format.ts'
import { LEAF_PAGES } from '../repository/page-map.ts'
import type { BadPage, CopyResult, PagesResult } from './copy/protocol.ts'
import type { CopyResults } from './copy-results.ts'
import type { ListedEntries } from './file-table.ts'
import type { Listed, ListedFile } from './list-files.ts'
import { type CopyPlan, emptyFile, isSettled, type PlannedFile } from './plan-copy.ts'
import type { Lookup } from './write-metadata.ts'

export interface AssembledFiles {
  /** In the order of their paths, made anew by whoever goes through them. */
  readonly entries: Iterable<FileEntry>
  readonly damage: readonly FoundDamage[]
}

/** Pages of one file whose checksum was wrong at every read, in order of their blocks. */
export interface FoundDamage {
  readonly path: string
  readonly pages: readonly BadPage[]
}

export interface AssemblyInput {
  readonly listed: ListedEntries
  readonly plan: CopyPlan
  readonly results: CopyResults
  /** The backup compared with, from which unchanged entries are taken over. */
  readonly base: Lookup<FileEntry>
  /** Files that were read by other means: pg_control, configuration files. */
  readonly others: readonly ContentEntry[]
  /** When the directory was listed, nanoseconds of the local clock. */
  readonly listedAtNs: bigint
  readonly relationSegmentBlocks: number
}

export function assembleFiles(input: AssemblyInput): AssembledFiles {
  const stale = findWholeSegments(input)
  return {
    entries: { [Symbol.iterator]: () => withEmptied(input, stale) },
    damage: findDamage(input),
  }
}

function findDamage({ results, plan, listedAtNs }: AssemblyInput): FoundDamage[] {
  return [...results.filesWithBadPages]
    .sort((a, b) => a - b)
    .flatMap((file) => {
      const ofFile = results.of(file)
      const entry = assembleFile(plan.file(file), ofFile, listedAtNs)
      if (entry === undefined) return []
      const pages = ofFile.flatMap((one) => (one.form === 'pages' ? one.badPages : []))
      return [{ path: entry.path, pages: pages.sort((a, b) => a.block - b.block) }]
    })
}

/** What is stored as pages is never larger than it was listed. */
function findWholeSegments(input: AssemblyInput): StaleSegments {
  const segmentBytes = input.relationSegmentBlocks * PAGE_BYTES
  const stale = new StaleSegments(segmentBytes)
  for (let index = 0; index < input.listed.length; index++) {
    const listed = input.listed.at(index) as Listed
    if (listed.kind !== 'file') continue
    if (listed.size < segmentBytes && listed.size % PAGE_BYTES === 0) continue
    const entry = entryOf(input, index)
    if (entry !== undefined) stale.look(entry)
  }
  return stale
}

function* withEmptied(input: AssemblyInput, stale: StaleSegments): Generator<FileEntry> {
  for (const entry of listEntries(input)) {
    if (stale.isStale(entry)) yield { kind: 'empty', path: entry.path, mode: entry.mode }
    else yield entry
  }
}

/** All that there is, in the order of paths; stale segments as they were read. */
function* listEntries(input: AssemblyInput): Generator<FileEntry> {
  const { listed } = input
  const others = input.others.toSorted((a, b) => (a.path < b.path ? -1 : 1)).values()
  let other = others.next()
  for (let index = 0; index < listed.length; index++) {
    const entry = entryOf(input, index)
    if (entry === undefined) continue
    for (; !other.done && other.value.path < entry.path; other = others.next()) yield other.value
    yield entry
  }
  for (; !other.done; other = others.next()) yield other.value
}

/** Undefined: PostgreSQL has removed the file since it was listed. */
function entryOf(input: AssemblyInput, index: number): FileEntry | undefined {
  const listed = input.listed.at(index) as Listed
  if (listed.kind !== 'file') return listed
  const fate = input.plan.fateOf(index)
  if (fate?.kind === 'empty') return emptyFile(listed)
  if (fate?.kind === 'unchanged') return takeOver(input.base.get(listed.path), listed)
  if (fate === undefined) throw new Error(`${listed.path} has no fate`)
  const results = input.results.of(fate.file)
  return assembleFile(input.plan.file(fate.file), results, input.listedAtNs)
}

function takeOver(earlier: FileEntry | undefined, listed: ListedFile): FileEntry {
  if (earlier === undefined) throw new Error(`${listed.path} is not in the backup compared with`)
  return earlier.mode === listed.mode ? earlier : { ...earlier, mode: listed.mode }
}

function assembleFile(
  file: PlannedFile,
  results: readonly CopyResult[],
  listedAtNs: bigint,
): FileEntry | undefined {
  const { path, mode } = file.listed
  if (results.length !== file.pieces) throw new Error(`${path}: ${results.length} results`)
  const content = results.find((result) => result.form === 'content')
  if (content !== undefined) {
    const { size, sha256, chunks } = content
    return { kind: 'content', path, mode, size, sha256, chunks }
  }
  const pages = results.filter((result) => result.form === 'pages')
  if (pages.every((result) => result.firstPage !== 0)) return undefined
  return assemblePages(file.listed, pages, listedAtNs)
}

/** The pages that were read without a gap from the first one on. */
function assemblePages(
  listed: ListedFile,
  results: readonly PagesResult[],
  listedAtNs: bigint,
): PagesEntry {
  const inOrder = [...results].sort((a, b) => a.firstPage - b.firstPage)
  const leaves = []
  const digests: string[] = []
  const packs = new Set<string>()
  let pages = 0
  for (const result of inOrder) {
    if (result.firstPage !== pages) break
    leaves.push(...result.leaves)
    digests.push(...result.leafDigests)
    for (const pack of result.packs) packs.add(pack)
    pages += result.pages
    if (pages % LEAF_PAGES !== 0) break
  }
  const size = pages * PAGE_BYTES
  const settled = size === listed.size && isSettled(listed, listedAtNs)
  const { path, mode, status } = listed
  return {
    kind: 'pages',
    path,
    mode,
    size,
    leaves,
    digest: hash('sha256', Buffer.from(digests.join(''), 'hex'), 'hex'),
    packs: [...packs].sort(),
    seen: { ...status, settled },
  }
}

/**
 * Which segments of forks stay: 0, 1, 2, … as long as all before are whole. All entries are
 * shown first, in any order; of those that are asked for then, only whole segments and late
 * ones were remembered.
 */
export class StaleSegments {
  readonly #segmentBytes: number
  readonly #whole = new Map<string, Set<number>>()

  constructor(segmentBytes: number) {
    this.#segmentBytes = segmentBytes
  }

  look(entry: FileEntry): void {
    if (entry.kind !== 'pages' && entry.kind !== 'content') return
    if (entry.size < this.#segmentBytes) return
    const fork = forkOf(entry.path)
    if (fork === undefined) return
    const known = this.#whole.get(fork.name)
    if (known === undefined) this.#whole.set(fork.name, new Set([fork.segment]))
    else known.add(fork.segment)
  }

  isStale(entry: FileEntry): boolean {
    if (entry.kind !== 'pages' && entry.kind !== 'content') return false
    // Only a late segment ends in a number behind a dot.
    if (!/\.\d+$/.test(entry.path)) return false
    const fork = forkOf(entry.path)
    if (fork === undefined || fork.segment === 0) return false
    const whole = this.#whole.get(fork.name)
    for (let before = 0; before < fork.segment; before++) {
      if (whole?.has(before) !== true) return true
    }
    return false
  }
}

function forkOf(path: string): { name: string; segment: number } | undefined {
  const relation = parseRelationPath(path)
  if (relation === undefined) return undefined
  return { name: path.replace(/\.\d+$/, ''), segment: relation.segment }
}
