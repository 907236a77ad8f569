/** A backup met a full disk: what it needs, what is there, and what one still has. */
import { Failure, isFailure } from '../../../base/failure.ts'
import type { Progress } from '../../../base/progress.ts'
import { listBackups } from '../../../repository/read-backups.ts'
import type { Storage } from '../../../storage/storage.ts'
import { formatBytes } from '../../format-units.ts'

export interface MeasuredProgress extends Progress {
  /** The largest number of bytes that a phase announced: the files to be read. */
  largestTotal(): number
}

export function measureTotals(progress: Progress): MeasuredProgress {
  let largest = 0
  return {
    phase(name, total, unit) {
      if (unit === undefined || unit === 'bytes') largest = Math.max(largest, total ?? 0)
      progress.phase(name, total, unit)
    },
    advance: (units) => progress.advance(units),
    note: (text) => progress.note(text),
    largestTotal: () => largest,
  }
}

/** TM1506 with the numbers; any other error as it is. `storages`: one of them is full. */
export async function explainFull(
  error: unknown,
  storages: readonly Storage[],
  cluster: string,
  neededBytes: number,
): Promise<unknown> {
  if (!isFailure(error, 'TM1506')) return error
  try {
    const { storage, freeBytes } = await findFullest(storages)
    const { backups } = await listBackups(storage, cluster)
    const last = backups.at(-1)
    const free = freeBytes === undefined ? '' : `, ${formatBytes(freeBytes)} free`
    const good =
      last === undefined ? 'there is no good backup yet' : `the last good one is ${last.id}`
    return new Failure('TM1506', {
      message: `no space left in ${storage.url} for the backup`,
      because: `it needs up to ${formatBytes(neededBytes)}${free}; ${good}`,
      fix: error.fix,
      details: { neededBytes, freeBytes: freeBytes ?? null, lastBackup: last?.id ?? null },
      cause: error,
    })
  } catch {
    // The numbers only explain: the failure itself is what has to be told.
    return error
  }
}

interface Fullest {
  readonly storage: Storage
  readonly freeBytes: number | undefined
}

async function findFullest(storages: readonly Storage[]): Promise<Fullest> {
  const found: Fullest[] = []
  for (const storage of storages) found.push({ storage, freeBytes: await storage.freeBytes() })
  const roomOf = ({ freeBytes }: Fullest): number => freeBytes ?? Number.POSITIVE_INFINITY
  return found.reduce((least, one) => (roomOf(one) < roomOf(least) ? one : least))
}
