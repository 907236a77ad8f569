/** Reads records of dumps. Order is by the time of their beginning, never by name. */
import { type Failure, isFailure } from '../base/failure.ts'
import { readProved } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { type DumpRecord, decodeDumpRecord } from './dump-record.ts'
import {
  dumpKey,
  dumpPackPrefix,
  dumpPrefix,
  isBackupId,
  parseDumpKey,
  parseDumpPackKey,
} from './keys.ts'

export interface DumpList {
  /** Oldest first. */
  readonly dumps: DumpRecord[]
  /** Records that are there and cannot be read. */
  readonly unreadable: { readonly key: string; readonly failure: Failure }[]
}

const READ_AT_ONCE = 16

/** Requests: one listing, and one read for each record. */
export async function listDumps(storage: Storage, cluster: string): Promise<DumpList> {
  const ids: string[] = []
  for await (const { key } of storage.list(dumpPrefix(cluster))) {
    const id = parseDumpKey(key)
    if (id !== undefined) ids.push(id)
  }
  const list: DumpList = { dumps: [], unreadable: [] }
  const remaining = ids.values()
  const readOn = async (): Promise<void> => {
    for (const id of remaining) {
      try {
        const record = await findDump(storage, cluster, id)
        if (record !== undefined) list.dumps.push(record)
      } catch (error) {
        if (!isFailure(error, 'TM1601')) throw error
        list.unreadable.push({ key: dumpKey(cluster, id), failure: error })
      }
    }
  }
  await Promise.all(Array.from({ length: READ_AT_ONCE }, readOn))
  list.dumps.sort((a, b) => Date.parse(a.startedAt) - Date.parse(b.startedAt) || byText(a.id, b.id))
  list.unreadable.sort((a, b) => byText(a.key, b.key))
  return list
}

function byText(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0
}

/** TM1601 where the record is there and cannot be read. */
export async function findDump(
  storage: Storage,
  cluster: string,
  dumpId: string,
): Promise<DumpRecord | undefined> {
  if (!isBackupId(dumpId)) return undefined
  const key = dumpKey(cluster, dumpId)
  return await readProved(storage, key, (bytes) => decodeDumpRecord(key, bytes))
}

/** Sizes of all packs of dumps of a cluster by pack id, from one listing. */
export async function listDumpPacks(
  storage: Storage,
  cluster: string,
): Promise<Map<string, number>> {
  const sizes = new Map<string, number>()
  for await (const { key, sizeBytes } of storage.list(dumpPackPrefix(cluster))) {
    const id = parseDumpPackKey(key)
    if (id !== undefined) sizes.set(id, sizeBytes)
  }
  return sizes
}
