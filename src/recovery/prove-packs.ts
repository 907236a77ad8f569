/**
 * Proves header, index and trailer of packs: all but the frames, so that a pack that was
 * cut or overwritten is known before a byte is restored. Frames are proved when they are
 * read.
 */
import type { BackupRecord } from '../repository/backup-record.ts'
import { openPack } from '../repository/pack-reader.ts'
import type { Storage } from '../storage/storage.ts'

/** Each pack costs three small reads, which wait more than they work. */
const READ_AT_ONCE = 8

/** TM1601 or TM1602 for the first pack, in the order of the record, that does not hold. */
export async function provePacks(storage: Storage, record: BackupRecord): Promise<void> {
  const { packs, cluster, id } = record
  for (let first = 0; first < packs.length; first += READ_AT_ONCE) {
    const some = packs.slice(first, first + READ_AT_ONCE)
    const opened = some.map((pack) => openPack(storage, cluster, pack.id, `backup ${id}`))
    const failed = (await Promise.allSettled(opened)).find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') throw failed.reason
  }
}
