/** Child processes of the habits: output goes straight to the terminal, or is collected. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../', import.meta.url)).replace(/\/$/, '')

export interface ChildResult {
  readonly status: number
  readonly output: string
}

/**
 * Runs a Node.js program under this runtime. Ctrl-C reaches the child as well as us: we
 * wait for what it has to clean up.
 */
export function runNode(
  args: readonly string[],
  output: 'show' | 'collect',
  environment: Readonly<Record<string, string>> = {},
): Promise<ChildResult> {
  const ignore = (): void => {}
  process.on('SIGINT', ignore)
  return new Promise((resolve, reject) => {
    const stdout = output === 'show' ? 'inherit' : 'pipe'
    const child = spawn(process.execPath, [...args], {
      cwd: ROOT,
      stdio: ['ignore', stdout, stdout],
      env: { ...process.env, ...environment },
    })
    let text = ''
    const take = (chunk: Buffer): void => {
      text += chunk.toString('utf8')
    }
    child.stdout?.on('data', take)
    child.stderr?.on('data', take)
    child.on('error', reject)
    child.on('close', (status) => {
      process.off('SIGINT', ignore)
      resolve({ status: status ?? 130, output: text })
    })
  })
}

export const PROGRAMS = {
  tidy: [join(ROOT, 'scripts/tidy.ts')],
  types: [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', ROOT],
  lint: [
    join(ROOT, 'node_modules/@biomejs/biome/bin/biome'),
    'check',
    '--error-on-warnings',
    '--max-diagnostics=50',
  ],
} as const
