/** `restore`: recovers a cluster to a target into a directory. */
import { resolve } from 'node:path'
import { Failure } from '../../base/failure.ts'
import {
  type ClusterConfiguration,
  chooseCluster,
  chooseRepository,
  nearestFirst,
} from '../../config/configuration.ts'
import type { RecoveryAction } from '../../recovery/format-recovery-settings.ts'
import { findPostgresPrograms } from '../../recovery/find-postgres.ts'
import { holdInSources } from '../../recovery/hold-restore.ts'
import { describePassedOver } from '../../recovery/open-sources.ts'
import { formatTarget, parseTarget } from '../../recovery/parse-target.ts'
import type { RestorePlan } from '../../recovery/plan-restore.ts'
import { parseTablespaceMapping } from '../../recovery/plan-tablespaces.ts'
import {
  executeRestore,
  type PreparedRestore,
  prepareRestore,
  type RestoreOptions,
  type RestoreResult,
} from '../../recovery/restore.ts'
import { type StartedRecovery, startRecovery } from '../../recovery/start-recovery.ts'
import { TIDEMARK_PROGRAM, quoteWord } from '../archive-command.ts'
import type { CommandContext } from '../command-context.ts'
import { formatBytes, formatCount, formatDuration } from '../format-units.ts'
import { unlockSources } from '../unlock-sources.ts'
import { parseWorkers } from './backup.ts'

export interface RestoreCommandOptions {
  readonly into?: string
  readonly to?: string
  readonly action?: string
  readonly tablespace?: readonly string[]
  readonly plan?: boolean
  readonly takeOver?: boolean
  readonly timeline?: string
  readonly backup?: string
  readonly port?: string
  readonly start?: boolean
  readonly pgBin?: string
  readonly owner?: string
  readonly preload?: string
  readonly repository?: string
  readonly workers?: string
}

export async function runRestore(
  context: CommandContext,
  clusterName: string | undefined,
  options: RestoreCommandOptions,
): Promise<number> {
  const request = await readOptions(context, clusterName, options)
  const prepared = await prepareRestore(request, context.progress, context.signal)
  context.progress.end()
  if (options.plan === true) {
    printPlan(context, prepared.plan, request)
    return 0
  }
  if (!context.json) announce(context, prepared.plan, request)
  const { restored, started } = await runHeld(context, prepared, options)
  context.progress.end()
  if (context.json) context.terminal.printJson(resultJson(restored, request, started))
  else {
    const { directory } = await findPostgresPrograms(prepared.record.server.major, options.pgBin)
    const pgCtl = directory === undefined ? 'pg_ctl' : `${directory}/pg_ctl`
    printResult(context, restored, request, started, pgCtl)
  }
  return 0
}

/** The server that is started fetches WAL too, so that the hold stays until it has recovered. */
async function runHeld(
  { progress, signal, terminal }: CommandContext,
  prepared: PreparedRestore,
  { start, pgBin }: RestoreCommandOptions,
) {
  const hold = await holdInSources(prepared.sources.specification, prepared.record)
  try {
    for (const note of hold.notes) terminal.remark(`note: ${note}`)
    const restored = await executeRestore(prepared, progress, signal)
    const started =
      start === true ? await startRecovery(prepared, pgBin, progress, signal) : undefined
    return { restored, started }
  } finally {
    await hold.release()
  }
}

const ACTIONS: readonly RecoveryAction[] = ['promote', 'pause', 'shutdown']

async function readOptions(
  context: CommandContext,
  clusterName: string | undefined,
  options: RestoreCommandOptions,
): Promise<RestoreOptions> {
  const configuration = context.configuration()
  const cluster = chooseCluster(configuration, clusterName)
  const repositories =
    options.repository === undefined
      ? nearestFirst(cluster.repositories)
      : [chooseRepository(cluster, options.repository)]
  if (options.into === undefined) {
    throw wrong('--into is missing', 'the directory to restore into: --into /new/data/directory')
  }
  return {
    ...(await unlockSources(repositories, context.env)),
    cluster: cluster.name,
    into: resolve(options.into),
    target: parseTarget(options.to ?? 'latest'),
    action: parseAction(options.action ?? 'promote'),
    tablespaces: (options.tablespace ?? []).map(parseTablespaceMapping),
    takeOver: options.takeOver === true,
    timeline: parseNumber('--timeline', options.timeline, 0xffffffff),
    backup: options.backup,
    port: parseNumber('--port', options.port, 65535) ?? 5432,
    owner: options.owner,
    uid: process.getuid?.() ?? 0,
    workers: parseWorkers(options.workers, 1),
    preload: options.preload ?? '',
    walGet: (urls) => formatWalGet(configuration.path, cluster, urls),
  }
}

/** It names repositories only where it is not to ask all of the cluster. */
function formatWalGet(
  path: string,
  { name, repositories }: ClusterConfiguration,
  urls: readonly string[],
): string {
  const words = [TIDEMARK_PROGRAM, '--config', path, 'wal', 'get', '--cluster', name]
  const names = repositories.filter(({ url }) => urls.includes(url)).map((one) => one.name)
  if (names.length < repositories.length) words.push('--repository', names.join(','))
  return words.map(quoteWord).join(' ')
}

function parseAction(text: string): RecoveryAction {
  const action = ACTIONS.find((one) => one === text)
  if (action !== undefined) return action
  throw wrong(`--action cannot be '${text}'`, `it is one of ${ACTIONS.join(', ')}`)
}

