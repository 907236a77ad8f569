/** Which test files a run takes, and in which order. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './run-child.ts'

const FOLDERS = ['src', 'test', 'scripts', 'bench']

/**
 * Paths that end with `suffix` and contain one of `patterns` (all, without patterns).
 * Slow ones first, so that the last of two processes does not wait for a long scenario.
 */
export function findTests(suffix: string, patterns: readonly string[]): string[] {
  return FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true }).map((name) => join(folder, String(name))),
  )
    .filter((path) => path.endsWith(suffix))
    .filter((path) => patterns.length === 0 || patterns.some((one) => path.includes(one)))
    .sort((one, other) => weight(other) - weight(one) || one.localeCompare(other))
}

function weight(path: string): number {
  if (path.startsWith('test/scenarios/')) return 3
  if (path.startsWith('test/simulation/')) return 2
  return /\.(pg|s3)\.test\.ts$/.test(path) ? 1 : 0
}
