/**
 * Proves ranges of archived WAL in a worker, with the readers of the archive: hashes and
 * headers by check-wal.ts, records by scan-wal.ts.
 */
import { checkWal } from '../../archive/check-wal.ts'
import { parseGap, parseGapKey } from '../../archive/gap-record.ts'
import { proveTailPart } from '../../archive/read-tail.ts'
import { decodeReservation } from '../../archive/reservations.ts'
import { scanWal } from '../../archive/scan-wal.ts'
import { parseTailKey } from '../../archive/tail-keys.ts'
import { decodeWalObject, isNamedAfter } from '../../archive/wal-object.ts'
import { decodeWriterRecord } from '../../archive/writer-record.ts'
import { toFailureMessage } from '../../base/failure.ts'
import { segmentStart } from '../../postgres/lsn.ts'
import { damagedObject, missingObject } from '../../repository/envelope.ts'
import type { Storage } from '../../storage/storage.ts'
import { formatTime } from '../parse-target.ts'
import type {
  CheckAnswer,
  CheckTask,
  ObjectAnswer,
  ObjectTask,
  ScanAnswer,
  ScanTask,
} from './messages.ts'
import { isDamage } from './prove-pack.ts'

export async function checkRange(
  storage: Storage,
  cluster: string,
  { kind: _, ...range }: CheckTask,
): Promise<CheckAnswer> {
  const { problems } = await checkWal({ storage, cluster, ...range, level: 'full' })
  return {
    problems: problems.map(({ name, failure }) => ({ name, failure: toFailureMessage(failure) })),
  }
}

export async function scanRange(
  storage: Storage,
  cluster: string,
  { start, last, path, systemIdentifier, walSegmentSizeBytes }: ScanTask,
): Promise<ScanAnswer> {
  const limit = segmentStart(last + 1n, walSegmentSizeBytes)
  const segments: string[] = []
  let latest: bigint | undefined
  const end = await scanWal({
    storages: [storage],
    cluster,
    systemIdentifier,
    walSegmentSizeBytes,
    path,
    start,
    visit(record, event) {
      if (record.lsn >= limit) return true
      if (event !== undefined && 'time' in event) {
        if (latest === undefined || event.time > latest) latest = event.time
      }
      return false
    },
    onSegment: (name) => {
      segments.push(name)
    },
  })
  const { fault } = end
  const told =
    fault === undefined
      ? undefined
      : {
          first: fault.firstSegment,
          last: fault.lastSegment,
          failure: toFailureMessage(fault.failure),
        }
  const lastTime = latest === undefined ? undefined : formatTime(latest)
  return { segments, fault: told, lastTime }
}

/** Gone since the listing is no loss: its segment is whole now, or was let go. */
async function proveTail(
  storage: Storage,
  key: string,
  systemIdentifier: string,
): Promise<ObjectAnswer> {
  const failure = await proveTailPart(storage, key, systemIdentifier)
  return { failure: failure === undefined ? undefined : toFailureMessage(failure) }
}

/** Of a writer or a reservation, which may have gone since it was listed. */
function proveNumbered(
  key: string,
  bytes: Uint8Array | undefined,
  named: RegExpExecArray,
): ObjectAnswer {
  if (bytes === undefined) return { failure: undefined }
  const timeline = Number.parseInt(named[2] as string, 16)
  const decode = named[1] === 'writers' ? decodeWriterRecord : decodeReservation
  decode(key, timeline, bytes)
  return { failure: undefined }
}

/** History, label, partial, quarantine, tail: the key tells what the bytes must be. */
export async function proveWalObject(
  storage: Storage,
  { key, systemIdentifier }: ObjectTask,
): Promise<ObjectAnswer> {
  try {
    const tail = parseTailKey(key)
    if (tail !== undefined) return await proveTail(storage, key, systemIdentifier)
    const bytes = await storage.read(key)
    const numbered = /\/(writers|reserved)\/([0-9A-F]{8})\.\w+$/.exec(key)
    if (numbered !== null) return proveNumbered(key, bytes, numbered)
    if (bytes === undefined) throw missingObject(key, 'the listing')
    if (parseGapKey(key) !== undefined) {
      parseGap(key, bytes)
      return { failure: undefined }
    }
    const hash16 = /-([0-9a-f]{16})(\.damaged)?$/.exec(key)
    const file = (key.split('/').at(-1) as string).replace(/-[0-9a-f]{16}(\.damaged)?$/, '')
    const isKeptDamage = hash16?.[2] !== undefined
    const content = isKeptDamage
      ? bytes
      : decodeWalObject(key, bytes, { systemIdentifier, name: file }).content
    if (hash16 !== null && !isNamedAfter(content, hash16[1] as string)) {
      throw damagedObject(key, 'its content is not what its name says')
    }
    return { failure: undefined }
  } catch (error) {
    if (!isDamage(error)) throw error
    return { failure: toFailureMessage(error) }
  }
}