function parseNumber(option: string, text: string | undefined, most: number): number | undefined {
  if (text === undefined) return undefined
  const value = /^\d{1,10}$/.test(text) ? Number(text) : 0
  if (value >= 1 && value <= most) return value
  throw wrong(`${option} cannot be '${text}'`, `it is a number from 1 to ${most}`)
}

function wrong(message: string, fix: string): Failure {
  return new Failure('TM1001', { message, fix })
}

function describeStop({ stop }: RestorePlan): string {
  if (stop.kind === 'immediate') return `the end of the backup, ${stop.lsn}`
  return stop.inclusive ? `just after the record at ${stop.lsn}` : `just before ${stop.lsn}`
}

function planJson(plan: RestorePlan, request: RestoreOptions) {
  const { estimatedMs, ...rest } = plan
  return {
    ...rest,
    target: formatTarget(request.target),
    action: request.action,
    estimatedSeconds: Math.round(estimatedMs / 100) / 10,
  }
}

function resultJson(
  restored: RestoreResult,
  request: RestoreOptions,
  started: StartedRecovery | undefined,
) {
  return {
    ...planJson(restored.plan, request),
    restoreId: restored.restoreId,
    socketDirectory: restored.socketDirectory,
    port: restored.port,
    passedOver: restored.passedOver,
    reservedTimeline: restored.reservedTimeline ?? null,
    started,
  }
}

function announce(context: CommandContext, plan: RestorePlan, request: RestoreOptions): void {
  for (const note of plan.notes) context.terminal.remark(`note: ${note}`)
  context.terminal.remark(
    `restoring ${plan.cluster} to ${formatTarget(request.target)}: backup ${plan.backup}, ` +
      `${formatCount(plan.walSegments, 'WAL segment')} checked, up to ${describeStop(plan)}`,
  )
}

function printPlan(context: CommandContext, plan: RestorePlan, request: RestoreOptions): void {
  if (context.json) {
    context.terminal.printJson({ plan: planJson(plan, request) })
    return
  }
  const { terminal } = context
  for (const note of plan.notes) terminal.remark(`note: ${note}`)
  terminal.print(`restore of ${plan.cluster} to ${formatTarget(request.target)}`)
  terminal.print(
    `  into        ${plan.directory}${plan.clearsUnfinished ? ' (cleared first)' : ''}`,
  )
  terminal.print(`  from        backup ${plan.backup}, ended ${plan.backupStoppedAt}`)
  terminal.print(`  files       ${formatCount(plan.files, 'file')}, ${formatBytes(plan.bytes)}`)
  terminal.print(`  packs       ${plan.packs}, all present`)
  terminal.print(
    `  WAL         ${formatCount(plan.walSegments, 'segment')}, all present and whole` +
      (plan.firstWalSegment === undefined
        ? ''
        : ` (${plan.firstWalSegment} to ${plan.lastWalSegment})`),
  )
  terminal.print(`  stops       ${describeStop(plan)} on timeline ${plan.timeline}`)
  if (plan.lastTransactionAt !== undefined) {
    terminal.print(`  last        transaction replayed: ${plan.lastTransactionAt}`)
  }
  for (const { name, original, location } of plan.tablespaces) {
    const moved = original === location ? 'at its own place' : `instead of ${original}`
    terminal.print(`  tablespace  ${name}: ${location} (${moved})`)
  }
  terminal.print(`  then        ${request.action}; ${plan.takeOver ? 'takes over' : 'a copy'}`)
  terminal.print(`  takes about ${formatDuration(plan.estimatedMs)}`)
  terminal.print('nothing was written')
}

function printResult(
  context: CommandContext,
  restored: RestoreResult,
  request: RestoreOptions,
  started: StartedRecovery | undefined,
  pgCtl: string,
): void {
  const { terminal } = context
  const { plan } = restored
  terminal.print(
    `restored ${terminal.colours.bold(plan.cluster)} into ${plan.directory}: ` +
      `${formatBytes(restored.bytes)} in ${formatCount(plan.files, 'file')}`,
  )
  terminal.print(`  recovery goes to ${describeStop(plan)} on timeline ${plan.timeline}`)
  for (const event of restored.passedOver) {
    terminal.print(terminal.colours.yellow(`  warning: ${describePassedOver(event)}`))
  }
  if (started === undefined) {
    terminal.print(`  start it: ${quoteWord(pgCtl)} start -D ${quoteWord(plan.directory)}`)
  } else {
    terminal.print(`  ${started.summary}`)
  }
  if (restored.socketDirectory !== undefined) {
    terminal.print(
      `  it is a copy: it does not archive, and listens only at ` +
        `psql -h ${quoteWord(restored.socketDirectory)} -p ${restored.port}`,
    )
  } else {
    const { reservedTimeline } = restored
    const number =
      reservedTimeline === undefined ? '' : `; timeline ${reservedTimeline} is reserved for it`
    terminal.print(
      `  it takes over: configuration and archiving are those of the original${number}`,
    )
  }
  if (plan.takeOver && plan.configuration.length > 0) {
    terminal.print('  its configuration lay outside the data directory; to put it back in place:')
    for (const { original, restored: place } of plan.configuration) {
      terminal.print(`    cp ${quoteWord(`${plan.directory}/${place}`)} ${quoteWord(original)}`)
    }
  }
  for (const line of started?.advice ?? []) terminal.print(`  ${line}`)
  if (request.action === 'pause' && started !== undefined) {
    terminal.print('  paused at the target: SELECT pg_wal_replay_resume() promotes it')
  }
}
