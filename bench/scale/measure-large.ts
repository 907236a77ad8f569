/** `npm run bench -- --large`: the memory of each stage in the life of a 10 TB backup. */
import { fileURLToPath } from 'node:url'
import { rmSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { measure } from '../measure.ts'
import { describeRun } from './measure-scale.ts'

const STAGES: readonly (readonly [stage: string, what: string])[] = [
  ['make', ''],
  ['full', 'list, plan, assemble, write (everything read)'],
  ['incremental', 'load the base, list, plan, assemble, write (all unchanged)'],
  ['read', 'read the file list'],
  ['restore', 'plan the restore, and restore into nothing'],
]
const PROGRAM = fileURLToPath(new URL('large-stages.ts', import.meta.url))
/** As bin/tidemark starts Node.js. */
const FLAGS = ['--max-semi-space-size=2']
const LIMIT_MIB = 512

export async function measureLarge(
  args: readonly string[],
  tell: (text: string) => void,
): Promise<string | undefined> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      large: { type: 'boolean' },
      factor: { type: 'string', default: '1' },
      directory: { type: 'string' },
      'dry-run': { type: 'boolean', default: false },
    },
  })
  const directory = temporaryDirectory(undefined, 'tidemark-large-', values.directory)
  const rows: string[] = []
  for (const [stage, what] of STAGES) {
    const words = [...FLAGS, PROGRAM, stage, directory, values.factor]
    const command = { program: process.execPath, args: words, runAs: undefined, env: {} }
    const measured = await measure(command)
    tell(`${stage}: ${measured.output.trim()}`)
    if (stage === 'make') continue
    const pss = (measured.peakPssBytes / 2 ** 20).toFixed(0)
    rows.push(`| ${what} | ${measured.wallSeconds.toFixed(0)} | ${pss} | ≤ ${LIMIT_MIB} |\n`)
  }
  rmSync(directory, { recursive: true, force: true })
  const section =
    `## A backup of 10 TB in a million files\n\n- factor: ${values.factor}\n` +
    `${await describeRun()}\n| stage | s | peak PSS MiB | target |\n|---|---|---|---|\n${rows.join('')}`
  console.log(`\n${section}`)
  return values['dry-run'] ? undefined : section
}
