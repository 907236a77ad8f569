/** Options of `npm run bench`, from the command line. */
import { parseArgs } from 'node:util'
import { FULL_SCALE, SETS, type SetName } from './make-workload.ts'
import { CASES, type CaseName } from './run-pairs.ts'

export interface BenchOptions {
  readonly set: SetName
  /** Scale of pgbench; everything else of a set shrinks with it. 200 is the full size. */
  readonly scale: number
  readonly pairs: number
  readonly cases: readonly CaseName[]
  readonly cold: boolean
  /** Where cluster, repositories and restores lie: one file system for both tools. */
  readonly directory: string | undefined
  /** Encrypted against not encrypted, both Tidemark. */
  readonly encrypted: boolean
  /** Not written to RESULTS.md. */
  readonly dryRun: boolean
}

export function parseOptions(args: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      set: { type: 'string', default: 'standard' },
      scale: { type: 'string', default: String(FULL_SCALE) },
      pairs: { type: 'string', default: '5' },
      cases: { type: 'string', default: CASES.join(',') },
      cold: { type: 'boolean', default: false },
      encrypted: { type: 'boolean', default: false },
      directory: { type: 'string' },
      quick: { type: 'boolean', default: false },
      'dry-run': { type: 'boolean', default: false },
    },
  })
  const set = SETS.find((name) => name === values.set)
  if (set === undefined) throw new Error(`--set is one of ${SETS.join(', ')}`)
  return {
    set,
    scale: values.quick ? 10 : positive('--scale', values.scale),
    pairs: values.quick ? 1 : positive('--pairs', values.pairs),
    cases: parseCases(values.cases),
    cold: values.cold,
    encrypted: values.encrypted,
    directory: values.directory,
    dryRun: values['dry-run'] || values.quick,
  }
}

function parseCases(text: string): CaseName[] {
  const words = text.split(',')
  const cases = CASES.filter((name) => words.includes(name))
  if (cases.length === words.length) return cases
  throw new Error(`--cases is a list of ${CASES.join(', ')}`)
}

function positive(name: string, text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw new Error(`${name} is a number from 1`)
  return number
}
