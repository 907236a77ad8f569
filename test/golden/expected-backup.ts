/** What a backup of the frozen repository holds, as it stands in its `expected.json`. */
import { createHash } from 'node:crypto'

export interface ExpectedBackup {
  readonly id: string
  readonly stoppedAt: string
  readonly walFirst: string
  readonly walLast: string
  readonly backupLabel: string
  /** By path: describeEntry(). */
  readonly entries: Readonly<Record<string, string>>
}

export interface ExpectedRepository {
  readonly backups: readonly ExpectedBackup[]
  /** SHA-256 by the name of an archived segment or history. */
  readonly wal: Readonly<Record<string, string>>
}

/** Kind, mode in octal, then size and SHA-256 of a file or the target of a link. */
export function describeEntry(
  entry: { readonly kind: string; readonly mode: number; readonly target?: string },
  bytes?: Uint8Array,
): string {
  const words = [entry.kind, entry.mode.toString(8)]
  if (entry.target !== undefined) words.push(entry.target)
  if (bytes !== undefined) {
    words.push(String(bytes.length), createHash('sha256').update(bytes).digest('hex'))
  }
  return words.join(' ')
}
