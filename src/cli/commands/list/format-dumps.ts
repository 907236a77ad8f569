/** The dumps of `list`, below the backups. Pure. */
import type { Failure } from '../../../base/failure.ts'
import { latestMoment } from '../../../dump/latest-moment.ts'
import { parseDumpKey } from '../../../repository/keys.ts'
import type { MarkedDump } from '../../../repository/marks.ts'
import { describeContents, durationOf } from '../../describe-dump.ts'
import { type Column, formatTable } from '../../format-table.ts'
import { formatBytes, formatDuration, formatTime } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

const COLUMNS: readonly Column[] = [
  { title: 'DUMP' },
  { title: 'SHOWS (UTC)' },
  { title: 'TOOK', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'STORED', align: 'right' },
  { title: 'FORMAT' },
  { title: 'DATABASES' },
  { title: 'NOTES' },
]

export interface ShownDumps {
  readonly dumps: readonly MarkedDump[]
  readonly unreadable: readonly { readonly key: string; readonly failure: Failure }[]
}

/** Oldest first by what they show; nothing where there are none. */
export function formatDumpList({ dumps, unreadable }: ShownDumps, colours: Colours): string[] {
  if (dumps.length === 0 && unreadable.length === 0) return []
  const sorted = [...dumps].sort((a, b) => latestMoment(a.record) - latestMoment(b.record))
  const rows = sorted.map(({ record, isPinned }) => [
    record.id,
    formatTime(new Date(latestMoment(record))),
    formatDuration(durationOf(record)),
    formatBytes(record.sizes.rawBytes),
    formatBytes(record.sizes.storedBytes),
    record.format,
    describeContents(record),
    describeNotes({ record, isPinned }),
  ])
  const [head = '', ...body] = dumps.length === 0 ? [] : formatTable(COLUMNS, rows)
  const broken = unreadable.flatMap(({ key, failure }) => [
    `${colours.red('damaged')}  dump ${parseDumpKey(key) ?? key}: ${failure.message}`,
    `         ${failure.because ?? ''}`.trimEnd(),
  ])
  return ['', ...(head === '' ? [] : [colours.dim(head)]), ...body, ...broken]
}

function describeNotes({ record, isPinned }: MarkedDump): string {
  const labels = Object.entries(record.labels).map(([key, value]) => `${key}=${value}`)
  return [...(isPinned ? ['pinned'] : []), ...record.selection, ...labels].join(', ')
}
