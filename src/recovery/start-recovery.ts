/**
 * Starts a restored server, waits until it has reached its target, and compares the LSN
 * where replay stopped with the judged one.
 *
 * Where it stopped is read from what PostgreSQL itself wrote: after a promotion the fork in
 * the history file of the new timeline, otherwise the control file. No connection is needed.
 */
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import type { Progress } from '../base/progress.ts'
import { parseControlFile, CONTROL_FILE_PATH } from '../postgres/control-file.ts'
import { parseHistoryFile, parseHistoryFileName } from '../postgres/history-file.ts'
import { formatLsn, type Lsn, lsn } from '../postgres/lsn.ts'
import { findPostgresPrograms } from './find-postgres.ts'
import { adviseInDoubt, type InDoubtTransaction, listInDoubt } from './list-in-doubt.ts'
import type { PreparedRestore } from './restore.ts'

export interface StartedRecovery {
  /** `running`: promoted; `paused`: in recovery at the target; `shut down`. */
  readonly state: 'running' | 'paused' | 'shut down'
  readonly reachedLsn: string
  readonly timeline: number
  readonly logFile: string
  readonly summary: string
  /** Undefined where the server could not be asked. */
  readonly inDoubt: readonly InDoubtTransaction[] | undefined
  /** What a person should know or type next. */
  readonly advice: readonly string[]
}

const POLL_MS = 100
const LOG_LINES = 12

/** Failures: TM1219, TM1220, TM1221. */
export async function startRecovery(
  prepared: PreparedRestore,
  pgBin: string | undefined,
  progress: Progress,
  signal?: AbortSignal,
): Promise<StartedRecovery> {
  const { directory } = prepared.destination
  const bin = await requirePostgres(prepared.record.server.major, pgBin)
  const logFile = join(directory, 'tidemark.recovery.log')
  progress.phase('recovering', prepared.found.segments.length, 'segments')
  const action = prepared.options.action
  await runPgCtl(prepared, join(bin, 'pg_ctl'), logFile)
  const reached = action === 'shutdown' ? await waitForEnd(prepared, logFile, signal) : undefined
  const outcome = reached ?? (await waitForTarget(prepared, logFile, signal))
  requireReached(prepared, outcome)
  // Before promotion PostgreSQL does not show them (pg_prepared_xact).
  const inDoubt = outcome.state === 'running' ? await listInDoubt(directory) : undefined
  return describe(prepared, outcome, logFile, inDoubt)
}

interface Outcome {
  readonly state: StartedRecovery['state']
  readonly reached: Lsn
  readonly timeline: number
}

async function requirePostgres(major: number, pgBin: string | undefined): Promise<string> {
  const { directory, candidates } = await findPostgresPrograms(major, pgBin)
  if (directory !== undefined) return directory
  throw new Failure('TM1219', {
    message: `the programs of PostgreSQL ${major} were not found`,
    because: `there is no pg_ctl and postgres in ${candidates.join(', ')}`,
    fix: 'name their directory: --pg-bin DIR; the restored directory is complete',
    details: { major, candidates },
  })
}

/** `pg_ctl start` without waiting: it returns as soon as the postmaster is launched. */
async function runPgCtl(prepared: PreparedRestore, pgCtl: string, logFile: string): Promise<void> {
  const { directory } = prepared.destination
  const args = ['start', '-W', '-s', '-D', directory, '-l', logFile]
  const { owner } = prepared
  const status = await new Promise<number | null>((resolve, reject) => {
    const child = spawn(pgCtl, args, {
      cwd: directory,
      stdio: 'ignore',
      detached: true,
      ...(owner === undefined ? {} : { uid: owner.uid, gid: owner.gid }),
    })
    child.on('error', reject)
    child.on('exit', resolve)
  })
  if (status !== 0) throw await failedRecovery(prepared, logFile, `pg_ctl ended with ${status}`)
}

