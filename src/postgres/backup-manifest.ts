/**
 * Writes PostgreSQL's backup_manifest, so that pg_verifybackup can judge a directory.
 * PostgreSQL: backup/backup_manifest.c, common/parse_manifest.c; the manual, "Backup
 * Manifest Format". Version 1 up to 16; version 2 (17) adds the system identifier.
 *
 * Invariant: the text is handed on piece by piece; a million files never stand in one
 * string. The manifest is whole only after finish(), which writes its own SHA-256.
 */
import { createHash } from 'node:crypto'
import { formatLsn, type Lsn, type Timeline } from './lsn.ts'

export interface ManifestOptions {
  readonly version: 1 | 2
  /** Written from version 2 on. */
  readonly systemIdentifier: bigint
}

export interface ManifestFile {
  /** Relative to the data directory, with `/`; bytes where it is not UTF-8. */
  readonly path: string | Uint8Array
  readonly sizeBytes: number
  readonly modifiedAt: Date
  /** None: PostgreSQL then checks name and size only. */
  readonly checksum?: ManifestChecksum
}

export type ManifestChecksum =
  | { readonly algorithm: 'CRC32C'; readonly value: number }
  | { readonly algorithm: 'SHA256'; readonly value: Uint8Array }

/** WAL that the backup needs, per timeline. */
export interface ManifestWalRange {
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly endLsn: Lsn
}

export interface ManifestWriter {
  /** In any order; each path once. */
  addFile(file: ManifestFile): void
  finish(walRanges: readonly ManifestWalRange[]): void
}

const FLUSH_CHARACTERS = 64 * 1024

/** `write` takes the bytes before it returns, and is called about once per 64 KiB. */
export function createManifestWriter(
  options: ManifestOptions,
  write: (bytes: Uint8Array) => void,
): ManifestWriter {
  const hash = createHash('sha256')
  let pending = formatHead(options)
  let separator = ''
  const flush = () => {
    const bytes = Buffer.from(pending)
    hash.update(bytes)
    write(bytes)
    pending = ''
  }
  return {
    addFile(file) {
      pending += separator + formatFile(file)
      separator = ',\n'
      if (pending.length >= FLUSH_CHARACTERS) flush()
    },
    finish(walRanges) {
      const ranges = walRanges.map(formatRange).join(',\n')
      pending += `\n],\n"WAL-Ranges": [\n${ranges}\n],\n`
      flush()
      // The checksum covers everything before its own line.
      write(Buffer.from(`"Manifest-Checksum": "${hash.digest('hex')}"}\n`))
    },
  }
}

function formatHead({ version, systemIdentifier }: ManifestOptions): string {
  const identifier = version === 1 ? '' : `"System-Identifier": ${systemIdentifier},\n`
  return `{ "PostgreSQL-Backup-Manifest-Version": ${version},\n${identifier}"Files": [\n`
}

function formatFile({ path, sizeBytes, modifiedAt, checksum }: ManifestFile): string {
  const modified = formatTime(modifiedAt)
  const facts = `"Size": ${sizeBytes}, "Last-Modified": "${modified}"${formatChecksum(checksum)}`
  return `{ ${formatPath(path)}, ${facts} }`
}

function formatPath(path: string | Uint8Array): string {
  if (typeof path === 'string') return `"Path": ${JSON.stringify(path)}`
  return `"Encoded-Path": "${Buffer.from(path).toString('hex')}"`
}

/** `2026-11-20 14:05:00 GMT`. */
function formatTime(time: Date): string {
  return `${time.toISOString().slice(0, 19).replace('T', ' ')} GMT`
}

function formatChecksum(checksum: ManifestChecksum | undefined): string {
  if (checksum === undefined) return ''
  const bytes = Buffer.alloc(4)
  // PostgreSQL prints the bytes of the number as they lie in memory (pg_checksum_final).
  if (checksum.algorithm === 'CRC32C') bytes.writeUInt32LE(checksum.value)
  const hex = (checksum.algorithm === 'CRC32C' ? bytes : Buffer.from(checksum.value)).toString(
    'hex',
  )
  return `, "Checksum-Algorithm": "${checksum.algorithm}", "Checksum": "${hex}"`
}

function formatRange({ timeline, startLsn, endLsn }: ManifestWalRange): string {
  const range = `"Start-LSN": "${formatLsn(startLsn)}", "End-LSN": "${formatLsn(endLsn)}"`
  return `{ "Timeline": ${timeline}, ${range} }`
}
