/** `wal adopt`: decides which of two servers goes on with a timeline. Plans unless --apply. */
import { resolve } from 'node:path'
import {
  type AdoptionSource,
  openDirectorySource,
  openQuarantineSource,
} from '../../archive/adoption-source.ts'
import { type AdoptionResult, adoptWal, releaseReservation } from '../../archive/adopt-wal.ts'
import { type AdoptionPlan, planAdoption } from '../../archive/plan-adoption.ts'
import { findReservation, type Reservation } from '../../archive/reservations.ts'
import { describeWriter } from '../../archive/writer-identity.ts'
import { Failure } from '../../base/failure.ts'
import {
  chooseCluster,
  chooseRepository,
  type RepositoryConfiguration,
} from '../../config/configuration.ts'
import { openRepositoryStorage } from '../../config/unlock-storage.ts'
import type { Timeline } from '../../postgres/lsn.ts'
import { openRepository } from '../../repository/repository.ts'
import { readSystemIdentity } from '../../repository/system-identity.ts'
import type { Storage } from '../../storage/storage.ts'
import type { CommandContext } from '../command-context.ts'
import { formatCount } from '../format-units.ts'
import { onlySystemIdentifier } from '../only-system.ts'
import { wrongUsage } from '../program.ts'
import { formatFailure } from '../report-failure.ts'

export interface WalAdoptOptions {
  readonly timeline?: string
  readonly from?: string
  readonly quarantine?: string | true
  readonly release?: string
  readonly apply?: boolean
  readonly repository?: string
  readonly systemIdentifier?: string
}

interface Outcome {
  readonly repository: string
  readonly result: Adoption | Release | Failure
}

interface Adoption {
  readonly plan: AdoptionPlan
  readonly done: AdoptionResult | undefined
}

interface Release {
  readonly released: Timeline
  readonly reservation: Reservation | 'unreadable' | undefined
  readonly done: boolean
}

export async function runWalAdopt(
  context: CommandContext,
  clusterName: string | undefined,
  options: WalAdoptOptions,
): Promise<number> {
  requireSense(options)
  const cluster = chooseCluster(context.configuration(), clusterName)
  const repositories =
    options.repository === undefined
      ? cluster.repositories
      : [chooseRepository(cluster, options.repository)]
  const outcomes: Outcome[] = []
  for (const repository of repositories) {
    outcomes.push(await adoptIn(context, cluster.name, repository, options))
  }
  if (context.json) {
    context.terminal.printJson({ cluster: cluster.name, repositories: outcomes.map(outcomeJson) })
  } else {
    for (const outcome of outcomes) printOutcome(context, cluster.name, outcome)
    const hasPlan = outcomes.some(({ result }) => !(result instanceof Failure))
    if (options.apply !== true && hasPlan) {
      context.terminal.print('nothing was written: --apply does it')
    }
  }
  const failed = outcomes.find(({ result }) => result instanceof Failure)?.result
  return failed instanceof Failure ? failed.exitStatus : 0
}

/** One of three things is asked for. */
function requireSense({ timeline, from, quarantine, release }: WalAdoptOptions): void {
  const ways = [from, quarantine, release].filter((one) => one !== undefined)
  const fix = 'give --timeline N with --from DIR or --quarantine, or --release N'
  if (ways.length !== 1) {
    const because =
      ways.length === 0 ? 'nothing says which server is to go on' : 'they exclude each other'
    throw wrongUsage('what is to be adopted?', because, fix)
  }
  if (release === undefined && timeline === undefined) {
    throw wrongUsage('--timeline is missing', 'the refusal in the server log names it', fix)
  }
}

function parseTimeline(option: string, text: string): Timeline {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : 0
  if (value >= 1 && value <= 0xffffffff) return value
  throw wrongUsage(`${option} cannot be '${text}'`, undefined, 'it is a number from 1 on')
}

async function adoptIn(
  { env, signal }: CommandContext,
  cluster: string,
  repository: RepositoryConfiguration,
  options: WalAdoptOptions,
): Promise<Outcome> {
  try {
    const storage = await openRepositoryStorage(repository, env)
    await openRepository(storage)
    const systemIdentifier =
      options.systemIdentifier ?? (await onlySystemIdentifier(cluster, storage))
    const place = { cluster, systemIdentifier }
    const result =
      options.release === undefined
        ? await adopt(storage, place, options)
        : await release(storage, place, options)
    return { repository: repository.name, result }
  } catch (error) {
    if (!(error instanceof Failure) || error.code === 'TM1001' || signal.aborted) throw error
    return { repository: repository.name, result: error }
  }
}

type Place = { readonly cluster: string; readonly systemIdentifier: string }

