/**
 * Publishes a dump in one repository: every pack that the record names is seen with its size, then
 * the record is created under the hold.
 *
 * Invariant: no record is created that names a pack which was not seen.
 */
import { Failure } from '../base/failure.ts'
import { type DumpRecord, encodeDumpRecord } from '../repository/dump-record.ts'
import { missingObject } from '../repository/envelope.ts'
import { dumpKey, dumpPackKey, holdKey } from '../repository/keys.ts'
import { publishUnderHold } from '../repository/publish-under-hold.ts'
import { listDumpPacks } from '../repository/read-dumps.ts'
import type { Storage } from '../storage/storage.ts'
import { extendDumpLocks } from './extend-dump-locks.ts'

/** Returns sentences for the report. TM1901: the hold was taken away; nothing is listed then. */
export async function publishDump(storage: Storage, record: DumpRecord): Promise<string[]> {
  const { id, cluster } = record
  const key = dumpKey(cluster, id)
  const notes = await publishUnderHold(storage, {
    what: 'dump',
    hold: holdKey(cluster, id),
    record: key,
    create: async () => {
      await seePacks(storage, record)
      await storage.write(key, encodeDumpRecord(record), { createOnly: true })
    },
    refuse: () => holdTaken(cluster, id),
  })
  return [...notes, ...(await extendDumpLocks(storage, record))]
}

async function seePacks(storage: Storage, { cluster, id, packs }: DumpRecord): Promise<void> {
  const seen = await listDumpPacks(storage, cluster)
  for (const pack of packs) {
    const key = dumpPackKey(cluster, pack.id)
    const found = seen.get(pack.id)
    if (found === pack.bytes) continue
    if (found === undefined) throw missingObject(key, `dump ${id}`)
    throw new Failure('TM1601', {
      message: `the pack ${key} has not the size that was written`,
      because: `${pack.bytes} bytes were written, ${found} are there`,
      fix: 'check the storage of the repository, then run the dump again',
      details: { key },
    })
  }
}

function holdTaken(cluster: string, id: string): Failure {
  return new Failure('TM1901', {
    message: `the hold of dump ${id} was taken away while it ran`,
    because: 'somebody declared this run dead (tidemark expire --release), and it was not',
    fix: `nothing of this dump is kept; run it again: tidemark dump ${cluster}`,
  })
}
