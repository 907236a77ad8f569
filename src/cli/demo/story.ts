/**
 * The story of the demo, step by step, in the order in which it is told.
 */
import type pg from 'pg'
import { monotonicMs, sleep } from '../../base/clock.ts'
import {
  ACCOUNTS,
  CLIENTS,
  CREATE_BANK,
  CUSTOMERS,
  type CustomersSeen,
  type Load,
  readBalance,
  readCustomers,
  startLoad,
} from './bank.ts'
import {
  type Accident,
  archiveUpToNow,
  connectionUrl,
  connectTo,
  dropCustomers,
  type Exposure,
  type LivingState,
  readAddress,
  readExposure,
  readLivingState,
  type ServerAddress,
  writeServerSettings,
} from './demo-server.ts'
import type { ServerPrograms } from './find-server.ts'
import { type BackupFigures, claimsByName, type DemoFigures, parseBackups } from './figures.ts'
import type { Narrator } from './narrator.ts'
import { type Claim, judgeEvidence } from './proof.ts'
import type { Runner } from './runner.ts'
import type { Workspace } from './workspace.ts'

export interface Stage {
  readonly workspace: Workspace
  readonly programs: ServerPrograms
  readonly narrator: Narrator
  readonly runner: Runner
  readonly signal: AbortSignal
}

export interface DemoOutcome {
  readonly figures: Omit<DemoFigures, 'totalMs'>
  readonly claims: readonly Claim[]
  readonly addresses: { readonly living: ServerAddress; readonly copy: ServerAddress }
}

/** How long the load runs between the steps, so that there is something to lose. */
const BREATH_MS = 1500

export async function tellStory(stage: Stage): Promise<DemoOutcome> {
  await startServer(stage)
  await protect(stage)
  const living = readAddress(stage.workspace.server)
  const client = await connectTo(living)
  const load = await startLoad(async () => await connectTo(living))
  try {
    await takeFullBackup(stage)
    await goOnWorking(stage, client)
    const seen = await haveAccident(stage, client, load)
    const recovered = await recover(stage, seen.accident)
    const claims = await prove(stage, client, seen)
    await load.stop()
    const backups = parseBackups(await stage.runner.ask('list'))
    const [fullBackup, incrementalBackup] = backups as [BackupFigures, BackupFigures]
    const figures = {
      serverVersion: stage.programs.version,
      fullBackup,
      incrementalBackup,
      target: recovered.target,
      exposureMs: seen.exposure.ageMs,
      exposureLimitSeconds: seen.exposure.limitSeconds,
      recoveryMs: recovered.recoveryMs,
      transfersRecovered: claims.transfersRecovered,
      claims: claimsByName(claims.claims),
    }
    return { figures, claims: claims.claims, addresses: { living, copy: recovered.address } }
  } finally {
    await load.stop().catch(() => undefined)
    await client.end().catch(() => undefined)
  }
}

async function startServer({ narrator, runner, workspace, programs }: Stage): Promise<void> {
  narrator.step('A bank on PostgreSQL')
  narrator.say(
    `A fresh PostgreSQL ${programs.version}, with ${ACCOUNTS.toLocaleString('en-US')} accounts (the tables of pgbench) and ${CUSTOMERS.toLocaleString('en-US')} customers.`,
  )
  await runner.server('initdb', '-D', 'server', '-U', 'postgres', '-A', 'trust', '--data-checksums')
  writeServerSettings(workspace.server, workspace.directory)
  await runner.server('pg_ctl', '-D', 'server', '-l', 'server.log', '-s', 'start')
  const client = await connectTo(readAddress(workspace.server))
  try {
    await client.query(CREATE_BANK)
    await client.query('VACUUM ANALYZE')
  } finally {
    await client.end()
  }
}

async function protect({ narrator, runner, workspace }: Stage): Promise<void> {
  narrator.step('Protect it')
  narrator.say(
    'One command finds out about the server, creates the repository, and lets the server archive its WAL, the journal of all changes. Turning that on needs one restart.',
  )
  const connection = connectionUrl(workspace.directory)
  const repository = `file://${workspace.repository}`
  await runner.tidemark(
    'init',
    '--yes',
    '--configure',
    '--connection',
    connection,
    '--repository',
    repository,
  )
  await runner.server('pg_ctl', '-D', 'server', '-l', 'server.log', '-s', 'restart')
  await runner.tidemark('doctor')
}