async function isServerAlive(directory: string): Promise<boolean> {
  try {
    const pid = Number((await readFile(join(directory, 'postmaster.pid'), 'utf8')).split('\n')[0])
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Line 8 of postmaster.pid: `ready` once connections are accepted (miscadmin.h). */
async function postmasterStatus(directory: string): Promise<string | undefined> {
  try {
    const lines = (await readFile(join(directory, 'postmaster.pid'), 'utf8')).split('\n')
    return lines[7]?.trim()
  } catch {
    return undefined
  }
}

async function waitForTarget(
  prepared: PreparedRestore,
  logFile: string,
  signal: AbortSignal | undefined,
): Promise<Outcome> {
  const { directory } = prepared.destination
  for (let started = false; ; ) {
    const alive = await isServerAlive(directory)
    if (!alive && (started || (await endedInLog(logFile)))) {
      throw await failedRecovery(prepared, logFile, 'the server ended during recovery')
    }
    started ||= alive
    if (prepared.options.action === 'pause') {
      if (/pausing at the end of recovery/.test(await readLog(logFile))) {
        return { state: 'paused', ...(await stopInLog(prepared, logFile)) }
      }
    } else if ((await postmasterStatus(directory)) === 'ready') {
      const forked = await findFork(prepared)
      if (forked !== undefined) return { state: 'running', ...forked }
    }
    await sleep(POLL_MS, signal)
  }
}

async function waitForEnd(
  prepared: PreparedRestore,
  logFile: string,
  signal: AbortSignal | undefined,
): Promise<Outcome> {
  const { directory } = prepared.destination
  for (;;) {
    const alive = await isServerAlive(directory)
    if (!alive && (await endedInLog(logFile))) break
    await sleep(POLL_MS, signal)
  }
  const control = parseControlFile(await readFile(join(directory, CONTROL_FILE_PATH)))
  if (!/recovery stopping/.test(await readLog(logFile))) {
    throw await failedRecovery(prepared, logFile, 'the server ended before its target')
  }
  const { timeline } = control.checkpoint
  return { state: 'shut down', ...(await stopInLog(prepared, logFile)), timeline }
}

async function readLog(logFile: string): Promise<string> {
  return await readFile(logFile, 'utf8').catch(() => '')
}

async function endedInLog(logFile: string): Promise<boolean> {
  return /database system is shut down|FATAL|PANIC/.test(await readLog(logFile))
}

/** The fork that the promotion wrote: the end of the last record that was replayed. */
async function findFork(
  prepared: PreparedRestore,
): Promise<{ reached: Lsn; timeline: number } | undefined> {
  const directory = join(prepared.destination.directory, 'pg_wal')
  const timelines = (await readdir(directory))
    .map(parseHistoryFileName)
    .filter((timeline) => timeline !== undefined && timeline > prepared.found.timeline)
  const timeline = Math.max(...(timelines as number[]))
  if (!Number.isFinite(timeline)) return undefined
  const name = `${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`
  const parsed = parseHistoryFile(timeline, await readFile(join(directory, name)))
  const end = parsed.ok ? parsed.history.ancestors.at(-1)?.endLsn : undefined
  return end === undefined ? undefined : { reached: end, timeline }
}

/**
 * `recovery stopping before/after WAL location (LSN) "X/Y"`: the start of the record, from
 * which the judged end follows; after `reached consistency` the judged end itself.
 */
async function stopInLog(
  prepared: PreparedRestore,
  logFile: string,
): Promise<{ reached: Lsn; timeline: number }> {
  const match = /recovery stopping (before|after) WAL location \(LSN\) "([0-9A-F]+)\/([0-9A-F]+)"/
  const found = match.exec(await readLog(logFile))
  const { stop, replayEnd, timeline } = prepared.found
  if (found === null || stop.kind === 'immediate') return { reached: replayEnd, timeline }
  const at = lsn((BigInt(`0x${found[2]}`) << 32n) | BigInt(`0x${found[3]}`))
  return { reached: at === stop.lsn ? replayEnd : at, timeline }
}

/** Replay may only have stopped at the judged record. */
function requireReached(prepared: PreparedRestore, outcome: Outcome): void {
  const { replayEnd, stop } = prepared.found
  const reached = outcome.reached === replayEnd
  // At consistency PostgreSQL may have read a record more than the backup's end.
  const consistent = stop.kind === 'immediate' && outcome.reached >= replayEnd
  if (reached || consistent) return
  throw new Failure('TM1220', {
    message: `the restored server stopped replay at ${formatLsn(outcome.reached)}`,
    because: `the target was judged to end at ${formatLsn(replayEnd)}`,
    fix: `do not use it before this is understood: see tidemark.recovery.log in ${prepared.destination.directory}`,
    details: { reachedLsn: formatLsn(outcome.reached), judgedLsn: formatLsn(replayEnd) },
  })
}

async function failedRecovery(
  prepared: PreparedRestore,
  logFile: string,
  what: string,
): Promise<Failure> {
  const lines = (await readLog(logFile)).trimEnd().split('\n').slice(-LOG_LINES)
  const telling = lines.filter((line) => /FATAL|PANIC|ERROR|HINT|DETAIL|LOG/.test(line)).slice(-4)
  return new Failure('TM1221', {
    message: `recovery in ${prepared.destination.directory} did not end well: ${what}`,
    because: telling.length === 0 ? 'its log says nothing' : telling.join('\n           '),
    fix: `read ${logFile}, mend the cause, and start it again with pg_ctl`,
    details: { logFile, log: lines },
  })
}

function describe(
  prepared: PreparedRestore,
  outcome: Outcome,
  logFile: string,
  inDoubt: readonly InDoubtTransaction[] | undefined,
): StartedRecovery {
  const { state, reached, timeline } = outcome
  const at = formatLsn(reached)
  const summaries = {
    running: `the server runs on timeline ${timeline}; replay ended at ${at}, as judged`,
    paused: `the server is paused at ${at}, as judged, and can be read`,
    'shut down': `replay ended at ${at}, as judged, and the server is shut down`,
  }
  return {
    state,
    reachedLsn: at,
    timeline,
    logFile,
    summary: summaries[state],
    inDoubt,
    advice: inDoubt === undefined ? adviceFor(prepared) : adviseInDoubt(inDoubt),
  }
}

/** Transactions in doubt hold their locks and keep VACUUM from its work until they end. */
function adviceFor(prepared: PreparedRestore): string[] {
  const { inDoubt } = prepared.found.facts
  if (inDoubt.length === 0) return []
  const ids = inDoubt.map(({ xid }) => xid).join(', ')
  return [
    `${inDoubt.length} prepared transactions are in doubt (xid ${ids}): see pg_prepared_xacts, ` +
      'then COMMIT PREPARED or ROLLBACK PREPARED each',
  ]
}
