/** Of each set of databases that is dumped, the newest dump; and what cannot be read. */
import { latestMoment } from '../../../dump/latest-moment.ts'
import type { DumpRecord } from '../../../repository/dump-record.ts'
import { type DumpList, listDumps } from '../../../repository/read-dumps.ts'
import type { Storage } from '../../../storage/storage.ts'
import { type Check, found, ok } from '../doctor/check.ts'

export interface DumpStatus {
  readonly count: number
  /** The newest first, one of each set of databases. */
  readonly newest: readonly DumpRecord[]
}

export async function readDumpStatus(
  storage: Storage,
  cluster: string,
): Promise<{ readonly dumps: DumpStatus; readonly check: Check }> {
  const list = await listDumps(storage, cluster)
  const dumps = { count: list.dumps.length, newest: chooseNewestDumps(list.dumps) }
  return { dumps, check: checkDumps(cluster, list) }
}

/** Pure. Whatever their selection and format are. */
export function chooseNewestDumps(dumps: readonly DumpRecord[]): DumpRecord[] {
  const newest = new Map<string, DumpRecord>()
  for (const dump of dumps.toReversed().sort((a, b) => latestMoment(b) - latestMoment(a))) {
    const names = dump.databases.map(({ name }) => name).sort()
    const set = JSON.stringify(names)
    if (!newest.has(set)) newest.set(set, dump)
  }
  return [...newest.values()]
}

function checkDumps(cluster: string, { unreadable }: DumpList): Check {
  const [first] = unreadable
  if (first === undefined) return ok('TM2062', 'dumps', 'every record of a dump can be read')
  return found(
    'problem',
    'TM2062',
    'dumps',
    `${unreadable.length} of their records cannot be read, such as ${first.key}`,
    `bring a whole copy: tidemark sync ${cluster}; or give it up: tidemark expire --release ID`,
  )
}
