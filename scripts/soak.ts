/**
 * `npm run soak [-- PATTERN…]`: the tests that run for long (`x.soak.ts`), one at a time.
 * SOAK_MINUTES says for how long each may go on.
 */
import { findTests } from './find-tests.ts'
import { runNode } from './run-child.ts'

const files = findTests('.soak.ts', process.argv.slice(2))
if (files.length === 0) {
  console.error('no soak matches: soaks are the files x.soak.ts in src/ and test/')
  process.exitCode = 2
} else {
  const { status } = await runNode(['--test', '--test-concurrency=1', ...files], 'show')
  process.exitCode = status
}
