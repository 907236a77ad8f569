/** Whether a tail may go because its segment is whole in the archive. Pure. */
import { findRecordEnd } from './find-record-end.ts'
import { firstDifference, type ReadTail } from './read-tail.ts'
import type { TailPlace } from './tail-keys.ts'

/** Undefined: it says nothing that the segment does not say. Else why it has to stay. */
export function judgeSuperseded(
  place: TailPlace,
  tail: ReadTail,
  segment: Uint8Array,
): string | undefined {
  const differsAt = firstDifference(tail.bytes, segment)
  const isPrefix =
    differsAt === tail.bytes.length || differsAt >= findRecordEnd(place, tail.segment, tail.bytes)
  if (!isPrefix) return 'it differs from the archived segment within its valid records'
  if (tail.ending !== 'damaged') return undefined
  return tail.failure?.because ?? 'it is damaged'
}
