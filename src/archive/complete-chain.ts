/**
 * What a server's pg_wal does not hold any more, taken from quarantine: only what joins on to the
 * segment beside it (docs/design/lineage.md, section 6).
 *
 * Invariant: the first segment of a chain does not contradict the archived one before it. Where the
 * two histories part is seen, or nothing is adopted.
 */
import { formatSegmentName } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import {
  type AdoptedFile,
  type AdoptionSource,
  cannotAdopt,
  listQuarantine,
  loadArchived,
  type SourceRequest,
} from './adoption-source.ts'
import { judgeContinuation } from './compare-segments.ts'
import { parseWalFileName, type WalFileName } from './wal-file-name.ts'

export interface Chain {
  /** The first segment. */
  readonly from: bigint
  readonly segments: ReadonlyMap<bigint, AdoptedFile>
  /** Numbers within it that nobody has. */
  readonly missing: readonly bigint[]
}

/** `from`: where the source is known to differ, or to go on. TM1464. */
export async function completeChain(
  storage: Storage,
  request: SourceRequest,
  source: AdoptionSource,
  from: bigint,
): Promise<Chain> {
  const segments = new Map([...source.segments].filter(([segment]) => segment >= from))
  const kept = await listQuarantine(storage, request)
  const nameOf = (segment: bigint): string =>
    formatSegmentName(request.timeline, segment, request.walSegmentSizeBytes)
  const keptAt = (segment: bigint): AdoptedFile[] =>
    kept.filter(({ file }) => file.name === nameOf(segment))
  let first = from
  let content = await (source.segments.get(from) ?? source.current.get(from))?.load()
  while (content !== undefined) {
    const file = parseWalFileName(nameOf(first - 1n)) as WalFileName
    const archived = await loadArchived(storage, request, file)
    const next: Buffer = content
    const joins = archived === undefined || judgeContinuation(archived, next) !== 'contradicts'
    if (joins) break
    const own = source.segments.get(first - 1n)
    const candidates = own === undefined ? keptAt(first - 1n) : [own]
    const chosen = await chooseFitting(candidates, (one) => judgeContinuation(one, next))
    if (chosen === undefined) throw unseen(nameOf(first))
    first -= 1n
    segments.set(first, chosen.file)
    content = chosen.content
  }
  const missing = await fillForward(segments, first, keptAt)
  const sorted = [...segments].sort(([a], [b]) => (a < b ? -1 : 1))
  return { from: first, segments: new Map(sorted), missing }
}

async function fillForward(
  segments: Map<bigint, AdoptedFile>,
  first: bigint,
  keptAt: (segment: bigint) => AdoptedFile[],
): Promise<bigint[]> {
  const last = [...segments.keys()].reduce((most, one) => (one > most ? one : most), first)
  const missing: bigint[] = []
  for (let segment = first; segment < last; segment++) {
    if (segments.has(segment)) continue
    const before = await segments.get(segment - 1n)?.load()
    const chosen =
      before === undefined
        ? undefined
        : await chooseFitting(keptAt(segment), (one) => judgeContinuation(before, one))
    if (chosen === undefined) missing.push(segment)
    else segments.set(segment, chosen.file)
  }
  return missing
}

async function chooseFitting(
  among: readonly AdoptedFile[],
  judge: (content: Buffer) => ReturnType<typeof judgeContinuation>,
): Promise<{ file: AdoptedFile; content: Buffer } | undefined> {
  for (const file of among) {
    const content = await file.load()
    if (judge(content) === 'fits') return { file, content }
  }
  return undefined
}

function unseen(name: string): Error {
  return cannotAdopt(
    `${name} does not continue the archived segment before it, and earlier ones are not at hand`,
    'neither its pg_wal nor the quarantine holds them: where the two histories part cannot be seen',
  )
}
