/** What a receiver asks of a repository that is paid for by requests. Pure. */
import type { ClusterConfiguration } from '../../../config/configuration.ts'
import { type TailRequests, tailRequestsPerDay } from '../../../receive/tail-requests.ts'
import { DEFAULT_FLUSH_EVERY_MS } from '../../../receive/wal-sink.ts'
import type { MeasuredArchive } from './format-wal-status.ts'
import type { WalRate } from './measure-wal.ts'

export interface StreamRequests {
  readonly flushEveryMs: number
  /** Upper bounds, for a server that writes all the time at its present rate. */
  readonly perDay: TailRequests
}

const DAY_SECONDS = 86_400

export function withRequests(
  archive: MeasuredArchive,
  { walSource, walStream }: Pick<ClusterConfiguration, 'walSource' | 'walStream'>,
  rate: WalRate | undefined,
): MeasuredArchive {
  if (walSource !== 'stream' || archive.canAppend !== false) return archive
  const size = archive.archive?.walSegmentSizeBytes
  const bytes = (rate?.bytesPerSecond ?? 0) * DAY_SECONDS
  const segments = size === undefined ? 0 : Math.ceil(bytes / size)
  const flushEveryMs = walStream.flushEveryMs ?? DEFAULT_FLUSH_EVERY_MS
  const perDay = tailRequestsPerDay(flushEveryMs, segments)
  return { ...archive, requests: { flushEveryMs, perDay } }
}
