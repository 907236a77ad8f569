/**
 * Judges, before anything is read, whether the server's WAL will reach an archive of ours.
 * Pure.
 */
import { Failure } from '../base/failure.ts'

export interface ArchivingSettings {
  readonly archiveMode: string
  readonly archiveCommand: string
  readonly archiveLibrary: string
  readonly walLevel: string
}

/** TM1311 with the present value and the line to set; undefined when all is well. */
export function judgeArchiving(
  settings: ArchivingSettings,
  cluster: string,
  wantedCommand: string,
): Failure | undefined {
  const because = findObstacle(settings)
  if (because === undefined) return undefined
  const quoted = wantedCommand.replaceAll("'", "''")
  return new Failure('TM1311', {
    message: `the WAL of ${cluster} does not reach this repository`,
    because,
    fix: `set it up: tidemark init --configure, or by hand
       ALTER SYSTEM SET archive_mode = 'on';       (needs a restart)
       ALTER SYSTEM SET archive_command = '${quoted}';
       or take a backup that can only be restored to its own end: --no-archive-check`,
    details: { ...settings },
  })
}

function findObstacle(settings: ArchivingSettings): string | undefined {
  const { archiveMode, archiveCommand, archiveLibrary, walLevel } = settings
  if (walLevel === 'minimal') return "wal_level is 'minimal': WAL has not what recovery needs"
  if (archiveMode === 'off') return "archive_mode is 'off'"
  if (archiveLibrary !== '') return `archive_library is '${archiveLibrary}', which is not ours`
  if (archiveCommand === '' || archiveCommand === '(disabled)') return 'archive_command is empty'
  if (!/tidemark/.test(archiveCommand) || !/\bwal push\b/.test(archiveCommand)) {
    return `archive_command is '${archiveCommand}', which does not call tidemark wal push`
  }
  return undefined
}
