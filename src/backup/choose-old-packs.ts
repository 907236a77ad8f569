/**
 * Chooses the packs that have grown too old: what lies in them is stored again by this backup
 * (docs/design/repacking.md). Pure.
 */
import type { BackupRecord } from '../repository/backup-record.ts'

/** However small a cluster is. */
const LEAST_BUDGET_BYTES = 1024 ** 3
const BUDGET_SHARE = 0.1

/**
 * Packs of `base` that are older than `maxAgeMs` at `at`, oldest first, as many as have together a
 * tenth of the bytes of all its packs, or 1 GiB where that is more; at least one.
 */
export function chooseOldPacks(
  base: BackupRecord,
  sizes: ReadonlyMap<string, number>,
  at: Date,
  maxAgeMs: number,
  leastBudgetBytes = LEAST_BUDGET_BYTES,
): Set<string> {
  const packs = base.packs.map(({ id, since }) => {
    return { id, bytes: sizes.get(id) ?? 0, since: Date.parse(since ?? base.startedAt) }
  })
  const total = packs.reduce((sum, { bytes }) => sum + bytes, 0)
  const budget = Math.max(leastBudgetBytes, total * BUDGET_SHARE)
  const old = packs.filter(({ since }) => at.getTime() - since > maxAgeMs)
  old.sort((a, b) => a.since - b.since || (a.id < b.id ? -1 : 1))
  const chosen = new Set<string>()
  let bytes = 0
  for (const pack of old) {
    bytes += pack.bytes
    if (chosen.size > 0 && bytes > budget) break
    chosen.add(pack.id)
  }
  return chosen
}
