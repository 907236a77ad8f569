/**
 * Joins the results of the copy to the entries of the file list. Pure.
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
import type { Listed, ListedFile } from './list-files.ts'
import { isSettled, type PlannedFile } from './plan-copy.ts'

export interface AssembledFiles {
  readonly entries: readonly FileEntry[]
  readonly damage: readonly FoundDamage[]
}

/** Pages of one file whose checksum was wrong at every read, in order of their blocks. */
export interface FoundDamage {
  readonly path: string
  readonly pages: readonly BadPage[]
}

export interface AssemblyInput {
  readonly listed: readonly Listed[]
  readonly files: readonly PlannedFile[]
  readonly results: readonly CopyResult[]
  readonly unchanged: readonly PagesEntry[]
  /** Files that were read by other means: pg_control, configuration files. */
  readonly others: readonly ContentEntry[]
  /** When the directory was listed, nanoseconds of the local clock. */
  readonly listedAtNs: bigint
  readonly relationSegmentBlocks: number
}

export function assembleFiles(input: AssemblyInput): AssembledFiles {
  const byFile = groupResults(input.files.length, input.results)
  const entries: FileEntry[] = [...input.unchanged, ...input.others]
  const damage: FoundDamage[] = []
  input.files.forEach((file, number) => {
    const results = byFile[number] as CopyResult[]
    const entry = assembleFile(file, results, input.listedAtNs)
    if (entry === undefined) return
    entries.push(entry)
    const pages = results.flatMap((r) => (r.form === 'pages' ? r.badPages : []))
    pages.sort((a, b) => a.block - b.block)
    if (pages.length > 0) damage.push({ path: entry.path, pages })
  })
  for (const listed of input.listed) {
    if (listed.kind === 'directory' || listed.kind === 'link') entries.push(listed)
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1))
  const segmentBytes = input.relationSegmentBlocks * PAGE_BYTES
  return { entries: emptyStaleSegments(entries, segmentBytes), damage }
}

function groupResults(files: number, results: readonly CopyResult[]): CopyResult[][] {
  const groups: CopyResult[][] = Array.from({ length: files }, () => [])
  for (const result of results) groups[result.file]?.push(result)
  return groups
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

/** `entries` in order of paths or not; a fork's segments are 0, 1, 2, …, all but one whole. */
export function emptyStaleSegments(
  entries: readonly FileEntry[],
  segmentBytes: number,
): FileEntry[] {
  const wholeSegments = new Map<string, Set<number>>()
  const lateSegments: { index: number; name: string; segment: number }[] = []
  entries.forEach((entry, index) => {
    if (entry.kind !== 'pages' && entry.kind !== 'content') return
    const fork = forkOf(entry.path)
    if (fork === undefined) return
    if (fork.segment > 0) lateSegments.push({ index, ...fork })
    if (entry.size < segmentBytes) return
    const whole = wholeSegments.get(fork.name)
    if (whole === undefined) wholeSegments.set(fork.name, new Set([fork.segment]))
    else whole.add(fork.segment)
  })
  const result = [...entries]
  for (const { index, name, segment } of lateSegments) {
    if (followsWholeSegments(wholeSegments.get(name), segment)) continue
    const { path, mode } = entries[index] as FileEntry
    result[index] = { kind: 'empty', path, mode }
  }
  return result
}

function followsWholeSegments(whole: ReadonlySet<number> | undefined, segment: number): boolean {
  for (let before = 0; before < segment; before++) {
    if (whole?.has(before) !== true) return false
  }
  return true
}

function forkOf(path: string): { name: string; segment: number } | undefined {
  const relation = parseRelationPath(path)
  if (relation === undefined) return undefined
  return { name: path.replace(/\.\d+$/, ''), segment: relation.segment }
}
