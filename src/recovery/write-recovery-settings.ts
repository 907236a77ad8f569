/**
 * Writes what makes a directory of files a server that recovers: configuration,
 * backup_label, tablespace_map, recovery.signal, and the marker that forbids archiving.
 *
 * Invariant: backup_label is the one of pg_backup_stop to the byte; tablespace_map names
 * the places of this restore and never the original's.
 */
import { chown, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RESTORED_MARKER } from '../archive/restored-marker.ts'
import { describeSystemError, Failure } from '../base/failure.ts'
import { formatTablespaceMap } from '../postgres/backup-label.ts'
import { crc32c } from '../postgres/crc32c.ts'
import type { PostgresVersion } from '../postgres/versions.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import type { Owner } from './file-restore/messages.ts'
import {
  COPY_HBA,
  type CopySettings,
  formatCopyConfiguration,
  formatRecoverySettings,
  formatStandInConfiguration,
  type RecoverySettings,
  STAND_IN_HBA,
} from './format-recovery-settings.ts'
import type { RestoredMarker } from './marker-files.ts'
import type { PlacedTablespace } from './plan-tablespaces.ts'
import type { RestoredFile } from './restore-files.ts'

export interface SettingsOptions {
  readonly dataDirectory: string
  readonly owner: Owner | undefined
  readonly record: BackupRecord
  readonly version: PostgresVersion
  readonly tablespaces: readonly PlacedTablespace[]
  readonly recovery: RecoverySettings
  /** Of a copy; undefined with take-over. */
  readonly copy: CopySettings | undefined
  readonly port: number
  readonly marker: RestoredMarker
}

/** Names below the data directory that a copy gets anew; the original's get a suffix. */
export const REPLACED_IN_COPY: ReadonlySet<string> = new Set([
  'postgresql.conf',
  'postgresql.auto.conf',
  'pg_hba.conf',
  'pg_ident.conf',
])
export const ORIGINAL_SUFFIX = '.original'

/** The files that were written and belong into the manifest. */
export async function writeRecoverySettings(options: SettingsOptions): Promise<RestoredFile[]> {
  const { record, tablespaces, version, copy } = options
  const written: RestoredFile[] = []
  const put = async (path: string, content: string, listed = true): Promise<void> => {
    const bytes = Buffer.from(content)
    await write(options, path, bytes)
    if (listed) written.push({ path, size: bytes.length, crc32c: crc32c(bytes) })
  }
  if (copy !== undefined) {
    await put('postgresql.conf', formatCopyConfiguration(copy))
    await put('pg_hba.conf', COPY_HBA)
    await put('pg_ident.conf', '')
  } else {
    // Where it lay outside the data directory, such as Debian's in /etc/postgresql.
    const standIns = [
      ['postgresql.conf', formatStandInConfiguration(options.recovery, options.port)],
      ['pg_hba.conf', STAND_IN_HBA],
      ['pg_ident.conf', ''],
    ] as const
    for (const [name, content] of standIns) {
      if (!(await isThere(options, name))) await put(name, content)
    }
  }
  const recovery = formatRecoverySettings(options.recovery)
  const kept = copy === undefined ? await readIfThere(options, 'postgresql.auto.conf') : ''
  const heading = '# Recovery settings written by tidemark restore\n'
  // pg_verifybackup ignores this file and the signal files (pg_verifybackup.c).
  await put('postgresql.auto.conf', `${kept}${heading}${recovery}`, false)
  await put('backup_label', record.backupLabel)
  if (tablespaces.length > 0) {
    const map = tablespaces.map(({ oid, location }) => ({ oid, location }))
    await put('tablespace_map', formatTablespaceMap(map, version))
  }
  await put(RESTORED_MARKER, `${JSON.stringify(options.marker, null, 2)}\n`)
  await put('recovery.signal', '', false)
  return written
}

async function isThere(options: SettingsOptions, name: string): Promise<boolean> {
  try {
    await stat(join(options.dataDirectory, name))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw cannotWrite(join(options.dataDirectory, name), error)
  }
}

async function readIfThere(options: SettingsOptions, name: string): Promise<string> {
  try {
    const text = await readFile(join(options.dataDirectory, name), 'utf8')
    return text.endsWith('\n') || text === '' ? text : `${text}\n`
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw cannotWrite(join(options.dataDirectory, name), error)
  }
}

async function write(options: SettingsOptions, name: string, content: Buffer): Promise<void> {
  const path = join(options.dataDirectory, name)
  try {
    await writeFile(path, content, { mode: 0o600 })
    const { owner } = options
    if (owner !== undefined) await chown(path, owner.uid, owner.gid)
  } catch (error) {
    throw cannotWrite(path, error)
  }
}

function cannotWrite(path: string, error: unknown): Failure {
  return new Failure('TM1217', {
    message: `cannot write ${path}`,
    because: describeSystemError(error),
    fix: 'check who may write there and whether there is room, then run the restore again',
    details: { path },
    cause: error,
  })
}
