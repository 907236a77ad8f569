/**
 * Which server settings archiving needs, and which statements lead there. The plan is
 * pure; executeSettings() does what the plan prints, and nothing else.
 */
import { sleep } from '../base/clock.ts'
import { isFailure } from '../base/failure.ts'
import type { ServerSession } from '../postgres/server-session.ts'
import { isOurArchiveCommand } from './archive-command.ts'

/** A row of pg_settings, as far as it matters here. */
export interface ServerSetting {
  readonly name: string
  readonly value: string
  /** What the configuration files say, which counts after the next restart or reload. */
  readonly configured: string | undefined
  /** `postmaster`: takes effect at a restart only. */
  readonly context: string
  /** `command line` cannot be overridden by ALTER SYSTEM. */
  readonly source: string
  readonly pendingRestart: boolean
}

export interface PlannedSetting {
  readonly name: string
  readonly present: string
  readonly wanted: string
  readonly needsRestart: boolean
  readonly statement: string
  /** Why it is not changed without a person: it would end somebody else's archiving. */
  readonly obstacle: string | undefined
}

/** An idle server hands over its last transactions after this time at most. */
const SUGGESTED_ARCHIVE_TIMEOUT = '60'

const NAMES = ['wal_level', 'archive_mode', 'archive_library', 'archive_command', 'archive_timeout']

export async function readArchivingSettings(session: ServerSession): Promise<ServerSetting[]> {
  const rows = await session.query(
    `SELECT name, setting, context, source, pending_restart FROM pg_settings
      WHERE name = ANY ($1) ORDER BY name`,
    [NAMES],
  )
  const configured = await readConfigured(session)
  return rows.map((row) => ({
    name: String(row['name']),
    value: String(row['setting']),
    configured: configured.get(String(row['name'])),
    context: String(row['context']),
    source: String(row['source']),
    pendingRestart: row['pending_restart'] === true,
  }))
}

/** The last entry of a name wins (pg_file_settings.seqno). Superusers only. */
async function readConfigured(session: ServerSession): Promise<Map<string, string>> {
  try {
    const rows = await session.query(
      'SELECT name, setting FROM pg_file_settings WHERE name = ANY ($1) ORDER BY seqno',
      [NAMES],
    )
    return new Map(rows.map((row) => [String(row['name']), String(row['setting'])]))
  } catch (error) {
    if (isFailure(error, 'TM1105')) return new Map()
    throw error
  }
}

/** What holds after the next restart or reload. */
function nextValue(setting: ServerSetting | undefined): string | undefined {
  if (setting === undefined || setting.source === 'command line') return setting?.value
  return setting.configured ?? setting.value
}

/** Names of settings that wait for a restart. */
export function listPendingRestarts(settings: readonly ServerSetting[]): string[] {
  return settings.filter(({ pendingRestart }) => pendingRestart).map(({ name }) => name)
}

/** What is to be changed, in the order of execution; nothing when all is well. */
export function planArchiving(
  settings: readonly ServerSetting[],
  archiveCommand: string,
): PlannedSetting[] {
  const find = (name: string): ServerSetting | undefined =>
    settings.find((setting) => setting.name === name)
  const plan: PlannedSetting[] = []
  const change = (name: string, wanted: string, obstacle?: string): void => {
    const setting = find(name)
    if (setting === undefined || nextValue(setting) === wanted) return
    plan.push({
      name,
      present: setting.value,
      wanted,
      needsRestart: setting.context === 'postmaster',
      statement: formatAlterSystem(name, wanted),
      obstacle: obstacle ?? obstacleOfSource(setting),
    })
  }
  const next = (name: string): string => nextValue(find(name)) ?? ''
  if (next('wal_level') === 'minimal') change('wal_level', 'replica')
  if (next('archive_mode') === 'off') change('archive_mode', 'on')
  if (next('archive_library') !== '') change('archive_library', '', OTHER_LIBRARY)
  change('archive_command', archiveCommand, obstacleOfCommand(next('archive_command')))
  if (/^0[a-z]*$/.test(next('archive_timeout')))
    change('archive_timeout', SUGGESTED_ARCHIVE_TIMEOUT)
  return plan
}

const OTHER_LIBRARY = 'a library archives WAL already; setting it to nothing would end that'

function obstacleOfSource(setting: ServerSetting): string | undefined {
  if (setting.source !== 'command line') return undefined
  return "it is set on the server's command line, which ALTER SYSTEM cannot override"
}

function obstacleOfCommand(command: string): string | undefined {
  if (doesNothing(command) || isOurArchiveCommand(command)) return undefined
  return `another command archives WAL already, and replacing it would end that: ${command}`
}

/** Commands that people set to keep archive_mode on without archiving. */
export function doesNothing(command: string): boolean {
  return /^\s*(\(disabled\)|(\/usr)?(\/bin\/)?(true|false)|:|exit\s+\d+|cd\s+\.)?\s*;?\s*$/.test(
    command,
  )
}

function formatAlterSystem(name: string, value: string): string {
  return `ALTER SYSTEM SET ${name} = '${value.replaceAll("'", "''")}'`
}

export interface AppliedSettings {
  readonly applied: readonly PlannedSetting[]
  /** Names that take effect at the next restart. */
  readonly restartNeeded: readonly string[]
  /** Names that do not have the wanted value although it was set: something overrides it. */
  readonly overridden: readonly string[]
}

const POLL_MS = 50
const POLLS = 60

/** ALTER SYSTEM for what has no obstacle, then a reload; waits until it is seen. */
export async function executeSettings(
  session: ServerSession,
  plan: readonly PlannedSetting[],
): Promise<AppliedSettings> {
  const applied = plan.filter((setting) => setting.obstacle === undefined)
  for (const setting of applied) await session.query(setting.statement)
  if (applied.length > 0) await session.query('SELECT pg_reload_conf()')
  let open: readonly PlannedSetting[] = applied
  const restartNeeded = new Set<string>()
  for (let poll = 0; poll < POLLS && open.length > 0; poll++) {
    await sleep(POLL_MS)
    const settings = await readArchivingSettings(session)
    for (const { name, pendingRestart } of settings) if (pendingRestart) restartNeeded.add(name)
    open = open.filter((planned) => !isSettled(planned, settings))
  }
  return {
    applied,
    restartNeeded: [...restartNeeded],
    overridden: open.map(({ name }) => name),
  }
}

/** While archive_mode is off, archive_command is not shown, so its value proves nothing. */
function isSettled(planned: PlannedSetting, settings: readonly ServerSetting[]): boolean {
  const found = settings.find(({ name }) => name === planned.name)
  if (found === undefined || found.pendingRestart || found.value === planned.wanted) return true
  return planned.name === 'archive_command' && found.value === '(disabled)'
}
