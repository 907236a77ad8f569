/**
 * Proves archived segments: that those of a range are there, and that their bytes are
 * those that were written. Records are not read (scan-wal.ts).
 */
import { Failure, isFailure } from '../base/failure.ts'
import { type Progress, SILENT } from '../base/progress.ts'
import { formatSegmentName } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { timelineOfSegment } from './find-gaps.ts'
import { judgeLength, judgeSegment, parseFirstPage } from './judge-segment.ts'
import type { WalPath } from './load-segment.ts'
import { segmentKey } from './wal-file-name.ts'
import { checkWalObject, damagedWalObject, decodeWalObject } from './wal-object.ts'

export interface CheckWalOptions extends Omit<WalPath, 'storages'> {
  readonly storage: Storage
  /** Segment numbers along the path, both included. */
  readonly first: bigint
  readonly last: bigint
  /** `stored`: the hash of the stored bytes. `full`: also the content, and its header. */
  readonly level: 'stored' | 'full'
  readonly progress?: Progress
  readonly signal?: AbortSignal
}

export interface CheckedWal {
  readonly checked: number
  readonly storedBytes: number
  /** By name, ascending; TM1408 for a missing segment, TM1601 for a damaged one. */
  readonly problems: readonly { readonly name: string; readonly failure: Failure }[]
}

export async function checkWal(options: CheckWalOptions): Promise<CheckedWal> {
  const { first, last, progress = SILENT } = options
  progress.phase('checking WAL', Number(last - first + 1n), 'segments')
  const problems: { name: string; failure: Failure }[] = []
  let storedBytes = 0
  let ahead = first <= last ? read(options, first) : undefined
  for (let segment = first; segment <= last; segment += 1n) {
    options.signal?.throwIfAborted()
    const { name, key, loading } = ahead as Reading
    ahead = segment < last ? read(options, segment + 1n) : undefined
    const bytes = await orDamage(loading)
    if (bytes instanceof Failure) problems.push({ name, failure: bytes })
    else {
      const failure =
        bytes === undefined ? missing(options, name) : judge(options, name, key, bytes)
      if (failure !== undefined) problems.push({ name, failure })
      storedBytes += bytes?.length ?? 0
    }
    progress.advance(1)
  }
  return { checked: Number(last - first + 1n), storedBytes, problems }
}

interface Reading {
  readonly name: string
  readonly key: string
  readonly loading: Promise<Uint8Array | undefined>
}

/** Reading runs one segment ahead of checking. */
function read(options: CheckWalOptions, segment: bigint): Reading {
  const timeline = timelineOfSegment(options.path, segment, options.walSegmentSizeBytes)
  const name = formatSegmentName(timeline, segment, options.walSegmentSizeBytes)
  const key = segmentKey(options.cluster, options.systemIdentifier, name)
  const loading = options.storage.read(key)
  // Met when it is awaited, or never when the check was aborted.
  loading.catch(() => {})
  return { name, key, loading }
}

/** A seal that does not hold is damage like any other. */
async function orDamage(
  loading: Promise<Uint8Array | undefined>,
): Promise<Uint8Array | Failure | undefined> {
  try {
    return await loading
  } catch (error) {
    if (isFailure(error, 'TM1601') || isFailure(error, 'TM1605')) return error
    throw error
  }
}

/** A failure that tells of damage; others (a bug) are thrown. */
function judge(
  options: CheckWalOptions,
  name: string,
  key: string,
  bytes: Uint8Array,
): Failure | undefined {
  try {
    const expected = { systemIdentifier: options.systemIdentifier, name }
    if (options.level === 'stored') checkWalObject(key, bytes, expected)
    else requireSegment(options, name, key, decodeWalObject(key, bytes, expected).content)
    return undefined
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  }
}

function requireSegment(
  options: CheckWalOptions,
  name: string,
  key: string,
  content: Uint8Array,
): void {
  const page = parseFirstPage(content)
  if (page === undefined) throw damagedWalObject(key, 'its content is no WAL segment')
  const { systemIdentifier, walSegmentSizeBytes, path } = options
  const identity = { systemIdentifier, walSegmentSizeBytes, major: page.major, createdAt: '' }
  const timeline = Number.parseInt(name.slice(0, 8), 16)
  const history = historyUpTo(path, timeline)
  const problem = judgeLength(content, page) ?? judgeSegment(name, content, page, identity, history)
  if (problem !== undefined) throw damagedWalObject(key, problem)
}

/** The history of an ancestor is the beginning of that of its descendant. */
function historyUpTo(path: CheckWalOptions['path'], timeline: number): CheckWalOptions['path'] {
  return { timeline, ancestors: path.ancestors.filter((one) => one.timeline < timeline) }
}

function missing(options: { readonly storage: Storage }, name: string): Failure {
  return new Failure('TM1408', {
    message: `the WAL segment ${name} is missing from the archive`,
    because: `${options.storage.url} does not hold it`,
    fix:
      'bring it from the pg_wal of the server or of a standby: tidemark wal push FILE; ' +
      'or recover to a moment before it (--to end-of:gap)',
    details: { name, url: options.storage.url },
  })
}
