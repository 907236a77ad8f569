/** How new what a dump shows is. Pure. */
import type { DumpRecord } from '../repository/dump-record.ts'

/** Milliseconds since 1970, by the server's clock; of globals alone by that of the writer. */
export function latestMoment({ databases, startedAt }: DumpRecord): number {
  const moments = databases.map(({ at }) => Date.parse(at))
  return moments.length === 0 ? Date.parse(startedAt) : Math.max(...moments)
}
