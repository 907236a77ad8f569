/** Options of the benchmarks of WAL. */
import { cpus, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'

export interface WalBenchOptions {
  readonly segments: number
  /** Of pgbench. */
  readonly scale: number
  readonly pairs: number
  readonly directory: string | undefined
  readonly dryRun: boolean
}

export function parseWalOptions(args: readonly string[]): WalBenchOptions {
  const { values } = parseArgs({
    args: args.filter((word) => !word.startsWith('wal-')),
    options: {
      segments: { type: 'string', default: '200' },
      scale: { type: 'string', default: '200' },
      pairs: { type: 'string', default: '5' },
      directory: { type: 'string' },
      'dry-run': { type: 'boolean', default: false },
    },
  })
  return {
    segments: positive('--segments', values.segments),
    scale: positive('--scale', values.scale),
    pairs: positive('--pairs', values.pairs),
    directory: values.directory,
    dryRun: values['dry-run'],
  }
}

function positive(name: string, text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw new Error(`${name} is a number from 1`)
  return number
}

export function describeRun(options: WalBenchOptions): string[] {
  const processors = cpus()
  const memory = Math.round(totalmem() / 2 ** 30)
  return [
    `${processors.length} × ${processors[0]?.model}, ${memory} GiB, Linux ${release()}`,
    `${options.pairs} alternated rounds, Node.js ${process.version}`,
  ]
}
