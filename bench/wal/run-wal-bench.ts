/** What the benchmarks of `wal push` and `wal get` share: options, WAL, contestants, the end. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { serverUser } from '../../test/harness/server-user.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { installPackage } from '../install-package.ts'
import { parseWalOptions, type WalBenchOptions } from './options.ts'
import { archivers, type WalArchiver } from './tools.ts'
import { makeWalSet, type WalSet } from './wal-set.ts'

export interface WalBench {
  readonly options: WalBenchOptions
  readonly directory: string
  readonly set: WalSet
  /** Tidemark as it is installed. */
  readonly program: string
  readonly tools: readonly WalArchiver[]
  readonly tell: (text: string) => void
}

/** The section that `measureAll` returns, shown; undefined when it is not to be kept. */
export async function runWalBench(
  args: readonly string[],
  tell: (text: string) => void,
  measureAll: (bench: WalBench) => Promise<string>,
): Promise<string | undefined> {
  const options = parseWalOptions(args)
  const directory = temporaryDirectory(serverUser(), 'tidemark-bench-', options.directory)
  const set = await makeWalSet({ ...options, directory, tell })
  const program = await installPackage(join(directory, 'package'))
  const tools = archivers(directory, set, program)
  const section = await measureAll({ options, directory, set, program, tools, tell })
  console.log(`\n${section}`)
  rmSync(directory, { recursive: true, force: true })
  return options.dryRun ? undefined : section
}