async function takeFullBackup({ narrator, runner, signal }: Stage): Promise<void> {
  narrator.step('The first backup')
  narrator.say(
    `From now on ${CLIENTS} clients move money from account to account, all the time. The backup is taken while they do.`,
  )
  await sleep(BREATH_MS, signal)
  await runner.tidemark('backup')
}

async function goOnWorking({ narrator, runner, signal }: Stage, client: pg.Client): Promise<void> {
  narrator.step('Work goes on')
  narrator.say('A name can be given to a moment, to come back to it later.')
  narrator.command(`psql -c "SELECT pg_create_restore_point('before_release')"`)
  await client.query(`SELECT pg_create_restore_point('before_release')`)
  await sleep(BREATH_MS, signal)
  narrator.say(
    'The next backup stores only the pages that changed. It is complete in itself all the same: nothing hangs on the first one when it comes to restoring.',
  )
  await runner.tidemark('backup')
}

interface Seen {
  readonly accident: Accident
  readonly customers: CustomersSeen
  readonly acknowledged: number
  readonly exposure: Exposure
  readonly living: LivingState
}

async function haveAccident(stage: Stage, client: pg.Client, load: Load): Promise<Seen> {
  const { narrator, signal } = stage
  narrator.step('The accident')
  await sleep(BREATH_MS, signal)
  const customers = await readCustomers(client)
  const exposure = await readExposure(client)
  const acknowledged = load.committed()
  narrator.say('Somebody types into the wrong window:')
  narrator.command('psql -c "DROP TABLE customers"')
  const accident = await dropCustomers(client)
  narrator.say(
    `It was transaction ${accident.xid}. Nobody notices at first; the clients go on moving money, and their work is worth keeping too. So nothing is undone on this server: the moment before is brought back beside it.`,
  )
  await sleep(BREATH_MS, signal)
  narrator.command('psql -c "SELECT pg_switch_wal()"')
  await archiveUpToNow(client, signal)
  const living = await readLivingState(client)
  return { accident, customers, acknowledged, exposure, living }
}

interface Recovered {
  readonly target: string
  readonly recoveryMs: number
  readonly address: ServerAddress
}

async function recover(stage: Stage, { xid }: Accident): Promise<Recovered> {
  const { narrator, runner, workspace, programs } = stage
  narrator.step('The way back')
  narrator.say('Which moments can be recovered?')
  await runner.tidemark('window')
  narrator.say(
    'Every moment since the first backup, so also the one just before that transaction. Tidemark reads the WAL and judges whether the target can be reached before it writes anything.',
  )
  const target = `before:xid:${xid}`
  const started = monotonicMs()
  const words = ['--into', 'copy', '--to', target, '--start', '--pg-bin', programs.directory]
  await runner.tidemark('restore', ...words)
  const address = readAddress(workspace.copy)
  const client = await connectTo(address)
  await client.end()
  return {
    target,
    recoveryMs: Math.round(monotonicMs() - started),
    address,
  }
}

interface Proved {
  readonly claims: readonly Claim[]
  readonly transfersRecovered: number
}

async function prove(stage: Stage, living: pg.Client, seen: Seen): Promise<Proved> {
  stage.narrator.step('The proof')
  const copy = await connectTo(readAddress(stage.workspace.copy))
  try {
    const balance = await readBalance(copy)
    const claims = judgeEvidence({
      customersBefore: seen.customers,
      customersInCopy: await readCustomers(copy),
      copy: balance,
      living: await readBalance(living),
      livingBefore: seen.living,
      livingAfter: await readLivingState(living),
      acknowledged: seen.acknowledged,
      droppedAt: seen.accident.committedAt,
    })
    for (const { holds, text } of claims) stage.narrator.proof(holds, text)
    return { claims, transfersRecovered: balance.transactions }
  } finally {
    await copy.end()
  }
}
