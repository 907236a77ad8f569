/** `list`: backups and dumps of a cluster. Damaged records are listed as such, never hidden. */
import type { BackupRecord } from '../../repository/backup-record.ts'
import { parseDumpKey } from '../../repository/keys.ts'
import { applyDumpMarks, applyMarks, readDumpMarks, readMarks } from '../../repository/marks.ts'
import { type BackupList, listBackups } from '../../repository/read-backups.ts'
import { listDumps } from '../../repository/read-dumps.ts'
import { type CommandContext, openCluster } from '../command-context.ts'
import { backupJson } from '../describe-backup.ts'
import { dumpJson } from '../describe-dump.ts'
import { type Column, formatTable } from '../format-table.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from '../format-units.ts'
import type { Colours } from '../terminal.ts'
import { formatDumpList } from './list/format-dumps.ts'

export async function runList(
  context: CommandContext,
  clusterName: string | undefined,
  options: { repository?: string },
): Promise<number> {
  const { cluster, repository, storage } = await openCluster(
    context,
    clusterName,
    options.repository,
  )
  const listed = await listBackups(storage, cluster.name)
  const marks = await readMarks(storage, cluster.name)
  const backups = listed.backups.map((backup) => applyMarks(backup, marks))
  const list = { ...listed, backups }
  const found = await listDumps(storage, cluster.name)
  const dumpMarks = await readDumpMarks(storage, cluster.name)
  const dumps = found.dumps.map((record) => applyDumpMarks(record, dumpMarks))
  const { terminal } = context
  if (context.json) {
    terminal.printJson({
      cluster: cluster.name,
      repository: repository.name,
      backups: list.backups.map(backupJson),
      damaged: list.damaged.map(({ backupId, failure }) => ({
        id: backupId,
        code: failure.code,
        because: failure.because ?? failure.message,
      })),
      dumps: dumps.map(dumpJson),
      unreadableDumps: found.unreadable.map(({ key, failure }) => ({
        id: parseDumpKey(key) ?? null,
        code: failure.code,
        because: failure.because ?? failure.message,
      })),
    })
  } else {
    for (const line of formatBackupList(list, terminal.colours)) terminal.print(line)
    const unreadable = found.unreadable
    for (const line of formatDumpList({ dumps, unreadable }, terminal.colours)) terminal.print(line)
  }
  return 0
}

const COLUMNS: readonly Column[] = [
  { title: 'BACKUP' },
  { title: 'ENDED (UTC)' },
  { title: 'TOOK', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'STORED', align: 'right' },
  { title: 'TL', align: 'right' },
  { title: 'STOP LSN' },
  { title: 'NOTES' },
]

function formatBackupList(list: BackupList, colours: Colours): string[] {
  const { backups, damaged } = list
  const broken = damaged.flatMap(({ backupId, failure }) => [
    `${colours.red('damaged')}  ${backupId}: ${failure.message}`,
    `         ${failure.because ?? ''}`.trimEnd(),
  ])
  if (backups.length === 0 && damaged.length === 0) {
    return ['no backups yet; take one with: tidemark backup']
  }
  const rows = backups.map((backup) => [
    backup.id,
    formatTime(backup.stoppedAt),
    formatDuration(backup.statistics.durationMs),
    formatBytes(backup.files.bytes),
    formatBytes(backup.statistics.bytesStored),
    String(backup.timeline),
    backup.stopLsn,
    notes(backup, colours),
  ])
  const table = backups.length === 0 ? [] : formatTable(COLUMNS, rows)
  const [head, ...body] = table
  const servers = new Set(backups.map((backup) => backup.systemIdentifier))
  const several = servers.size < 2 ? [] : ['', `of ${formatCount(servers.size, 'server')}`]
  return [...(head === undefined ? [] : [colours.dim(head)]), ...body, ...several, ...broken]
}

function notes(backup: BackupRecord, colours: Colours): string {
  const labels = Object.entries(backup.labels).map(([key, value]) => `${key}=${value}`)
  const parts = [...(backup.pinned ? ['pinned'] : []), ...labels]
  if (backup.damage.length > 0) {
    const pages = backup.damage.reduce((sum, { blocks }) => sum + blocks.length, 0)
    parts.unshift(colours.red(`${formatCount(pages, 'damaged page')}`))
  }
  return parts.join(', ')
}
