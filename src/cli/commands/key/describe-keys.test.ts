import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shownLabel } from './describe-keys.ts'

test('a label that somebody has planted moves no terminal', () => {
  assert.equal(shownLabel('the \u001b[2Jsafe\r\n'), 'the \ufffd[2Jsafe\ufffd\ufffd')
  assert.equal(shownLabel('Zoë’s safe'), 'Zoë’s safe')
})
