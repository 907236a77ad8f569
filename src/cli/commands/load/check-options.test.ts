import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../../../base/failure.ts'
import { checkFormat, checkOptions, type LoadCommandOptions } from './check-options.ts'

/** As commander gives them where nothing is said. */
const UNSAID: LoadCommandOptions = {
  schema: [],
  table: [],
  section: [],
  owner: true,
  privileges: true,
  tablespaces: true,
  analyze: true,
}

const WRONG: readonly (readonly [LoadCommandOptions, RegExp])[] = [
  [{}, /--into is missing/],
  [{ into: 'a', output: 'b' }, /exclude each other/],
  [{ into: '' }, /names no database/],
  [{ into: 'a', section: ['data', 'date'] }, /--section cannot be 'date'/],
  [{ into: 'a', ifExists: true }, /--if-exists is for --clean/],
  [{ into: 'a', create: true, clean: true }, /--create and --clean/],
  [{ into: 'a', singleTransaction: true, jobs: '2' }, /one job/],
  [{ into: 'a', singleTransaction: true, continueOnError: true }, /exclude each other/],
  [{ output: 'a', table: ['t'] }, /--table has no meaning/],
  [{ output: 'a', owner: false }, /--no-owner has no meaning/],
  [{ output: 'a', singleTransaction: true }, /--single-transaction has no meaning/],
]

for (const [options, message] of WRONG) {
  test(`refused: ${JSON.stringify(options)}`, () => {
    assert.throws(
      () => checkOptions({ ...UNSAID, ...options }),
      (error) => isFailure(error, 'TM1001') && message.test(error.message),
    )
  })
}

test('what goes together', () => {
  for (const options of [
    { into: 'a', clean: true, ifExists: true, singleTransaction: true },
    { into: 'a', create: true, jobs: '4', section: ['data'] },
    { output: 'a', database: 'b', globals: true, repository: 'c' },
  ]) {
    checkOptions({ ...UNSAID, ...options })
  }
})

test('what a format cannot do', () => {
  const refuse = (format: 'plain' | 'tar', options: LoadCommandOptions, message: RegExp): void => {
    assert.throws(
      () => checkFormat(format, { ...UNSAID, ...options }),
      (error) => isFailure(error, 'TM1001') && message.test(error.message),
    )
  }
  refuse('plain', { table: ['t'], owner: false }, /--table, --no-owner cannot be had/)
  refuse('plain', { clean: true, jobs: '3' }, /--clean, --jobs/)
  refuse('tar', { jobs: '2' }, /one job/)
  refuse('tar', { jobs: '0' }, /--jobs cannot be '0'/)
  checkFormat('plain', { ...UNSAID, singleTransaction: true, create: true })
  checkFormat('tar', { ...UNSAID, table: ['t'], clean: true })
})
