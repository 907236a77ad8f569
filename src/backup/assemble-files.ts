/**
 * Joins the results of the copy to the entries of the file list. Pure.
 *
 * Invariants: a file is as long as the pages that were read without a gap; when a fork's
 * segment is shorter than a whole one, its later segments are stored empty (all that they
 * held was changed after the backup's start and is in WAL; mdnblocks, mdtruncate in md.c).
 */
import { hash } from 'node:crypto'
import { Failure } from '../base/failure.ts'
import { parseRelationPath } from '../postgres/relation-path.ts'
import type { ContentEntry, FileEntry, PagesEntry } from '../repository/backup-record.ts'
import { PAGE_BYTES } from '../repository/pack-format.ts'
import { LEAF_PAGES } from '../repository/page-map.ts'
import type { CopyResult, PagesResult } from './copy/protocol.ts'
import type { Listed, ListedFile } from './list-files.ts'
import { isSettled, type PlannedFile } from './plan-copy.ts'

const SEGMENT_BYTES = 2 ** 30

export interface AssembledFiles {
  readonly entries: readonly FileEntry[]
  readonly damage: readonly { readonly path: string; readonly blocks: readonly number[] }[]
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
}

export function assembleFiles(input: AssemblyInput): AssembledFiles {
  const byFile = groupResults(input.files.length, input.results)
  const entries: FileEntry[] = [...input.unchanged, ...input.others]
  const damage: { path: string; blocks: number[] }[] = []
  input.files.forEach((file, number) => {
    const results = byFile[number] as CopyResult[]
    const entry = assembleFile(file, results, input.listedAtNs)
    if (entry === undefined) return
    entries.push(entry)
    const blocks = results.flatMap((r) => (r.form === 'pages' ? r.damagedBlocks : []))
    if (blocks.length > 0) damage.push({ path: entry.path, blocks: blocks.sort((a, b) => a - b) })
  })
  for (const listed of input.listed) {
    if (listed.kind === 'directory' || listed.kind === 'link') entries.push(listed)
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1))
  return { entries: emptyStaleSegments(entries), damage }
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
  if (pages.every((result) => result.firstPage !== 0)) {
    refuseVanished(path)
    return undefined
  }
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

/** Relation files, two-phase files and the like may go; these may not. */
function refuseVanished(path: string): void {
  if (!/(^|\/)(PG_VERSION|pg_filenode\.map|pg_control)$/.test(path)) return
  throw new Failure('TM1307', {
    message: `the file ${path} vanished while the backup ran`,
    because: 'PostgreSQL does not remove it from a database that lives',
    fix: 'find out what removes files of the data directory, then run the backup again',
  })
}

export function emptyStaleSegments(entries: readonly FileEntry[]): FileEntry[] {
  const shortFrom = new Map<string, number>()
  for (const entry of entries) {
    if (entry.kind !== 'pages' && entry.kind !== 'content') continue
    const fork = forkOf(entry.path)
    if (fork === undefined || entry.size >= SEGMENT_BYTES) continue
    const known = shortFrom.get(fork.name)
    if (known === undefined || fork.segment < known) shortFrom.set(fork.name, fork.segment)
  }
  return entries.map((entry) => {
    if (entry.kind !== 'pages' && entry.kind !== 'content') return entry
    const fork = forkOf(entry.path)
    if (fork === undefined || fork.segment <= (shortFrom.get(fork.name) ?? Infinity)) return entry
    return { kind: 'empty', path: entry.path, mode: entry.mode }
  })
}

function forkOf(path: string): { name: string; segment: number } | undefined {
  const relation = parseRelationPath(path)
  if (relation === undefined) return undefined
  return { name: path.replace(/\.\d+$/, ''), segment: relation.segment }
}