async function adopt(storage: Storage, place: Place, options: WalAdoptOptions): Promise<Adoption> {
  const timeline = parseTimeline('--timeline', options.timeline ?? '')
  const identity = await readSystemIdentity(storage, place.cluster, place.systemIdentifier)
  const { walSegmentSizeBytes } = identity
  const source = await openSource(storage, { ...place, timeline, walSegmentSizeBytes }, options)
  const plan = await planAdoption(storage, { ...place, timeline, source })
  const done = options.apply === true ? await adoptWal(storage, plan) : undefined
  return { plan, done }
}

async function openSource(
  storage: Storage,
  request: Parameters<typeof openDirectorySource>[0],
  { from, quarantine }: WalAdoptOptions,
): Promise<AdoptionSource> {
  if (from !== undefined) return await openDirectorySource(request, resolve(from))
  const hash = quarantine === true ? undefined : quarantine
  return await openQuarantineSource(storage, request, hash)
}

async function release(storage: Storage, place: Place, options: WalAdoptOptions): Promise<Release> {
  const released = parseTimeline('--release', options.release ?? '')
  const reservation = await findReservation(storage, place, released)
  const done = options.apply === true
  if (done || reservation === undefined) await releaseReservation(storage, place, released)
  return { released, reservation, done }
}

function outcomeJson({ repository, result }: Outcome): Record<string, unknown> {
  if (result instanceof Failure) {
    const { code, message, because, fix, details } = result
    return { repository, error: { code, message, because, fix, details } }
  }
  if ('released' in result) return { repository, ...result }
  const { plan, done } = result
  return {
    repository,
    timeline: plan.timeline,
    writer: plan.writer ?? null,
    former: plan.former?.writer ?? null,
    reservation: plan.reservation ?? null,
    aside: plan.aside.map(({ name }) => name),
    bring: plan.bring.map(({ file, from }) => ({ name: file.name, ...from })),
    missing: plan.missing,
    dependents: plan.dependents,
    done: done ?? null,
  }
}

function printOutcome({ terminal }: CommandContext, cluster: string, outcome: Outcome): void {
  const { repository, result } = outcome
  const title = `${cluster} in ${repository}`
  if (result instanceof Failure) {
    terminal.print(`${title}: not done, or not all`)
    terminal.print(formatFailure(result))
  } else if ('released' in result) {
    terminal.print(`${title}: ${describeRelease(result)}`)
  } else {
    const { plan, done } = result
    const verb = done === undefined ? 'would go on with' : 'goes on with'
    terminal.print(`${title}: timeline ${plan.timeline} ${verb} ${nameOf(plan)}`)
    for (const line of formatPlan(plan)) terminal.print(`  ${line}`)
    const late = (done?.aside.length ?? 0) - plan.aside.length
    if (late > 0) terminal.print(`  ${formatCount(late, 'file')} more came meanwhile, aside too`)
  }
}

function describeRelease({ released, reservation, done }: Release): string {
  const verb = done ? 'is released' : 'would be released'
  if (typeof reservation !== 'object') return `timeline ${released} ${verb}`
  return `timeline ${released} ${verb}, which ${describeReservation(reservation)}`
}

function describeReservation({ dataDirectory, hostName, reservedAt }: Reservation): string {
  return `the restore into ${dataDirectory} on ${hostName} reserved (${reservedAt})`
}

function nameOf({ writer }: AdoptionPlan): string {
  return writer === undefined ? 'what is in quarantine' : describeWriter(writer)
}

function formatPlan(plan: AdoptionPlan): string[] {
  const { former, aside, bring, missing, dependents, reservation } = plan
  const lines: string[] = []
  if (former !== undefined) {
    lines.push(`so far     ${describeWriter(former.writer)}, since ${former.since}`)
  }
  if (typeof reservation === 'object') lines.push(`number     ${describeReservation(reservation)}`)
  lines.push(`aside      ${describeFiles(aside.map(({ name }) => name).reverse())}`)
  lines.push(`in         ${describeFiles(bring.map(({ file }) => file.name))}`)
  if (missing.length > 0) {
    lines.push(
      `missing    ${describeFiles(missing)}: nobody has them, the timeline has a gap there`,
    )
  }
  if (dependents.backups.length > 0) {
    lines.push(`lost with it, until it is adopted again: backups ${dependents.backups.join(', ')}`)
  }
  if (dependents.timelines.length > 0) {
    lines.push(`cut off    timelines ${dependents.timelines.join(', ')}, which left it there`)
  }
  return lines
}

function describeFiles(names: readonly string[]): string {
  if (names.length === 0) return 'nothing'
  const range = names.length === 1 ? names[0] : `${names[0]} to ${names.at(-1)}`
  return `${formatCount(names.length, 'file')} (${range})`
}
