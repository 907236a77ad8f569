/**
 * `npm test [-- PATTERN… | --OPTION…]`: tidy, types, lint, then every test. A pattern is
 * part of a test file's path and runs those files alone; options go to `node --test`.
 */
import { checkHouse } from './check-house.ts'
import { findTests } from './find-tests.ts'
import { runNode } from './run-child.ts'

/** Tests mostly wait for PostgreSQL, which has its own processes: two suit two cores. */
const CONCURRENCY = 2

const args = process.argv.slice(2)
const options = args.filter((arg) => arg.startsWith('-'))
const patterns = args.filter((arg) => !arg.startsWith('-'))
const files = findTests('.test.ts', patterns)

if (files.length === 0) {
  console.error(`no test file has ${patterns.join(' or ')} in its path`)
  process.exitCode = 2
} else {
  const clean = patterns.length > 0 || (await checkHouse())
  const node = ['--test', `--test-concurrency=${CONCURRENCY}`, ...options, ...files]
  const { status } = await runNode(node, 'show')
  if (!clean) console.error('✖ tidy, types or lint failed: see the beginning of this output')
  process.exitCode = status !== 0 ? status : clean ? 0 : 1
}
