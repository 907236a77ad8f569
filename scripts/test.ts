/**
 * `npm test [-- PATTERN… | --OPTION…]`: tidy, types, lint, then every test. A pattern is
 * part of a test file's path and runs those files alone; options go to `node --test`.
 */
import { join } from 'node:path'
import { checkHouse } from './check-house.ts'
import { findTests } from './find-tests.ts'
import { ROOT, runNode } from './run-child.ts'
import { makeTestProgram } from './test-program.ts'

/** Tests use nine tenths of two cores; a third file fills what they wait for disks and servers. */
const CONCURRENCY = 3

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
  const { status } = await runNode(node, 'show', {
    TEST_PROGRAM: await makeTestProgram(),
    // Also for worker threads: 80 ms of each of 200 files that have 200 modules.
    NODE_COMPILE_CACHE: join(ROOT, 'build/test-code'),
  })
  if (!clean) console.error('✖ tidy, types or lint failed: see the beginning of this output')
  process.exitCode = status !== 0 ? status : clean ? 0 : 1
}
