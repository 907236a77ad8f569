/** Options of `npm run bench -- --scale`, from the command line. */
import { parseArgs } from 'node:util'
import type { Shape } from './synthetic-repository.ts'

export interface ScaleOptions {
  readonly store: 'posix' | 's3'
  readonly shapes: readonly Shape[]
  readonly repeats: number
  /** Empty: all. */
  readonly commands: readonly string[]
  /** Where repositories are made; on the file system that is measured. */
  readonly directory: string | undefined
  /** Not written to RESULTS.md. */
  readonly dryRun: boolean
}

const PACKS_ADDED = 20
const PACKS_NAMED = 2000

export function parseScaleOptions(args: readonly string[]): ScaleOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      scale: { type: 'boolean' },
      store: { type: 'string', default: 'posix' },
      shapes: { type: 'string', default: '50x10000,500x100000' },
      repeats: { type: 'string', default: '5' },
      commands: { type: 'string', default: '' },
      directory: { type: 'string' },
      'dry-run': { type: 'boolean', default: false },
    },
  })
  const { store } = values
  if (store !== 'posix' && store !== 's3') throw new Error('--store is posix or s3')
  return {
    store,
    shapes: values.shapes.split(',').map(parseShape),
    repeats: Number(values.repeats),
    commands: values.commands === '' ? [] : values.commands.split(','),
    directory: values.directory,
    dryRun: values['dry-run'],
  }
}

/** `500x100000`: backups and WAL segments. */
function parseShape(text: string): Shape {
  const [, backups, segments] = /^(\d+)x(\d+)$/.exec(text) ?? []
  if (backups === undefined || segments === undefined) {
    throw new Error('--shapes is a list of BACKUPSxSEGMENTS')
  }
  const counts = { backups: Number(backups), segments: Number(segments) }
  return { ...counts, packsAdded: PACKS_ADDED, packsNamed: PACKS_NAMED }
}
