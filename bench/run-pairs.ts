/**
 * The rounds of the benchmark. In every round both tools do every case, one directly after
 * the other, and the order alternates from round to round: what else happens on the
 * machine hits both. A round begins with new repositories.
 */
import { execFileSync } from 'node:child_process'
import { chownSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PostgresServer } from '../test/harness/postgres-server.ts'
import type { Contestant } from './contestant.ts'
import { type SetName, touchOnePercent } from './make-workload.ts'
import { type Command, type Measurement, measure } from './measure.ts'

export const CASES = ['full', 'changed', 'unchanged', 'restore'] as const
export type CaseName = (typeof CASES)[number]

export interface Sample extends Measurement {
  readonly tool: Contestant['name']
  readonly caseName: CaseName
  readonly round: number
  /** Bytes that the repository grew by, or of the restored directory. */
  readonly bytes: number
}

export interface RunPlan {
  readonly server: PostgresServer
  readonly contestants: readonly [Contestant, Contestant]
  readonly set: SetName
  readonly cases: readonly CaseName[]
  readonly rounds: number
  readonly cold: boolean
  /** Holds the restored directories. */
  readonly directory: string
  readonly tell: (text: string) => void
}

/**
 * A nightly backup does not follow its checkpoint within the second. Both tools distrust a
 * file that was written in the moment of the backup, each in its own way: pgbackrest waits
 * for the clock, Tidemark reads such a file again the next time.
 */
const SETTLING_MS = 3000

export async function runPairs(plan: RunPlan): Promise<Sample[]> {
  const samples: Sample[] = []
  for (let round = 1; round <= plan.rounds; round++) {
    const [one, other] = plan.contestants
    const order = round % 2 === 1 ? [one, other] : [other, one]
    for (const contestant of order) await contestant.reset()
    for (const caseName of plan.cases) {
      if (caseName === 'changed') {
        await touchOnePercent(plan.server, plan.set, round)
        await sleep(SETTLING_MS)
      }
      for (const contestant of order) {
        const sample = await runCase(plan, contestant, caseName, round)
        plan.tell(describeSample(sample))
        samples.push(sample)
      }
    }
  }
  return samples
}

async function runCase(
  plan: RunPlan,
  contestant: Contestant,
  caseName: CaseName,
  round: number,
): Promise<Sample> {
  const isRestore = caseName === 'restore'
  const into = join(plan.directory, 'restored')
  if (isRestore) makeEmpty(into, plan.server)
  await contestant.takeArchiving()
  const command = commandOf(contestant, caseName, into)
  const before = isRestore ? 0 : directoryBytes(contestant.repository)
  settle(plan.cold)
  const measurement = await measure(command)
  const bytes = directoryBytes(isRestore ? into : contestant.repository) - before
  if (isRestore) putAside(into, `${into}-${contestant.name}-${round}`)
  return { ...measurement, tool: contestant.name, caseName, round, bytes }
}

function commandOf(contestant: Contestant, caseName: CaseName, into: string): Command {
  if (caseName === 'restore') return contestant.restore(into)
  return caseName === 'full' ? contestant.full() : contestant.incremental()
}

function makeEmpty(directory: string, server: PostgresServer): void {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { mode: 0o700 })
  if (server.runAs !== undefined) chownSync(directory, server.runAs.uid, server.runAs.gid)
}

/**
 * Emptied, not removed: ext4 passes over inodes that were deleted in the last minutes, one
 * by one, and the next restore would pay seconds for thousands of them.
 */
function putAside(directory: string, aside: string): void {
  execFileSync('find', [directory, '-type', 'f', '-exec', 'truncate', '-s', '0', '{}', '+'])
  renameSync(directory, aside)
}

/** Nobody pays for writes of the run before; with `cold`, every read comes from the disk. */
function settle(cold: boolean): void {
  execFileSync('sync')
  if (cold) writeFileSync('/proc/sys/vm/drop_caches', '3')
}

function directoryBytes(directory: string): number {
  return Number(execFileSync('du', ['-sb', directory], { encoding: 'utf8' }).split('\t')[0])
}

function describeSample(sample: Sample): string {
  const { round, caseName, tool, wallSeconds, cpuSeconds, peakPssBytes, bytes } = sample
  const mib = (count: number): string => (count / 2 ** 20).toFixed(1)
  return (
    `round ${round} ${caseName}, ${tool}: ${wallSeconds.toFixed(2)} s, cpu ` +
    `${cpuSeconds.toFixed(2)} s, PSS ${mib(peakPssBytes)} MiB, ${mib(bytes)} MiB`
  )
}
