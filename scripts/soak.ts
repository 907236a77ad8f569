/**
 * `npm run soak [-- PATTERN…]`: the tests that run for long (`x.soak.ts`), one at a time, and with
 * every major those of which `npm test` takes some majors only (SAMPLED_MAJORS).
 * SOAK_MINUTES says for how long each soak may go on.
 */
import { readFileSync } from 'node:fs'
import { findTests } from './find-tests.ts'
import { runNode } from './run-child.ts'

const patterns = process.argv.slice(2)
const isSampled = (path: string): boolean => readFileSync(path, 'utf8').includes('SAMPLED_MAJORS')
const sampled = findTests('.pg.test.ts', patterns).filter(isSampled)
const files = [...findTests('.soak.ts', patterns), ...sampled]
if (files.length === 0) {
  console.error('no soak matches: soaks are the files x.soak.ts in src/ and test/')
  process.exitCode = 2
} else {
  const { status } = await runNode(['--test', '--test-concurrency=1', ...files], 'show', {
    TEST_MAJORS: 'all',
  })
  process.exitCode = status
}
