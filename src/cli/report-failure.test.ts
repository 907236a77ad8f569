import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../base/failure.ts'
import { formatFailure, formatFailureJson } from './report-failure.ts'

const FAILURE = new Failure('TM1004', {
  message: "no cluster 'mian'",
  because: 'there is main',
  fix: 'name it:\n       tidemark list main',
  details: { number: 7n },
})

test('what happened, why, what to do: each on a line, further lines below', () => {
  assert.equal(
    formatFailure(FAILURE),
    [
      "error TM1004: no cluster 'mian'",
      '  because: there is main',
      '  fix: name it:',
      '       tidemark list main',
    ].join('\n'),
  )
})

test('the same as an object', () => {
  assert.deepEqual(JSON.parse(formatFailureJson(FAILURE)), {
    error: {
      code: 'TM1004',
      message: "no cluster 'mian'",
      because: 'there is main',
      fix: 'name it:\n       tidemark list main',
      details: { number: '7' },
    },
  })
})

test('a defect is called one, without a stack trace', () => {
  const text = formatFailure(new TypeError('x is not a function'))
  assert.match(text, /defect of Tidemark/)
  assert.match(text, /TypeError: x is not a function/)
  assert.doesNotMatch(text, / at /)
})
