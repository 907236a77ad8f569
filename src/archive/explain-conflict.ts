/**
 * Says of a conflict who the two servers are, and how to choose (docs/design/lineage.md, 5 and 6).
 */
import { Failure, isFailure } from '../base/failure.ts'
import type { Storage } from '../storage/storage.ts'
import { KEPT } from './claim-timeline.ts'
import type { WalFileName } from './wal-file-name.ts'
import { describeWriter, isSameServer, type LocalWriter } from './writer-identity.ts'
import { findWriterRecord } from './writer-record.ts'

export interface ConflictingFile {
  readonly systemIdentifier: string
  readonly file: WalFileName
  readonly writer: LocalWriter | undefined
}

/** What to throw in place of `error`: TM1402 with names, anything else as it is. */
export async function explainConflict(
  storage: Storage,
  { cluster }: { readonly cluster: string },
  { systemIdentifier, file, writer }: ConflictingFile,
  error: unknown,
): Promise<unknown> {
  if (!isFailure(error, 'TM1402') || writer === undefined) return error
  const place = { cluster, systemIdentifier }
  const record = await findWriterRecord(storage, place, file.timeline)
  const other = typeof record === 'object' ? record : undefined
  const isOwn = other !== undefined && isSameServer(other.writer, writer)
  const there =
    other === undefined
      ? ''
      : isOwn
        ? `; it is from this very server (${describeWriter(writer)}), set back, or a clone of it`
        : `; the archive has it from ${describeWriter(other.writer)} (since ${other.since}), ` +
          `this server is ${describeWriter(writer)}`
  return new Failure('TM1402', {
    message: error.message,
    because: `${error.because ?? ''}${there}`,
    fix:
      'switch archiving off on the server that is not to go on (archive_mode = off); if this one ' +
      `is: tidemark wal adopt ${cluster} --timeline ${file.timeline} --from ` +
      `${writer.dataDirectory}. ${KEPT}`,
    ...(error.details === undefined ? {} : { details: error.details }),
    cause: error.cause,
  })
}
