/**
 * Which dumps of the source the target's retention would keep, if it had all of both: nothing else
 * is brought, because the next expiry would remove it again.
 */
import type { Storage } from '../storage/storage.ts'
import { type DumpPolicy, type ListedDump, planDumpExpiration } from './plan-dump-expiration.ts'
import { readDumpFacts } from './read-dump-facts.ts'

export interface DumpChoice {
  readonly source: Storage
  readonly target: Storage
  readonly cluster: string
  readonly policy: DumpPolicy | undefined
  readonly nowMs: number
}

/** Ids. */
export async function chooseDumps(choice: DumpChoice): Promise<ReadonlySet<string>> {
  const { source, target, cluster, policy, nowMs } = choice
  const [from, to] = await Promise.all([
    readDumpFacts({ storage: source, cluster }),
    readDumpFacts({ storage: target, cluster }),
  ])
  const dumps = new Map<string, ListedDump>()
  for (const dump of [...from.dumps, ...to.dumps]) {
    const other = dumps.get(dump.id)
    const isPinned = dump.isPinned || other?.isPinned === true
    // Of two the whole one counts: the other side is healed from it.
    const isIncomplete = dump.isIncomplete && other?.isIncomplete !== false
    dumps.set(dump.id, { ...dump, isPinned, isIncomplete })
  }
  const joined = {
    dumps: [...dumps.values()],
    unreadableRecords: [],
    holds: [],
    unreadableHolds: [],
    condemnedElsewhere: new Set<string>(),
    takenOver: [],
    packs: [],
    marks: [],
  }
  const { keep } = planDumpExpiration(joined, { policy, nowMs })
  return new Set(keep.map(({ dump }) => dump.id))
}
