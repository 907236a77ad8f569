/**
 * Decides whether the bytes of a WAL segment are what their name says, for a given server
 * (docs/design/wal-archive.md, section 2). Pure.
 */
import type { TimelineHistory } from '../postgres/history-file.ts'
import { timelineAt } from '../postgres/history-file.ts'
import {
  formatLsn,
  parseSegmentName,
  type SegmentName,
  segmentNumber,
  segmentStart,
  type Timeline,
} from '../postgres/lsn.ts'
import {
  isWalSegmentSize,
  type LongHeader,
  parseWalPageHeader,
  WAL_PAGE_BYTES,
  type WalPageHeader,
} from '../postgres/wal-page.ts'
import type { SystemIdentity } from '../repository/system-identity.ts'

export interface FirstPage extends WalPageHeader {
  readonly long: LongHeader
}

/** The long header that begins every segment; undefined when the bytes are no segment. */
export function parseFirstPage(content: Uint8Array): FirstPage | undefined {
  const header = parseWalPageHeader(content)
  if (header?.long === undefined) return undefined
  return { ...header, long: header.long }
}

/** Is the file as long as its own header says a segment is? A reason when it is not. */
export function judgeLength(content: Uint8Array, page: FirstPage): string | undefined {
  const size = page.long.walSegmentSizeBytes
  if (!isWalSegmentSize(size)) return `its header names a segment size of ${size} bytes`
  if (content.length === size) return undefined
  return `it is ${content.length} bytes long, and a segment of its server ${size}`
}

/** The reason why the segment is refused; undefined: accepted. */
export function judgeSegment(
  name: string,
  content: Uint8Array,
  page: FirstPage,
  identity: SystemIdentity,
  history: TimelineHistory | undefined,
): string | undefined {
  return judgeFirstPage(name, page, identity, history) ?? judgePages(name, content, page)
}

/** The same without the pages behind the first one, which judgePages() looks at. */
export function judgeFirstPage(
  name: string,
  page: FirstPage,
  identity: SystemIdentity,
  history: TimelineHistory | undefined,
): string | undefined {
  const size = page.long.walSegmentSizeBytes
  if (size !== identity.walSegmentSizeBytes) {
    return `its segments have ${size} bytes, those of the archive ${identity.walSegmentSizeBytes}`
  }
  if (page.long.walBlockSizeBytes !== WAL_PAGE_BYTES) {
    return `its WAL block size is ${page.long.walBlockSizeBytes}, not ${WAL_PAGE_BYTES}`
  }
  if (page.major !== identity.major) {
    return `it was written by PostgreSQL ${page.major}, and the server is ${identity.major}`
  }
  const named = parseSegmentName(name, size)
  if (named === undefined) return `no segment of ${size} bytes has this name`
  const start = segmentStart(named.segment, size)
  if (page.address !== start) {
    return `its header says address ${formatLsn(page.address)}, its name ${formatLsn(start)}`
  }
  return judgeTimeline(named, page, history)
}

function judgeTimeline(
  named: SegmentName,
  page: FirstPage,
  history: TimelineHistory | undefined,
): string | undefined {
  if (page.timeline === named.timeline) return undefined
  const said = `its header says timeline ${page.timeline}, its name ${named.timeline}`
  if (history === undefined) {
    return `${said}, and no history of timeline ${named.timeline} is at hand`
  }
  const fork = history.ancestors.at(-1)?.endLsn
  const size = page.long.walSegmentSizeBytes
  const holdsFork = fork !== undefined && segmentNumber(fork, size) === named.segment
  if (holdsFork && timelineAt(history, page.address) === page.timeline) return undefined
  const where = fork === undefined ? 'has no fork' : `forked at ${formatLsn(fork)}`
  return `${said}, and timeline ${named.timeline} ${where}`
}

/**
 * Timelines never decrease from page to page nor exceed the name's. The walk ends at the
 * first page that does not belong here: what follows is the past of a recycled file.
 */
export function judgePages(
  name: string,
  content: Uint8Array,
  first: FirstPage,
): string | undefined {
  const timeline: Timeline = Number.parseInt(name.slice(0, 8), 16)
  let latest = first.timeline
  for (let offset = WAL_PAGE_BYTES; offset < content.length; offset += WAL_PAGE_BYTES) {
    const page = parseWalPageHeader(content, offset)
    if (page?.address !== first.address + BigInt(offset)) break
    if (page.timeline < latest || page.timeline > timeline) {
      return `timeline ${page.timeline} follows ${latest} at ${formatLsn(page.address)}`
    }
    latest = page.timeline
  }
  return undefined
}
