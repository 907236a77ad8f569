import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { findConfigurationPath, readConfigurationText } from './find-configuration.ts'

test('the option counts before the variable, and both before what is there', () => {
  assert.equal(findConfigurationPath('a.yaml', { TIDEMARK_CONFIG: '/b.yaml' }), resolve('a.yaml'))
  assert.equal(findConfigurationPath(undefined, { TIDEMARK_CONFIG: '/b.yaml' }), '/b.yaml')
})

test('a file that was named and is not there: which one, and who named it', () => {
  assert.throws(
    () => readConfigurationText(undefined, { TIDEMARK_CONFIG: '/nonexistent/t.yaml' }),
    (error) =>
      isFailure(error, 'TM1002') &&
      /\/nonexistent\/t\.yaml/.test(error.message) &&
      /named by TIDEMARK_CONFIG/.test(error.because ?? ''),
  )
})
