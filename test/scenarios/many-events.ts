/** `events` over a synthetic archive, in a heap that could not hold it. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openStorage } from '../../src/storage/open-storage.ts'
import { type RunResult, runProgram } from '../harness/run-program.ts'
import { type SyntheticArchive, writeSyntheticArchive } from '../harness/synthetic-index.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { TIDEMARK, tidemark } from '../harness/tidemark.ts'

interface End {
  readonly kind: string
  readonly transactions: number
  readonly shown: number
  readonly rows: number
}

export interface ManyEvents {
  run(heapMb: number, ...args: string[]): Promise<{ readonly lines: string[]; readonly end: End }>
  /** In a shell, behind the program and its configuration. */
  pipe(command: string): Promise<RunResult>
}

export async function prepareManyEvents(shape: SyntheticArchive): Promise<ManyEvents> {
  const directory = temporaryDirectory(undefined, 'tidemark-many-')
  const url = `file://${join(directory, 'repository')}`
  const config = join(directory, 'tidemark.yaml')
  await writeSyntheticArchive(await openStorage({ url }), 'main', shape)
  writeFileSync(
    config,
    `repositories:\n  local: { url: "${url}" }\n` +
      'clusters:\n  main:\n    connection: "postgresql:///nothing?host=/nowhere"\n',
  )
  return {
    async pipe(command) {
      const line = `'${TIDEMARK}' --config '${config}' ${command}`
      return await runProgram('bash', ['-o', 'pipefail', '-c', line])
    },
    async run(heapMb, ...args) {
      const words = ['--config', config, '--json', 'events', '--since', 'start', ...args]
      const env = { NODE_OPTIONS: `--max-old-space-size=${heapMb}` }
      const { status, stdout, stderr } = await tidemark(words, { env })
      assert.equal(status, 0, stderr)
      const lines = stdout.split('\n').slice(0, -1)
      return { lines, end: JSON.parse(lines.at(-1) ?? '') as End }
    },
  }
}
