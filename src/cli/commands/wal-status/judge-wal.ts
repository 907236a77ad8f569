/** What is wrong with how WAL gets into the archive. Pure. */
import { formatBytes } from '../../format-units.ts'
import { type Check, found } from '../doctor/check.ts'
import type { SlotState } from './read-wal-server.ts'

/**
 * Slots whose WAL is gone, or will be soon, or that keep WAL for nobody. `own`: the receiver's,
 * where WAL is streamed.
 */
export function judgeSlots(slots: readonly SlotState[], own: string | undefined): Check[] {
  if (own !== undefined && slots.every(({ name }) => name !== own)) {
    const detail = `there is no slot ${own}: the server keeps no WAL for the receiver`
    return [found('problem', 'TM1481', 'replication slots', detail, 'tidemark wal receive')]
  }
  return slots.flatMap((slot) => {
    const { name, walStatus, isActive, keptBytes, safeWalBytes } = slot
    const severity = name === own ? 'problem' : 'warning'
    const tell = (detail: string, fix: string): Check[] => [
      found(severity, 'TM1481', 'replication slots', `slot ${name} ${detail}`, fix),
    ]
    if (walStatus === 'lost') {
      const drop = `SELECT pg_drop_replication_slot('${name.replaceAll("'", "''")}')`
      return tell('was lost: the server removed WAL that it needed', ownFix(name === own, drop))
    }
    if (walStatus === 'unreserved') {
      const fix =
        'let its reader catch up before the next checkpoint, or raise max_slot_wal_keep_size'
      return tell('is about to be lost: it needs more than max_slot_wal_keep_size allows', fix)
    }
    if (isActive || keptBytes === null || keptBytes < MUCH_KEPT_BYTES) return []
    const limit = safeWalBytes === null ? ', and no limit is set' : ''
    const detail = `keeps ${formatBytes(keptBytes)} of WAL and nobody reads from it${limit}`
    return tell(detail, 'start its reader, or drop it if nobody needs it any more')
  })
}

/** An idle slot that keeps more than this fills pg_wal. */
const MUCH_KEPT_BYTES = 1024 ** 3

function ownFix(isOwn: boolean, drop: string): string {
  if (!isOwn) return `${drop}, and set up again what read from it`
  return 'take a backup: the receiver makes the slot anew, and what was lost stays a gap'
}
