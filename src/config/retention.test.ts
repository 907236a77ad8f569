import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../base/failure.ts'
import { parseConfiguration } from './parse-configuration.ts'
import { findDumpPolicy, findRetention } from './retention.ts'

const HEAD = `
repositories:
  local: { url: file:///a }
  offsite: { url: file:///b }
clusters:
  main:
    connection: postgresql:///
    repositories: [local, offsite]
`
const NOTHING = { windowMs: 0, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
const DAY = 24 * 3600 * 1000

function retentionOf(text: string, repository: string) {
  const cluster = parseConfiguration('/t.yaml', HEAD + text).clusters.get('main')
  assert.ok(cluster !== undefined)
  return findRetention(cluster, repository)
}

test('retention is that of the cluster, or that of the repository as a whole', () => {
  const text = `    retention: { window: 7d, daily: 14 }
    retentionIn: { offsite: { window: 4w, monthly: 12 } }
`
  assert.deepEqual(retentionOf(text, 'local'), { ...NOTHING, windowMs: 7 * DAY, daily: 14 })
  assert.deepEqual(retentionOf(text, 'offsite'), { ...NOTHING, windowMs: 28 * DAY, monthly: 12 })
})

test('without a word about retention there is none', () => {
  assert.equal(retentionOf('', 'local'), undefined)
  const one = '    retentionIn: { offsite: { last: 3 } }\n'
  assert.equal(retentionOf(one, 'local'), undefined)
  assert.deepEqual(retentionOf(one, 'offsite'), { ...NOTHING, last: 3 })
})

test('what is not a retention is refused with its place', () => {
  const wrong: [string, RegExp][] = [
    ['retention: { window: 7 }', /9:26.*retention\.window/],
    ['retention: { window: 7 days }', /9:26.*7d/],
    ['retention: { dayly: 7, last: 1 }', /9:18.*dayly/],
    ['retention: {}', /9:16.*keeps nothing/],
    ['retention: { daily: 0 }', /9:16.*keeps nothing/],
    ['retention: { daily: -1 }', /9:25/],
    ['retentionIn: { elsewhere: { last: 1 } }', /9:20.*has no repository 'elsewhere'/],
  ]
  for (const [text, message] of wrong) {
    assert.throws(
      () => parseConfiguration('/t.yaml', `${HEAD}    ${text}\n`),
      (error) => error instanceof Failure && error.code === 'TM1003' && message.test(error.message),
      text,
    )
  }
})

test('dumps have retention of their own', () => {
  const policyOf = (text: string) => {
    const cluster = parseConfiguration('/t.yaml', HEAD + text).clusters.get('main')
    assert.ok(cluster !== undefined)
    return findDumpPolicy(cluster)
  }
  assert.equal(policyOf('    retention: { last: 3 }\n'), undefined)
  assert.deepEqual(policyOf('    dumps: { keepLast: 7 }\n'), { keepLast: 7, keepDays: 0 })
  assert.deepEqual(policyOf('    dumps: { keepDays: 30 }\n'), { keepLast: 0, keepDays: 30 })
  for (const wrong of ['{}', '{ keepLast: 0 }', '{ keepDays: 1.5 }', '{ keepLasts: 1 }']) {
    assert.throws(() => policyOf(`    dumps: ${wrong}\n`), { code: 'TM1003' }, wrong)
  }
})
