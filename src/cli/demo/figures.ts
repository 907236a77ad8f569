/** The figures that a person wants at the end, and the fields of `demo --json`. Pure. */
import { formatBytes, formatDuration } from '../format-units.ts'
import type { Claim } from './proof.ts'

export interface BackupFigures {
  readonly id: string
  readonly sizeBytes: number
  readonly readBytes: number
  readonly storedBytes: number
  readonly durationMs: number
  readonly bytesPerSecond: number
}

export interface DemoFigures {
  readonly serverVersion: string
  readonly fullBackup: BackupFigures
  readonly incrementalBackup: BackupFigures
  readonly target: string
  /** Age of the newest archived WAL at the moment of the accident. */
  readonly exposureMs: number
  /** The server's archive_timeout, which bounds it. */
  readonly exposureLimitSeconds: number
  /** From the decision to recover to a server that answers. */
  readonly recoveryMs: number
  readonly transfersRecovered: number
  readonly claims: Readonly<Record<string, boolean>>
  readonly totalMs: number
  /** With --keep. */
  readonly keptDirectory?: string
}

/** Reads `tidemark list --json`: the fields that are promised to stay. */
export function parseBackups(document: unknown): BackupFigures[] {
  const { backups } = document as { backups: Record<string, unknown>[] }
  return backups.map((backup) => {
    const sizeBytes = Number(backup['sizeBytes'])
    const durationMs = Number(backup['durationMs'])
    return {
      id: String(backup['id']),
      sizeBytes,
      readBytes: Number(backup['readBytes']),
      storedBytes: Number(backup['storedBytes']),
      durationMs,
      bytesPerSecond: Math.round((sizeBytes / Math.max(1, durationMs)) * 1000),
    }
  })
}

export function claimsByName(claims: readonly Claim[]): Record<string, boolean> {
  return Object.fromEntries(claims.map(({ name, holds }) => [name, holds]))
}

export function formatFigures(figures: DemoFigures): [string, string][] {
  const { fullBackup: full, incrementalBackup: incremental } = figures
  const rate = `${formatBytes(full.bytesPerSecond)}/s`
  const saved = ((incremental.storedBytes / Math.max(1, full.storedBytes)) * 100).toFixed(1)
  return [
    [
      'full backup',
      `${formatBytes(full.sizeBytes)} in ${formatDuration(full.durationMs)} (${rate}), ${formatBytes(full.storedBytes)} stored`,
    ],
    [
      'incremental backup',
      `${formatDuration(incremental.durationMs)}, ${formatBytes(incremental.storedBytes)} stored (${saved} % of the full one), complete in itself`,
    ],
    [
      'data at risk (RPO)',
      `${formatDuration(figures.exposureMs)} when the accident happened: age of the newest archived WAL (archive_timeout: ${figures.exposureLimitSeconds} s)`,
    ],
    [
      'time to recover (RTO)',
      `${formatDuration(figures.recoveryMs)}: from the decision to a server that answers`,
    ],
    ['the whole demo', formatDuration(figures.totalMs)],
  ]
}
