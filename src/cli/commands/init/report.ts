/** What `init` found and did, in words. */
import type { PlannedSetting } from '../../archiving-settings.ts'
import { formatPairs } from '../../format-table.ts'
import type { Terminal } from '../../terminal.ts'

export interface InitReport {
  readonly cluster: string
  readonly systemIdentifier: string
  readonly serverVersion: string
  readonly dataDirectory: string
  readonly walSegmentSizeBytes: number
  readonly dataChecksums: boolean
  readonly configuration: {
    readonly path: string
    readonly outcome: 'created' | 'changed' | 'unchanged'
  }
  readonly repository: {
    readonly name: string
    readonly url: string
    readonly outcome: 'created' | 'found'
    readonly encrypted: boolean
  }
  readonly archiveCommand: string
  /** Where WAL is streamed: the slot that keeps it for the receiver. */
  readonly slot: string | null
  readonly settings: readonly PlannedSetting[]
  /** Were the statements executed? */
  readonly configured: boolean
  readonly restartNeeded: readonly string[]
  readonly overridden: readonly string[]
  readonly warnings: readonly string[]
}

export function printReport(terminal: Terminal, report: InitReport): void {
  const { colours } = terminal
  const { configuration, repository } = report
  const pairs: [string, string][] = [
    ['cluster', `${colours.bold(report.cluster)}, system ${report.systemIdentifier}`],
    ['server', `PostgreSQL ${report.serverVersion}, ${report.dataDirectory}`],
    ['configuration', `${configuration.path} (${configuration.outcome})`],
    [
      'repository',
      `${repository.url} (${repository.outcome}${repository.encrypted ? ', encrypted' : ''})`,
    ],
  ]
  for (const line of formatPairs(pairs)) terminal.print(line)
  for (const warning of report.warnings) {
    terminal.print(`${colours.yellow('warning')}: ${warning}`)
  }
  if (repository.encrypted) {
    terminal.print('Keep its key elsewhere too: without it nobody can read the backups.')
  }
  terminal.print()
  printSettings(terminal, report)
  terminal.print()
  terminal.print(nextStep(report))
}

function printSettings(terminal: Terminal, report: InitReport): void {
  const { settings, configured, restartNeeded, overridden, slot } = report
  const doable = settings.filter(({ obstacle }) => obstacle === undefined)
  if (settings.length === 0 && slot !== null) {
    terminal.print(`The replication slot ${slot} keeps WAL for the receiver from now on.`)
  } else if (settings.length === 0) terminal.print('The settings for archiving are in place.')
  else if (configured && doable.length > 0) terminal.print('Set and reloaded:')
  else if (doable.length > 0) terminal.print('Run these statements as a superuser:')
  for (const setting of doable) terminal.print(`  ${statementLine(setting)}`)
  if (!configured && doable.length > 0) terminal.print('  SELECT pg_reload_conf();')
  for (const { name, statement, obstacle } of settings) {
    if (obstacle === undefined) continue
    terminal.print(terminal.colours.yellow(`Not set: ${name}, because ${obstacle}`))
    terminal.print(`  if it is to be replaced: ${statement};`)
  }
  for (const name of overridden) {
    terminal.print(terminal.colours.yellow(`${name} was set, but something else overrides it`))
  }
  if (restartNeeded.length > 0) {
    terminal.print(`A restart of the server is needed for: ${restartNeeded.join(', ')}`)
  }
}

function statementLine({ statement, needsRestart, present }: PlannedSetting): string {
  const effect = needsRestart ? 'takes effect at a restart' : 'takes effect at a reload'
  return `${statement};  -- ${effect}; now '${present}'`
}

function nextStep(report: InitReport): string {
  const { settings, configured, restartNeeded, cluster, slot } = report
  const isOpen = restartNeeded.length > 0 || (settings.length > 0 && !configured)
  const receiver = slot === null ? '' : `tidemark wal receive ${cluster}, `
  const first = `the first backup: tidemark backup ${cluster}`
  const steps = `${receiver}tidemark doctor ${cluster}, and ${first}`
  return `${isOpen ? 'Then' : 'Next'}: ${steps}`
}
