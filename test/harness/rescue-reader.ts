/**
 * Runs tools/rescue-reader, which restores a repository without Tidemark. It runs as the
 * test's own user, whose python3 the servers' user may not be allowed to start.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type RunResult, runProgram } from './run-program.ts'

export const RESCUE = fileURLToPath(new URL('../../tools/rescue-reader/rescue.py', import.meta.url))

/** Why the reader cannot run here, for `skip`; false when it can. */
export function rescueReaderMissing(): string | false {
  const missing = ['python3', 'zstd'].filter(
    (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status !== 0,
  )
  return missing.length > 0 && `no ${missing.join(' and no ')} here`
}

/** Never throws for an exit status. */
export async function rescue(repository: string, ...args: string[]): Promise<RunResult> {
  return await runProgram('python3', [RESCUE, repository, ...args])
}

/** Throws with both outputs unless the status is 0. */
export async function rescueOk(repository: string, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await rescue(repository, ...args)
  if (status !== 0) throw new Error(`rescue.py ${args.join(' ')}: ${status}\n${stdout}${stderr}`)
  return stdout
}

const UNSEAL = fileURLToPath(new URL('../../tools/rescue-reader/unseal.py', import.meta.url))

/** Opens an encrypted repository into a directory; never throws for an exit status. */
export async function unseal(
  repository: string,
  into: string,
  ...args: string[]
): Promise<RunResult> {
  return await runProgram('python3', [UNSEAL, repository, into, ...args])
}

const TAILS = fileURLToPath(new URL('../../tools/rescue-reader/tails.py', import.meta.url))

/** Adds what was flushed of the last segment; never throws for an exit status. */
export async function rescueTails(
  repository: string,
  into: string,
  ...args: string[]
): Promise<RunResult> {
  return await runProgram('python3', [TAILS, repository, into, ...args])
}
