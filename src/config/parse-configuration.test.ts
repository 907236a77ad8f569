import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Failure, isFailure } from '../base/failure.ts'
import { chooseCluster, chooseRepository } from './configuration.ts'
import { parseConfiguration } from './parse-configuration.ts'

const GOOD = `repositories:
  local: { url: file:///var/lib/tidemark }
  other: { url: file:///mnt/other }
clusters:
  main:
    connection: postgresql:///postgres?host=/var/run/postgresql
    repositories: [local]
`

function refuse(text: string): Failure {
  try {
    parseConfiguration('/x/tidemark.yaml', text)
  } catch (error) {
    if (isFailure(error, 'TM1003')) return error
    throw error
  }
  throw new Error('accepted')
}

test('a good configuration', () => {
  const configuration = parseConfiguration('/x/tidemark.yaml', GOOD)
  const main = chooseCluster(configuration, undefined)
  assert.equal(main.name, 'main')
  assert.deepEqual(main.repositories, [{ name: 'local', url: 'file:///var/lib/tidemark' }])
  assert.equal(main.walSource, 'archive_command')
  assert.equal(chooseRepository(main, undefined).name, 'local')
})

test('a cluster without repositories has all of them', () => {
  const text = GOOD.replace('    repositories: [local]\n', '')
  const main = chooseCluster(parseConfiguration('/x', text), 'main')
  assert.deepEqual(
    main.repositories.map(({ name }) => name),
    ['local', 'other'],
  )
})

test('an unknown key: file, line, column, and what was meant', () => {
  const { message, fix } = refuse(GOOD.replace('connection:', 'conection:'))
  assert.match(message, /^\/x\/tidemark\.yaml:6:5: unknown key 'conection' in clusters\.main/)
  assert.match(message, /did you mean 'connection'\?/)
  assert.match(fix, /connection, password, repositories, required, wal/)
  const far = refuse(GOOD.replace('    repositories: [local]', '    schedule: { backup: x }'))
  assert.match(far.message, /unknown key 'schedule'/)
  assert.doesNotMatch(far.message, /did you mean/)
})

test('a key at the top', () => {
  const { message } = refuse(`${GOOD}retension: 7d\n`)
  assert.match(message, /:8:1: unknown key 'retension'/)
})

test('wrong values: the place and what would be right', () => {
  const number = refuse(GOOD.replace('postgresql:///postgres?host=/var/run/postgresql', '5432'))
  assert.match(number.message, /:6:17: clusters\.main\.connection is not a text/)
  const kind = refuse(GOOD.replace('postgresql:///postgres?host=/var/run/postgresql', 'host=x'))
  assert.match(kind.message, /a connection is a URL/)
  const url = refuse(GOOD.replace('file:///mnt/other', '/mnt/other'))
  assert.match(url.message, /:3:17: repositories\.other\.url/)
  assert.match(url.message, /it is a path, not a URL/)
  const source = refuse(`${GOOD}    wal: { source: streem }\n`)
  assert.match(source.message, /:8:20: clusters\.main\.wal\.source cannot be 'streem'/)
  assert.match(source.fix, /'archive_command'/)
  const name = refuse(GOOD.replace('main:', 'Main:'))
  assert.match(name.message, /:5:3: 'Main' is not a name/)
  const missing = refuse(GOOD.replace(/ {4}connection.*\n/, ''))
  assert.match(missing.message, /clusters\.main has no 'connection'/)
})

test('a repository that is not there, or twice', () => {
  const unknown = refuse(GOOD.replace('[local]', '[lcoal]'))
  assert.match(unknown.message, /:7:20: no repository 'lcoal'; did you mean 'local'\?/)
  assert.match(refuse(GOOD.replace('[local]', '[local, local]')).message, /named twice/)
  assert.match(
    refuse(GOOD.replace('file:///mnt/other', 'file:///var/lib/tidemark/')).message,
    /has the URL of/,
  )
})

test('what is required is the first repository, or those that are named', () => {
  const two = GOOD.replace('[local]', '[other, local]')
  const requiredBy = (text: string): readonly string[] | undefined =>
    parseConfiguration('/x/tidemark.yaml', text).clusters.get('main')?.required
  assert.deepEqual(requiredBy(two), ['other'])
  const both = two.replace('[other, local]', '[other, local]\n    required: [local, other]')
  assert.deepEqual(requiredBy(both), ['local', 'other'])
  const wrong = refuse(GOOD.replace('[local]', '[local]\n    required: [other]'))
  assert.match(wrong.message, /:8:16: required names 'other', which is no repository of/)
})

test('what is not YAML, empty, and the same key twice', () => {
  assert.match(refuse('clusters: [').message, /\/x\/tidemark\.yaml:\d+:\d+: not YAML/)
  assert.match(refuse('').message, /has no 'repositories'/)
  assert.match(refuse(`${GOOD}clusters: {}\n`).message, /:8:1: not YAML/)
})

test('several problems are told at once, in the order of the file', () => {
  const failure = refuse(
    GOOD.replace('url: file:///mnt', 'uri: file:///mnt').replace('connection', 'conection'),
  )
  assert.match(failure.message, /:3:12: unknown key 'uri'/)
  assert.match(failure.because ?? '', /:6:5: unknown key 'conection'/)
})

test('a cluster that is not there', () => {
  const configuration = parseConfiguration('/x/tidemark.yaml', GOOD)
  assert.throws(
    () => chooseCluster(configuration, 'mian'),
    (error) =>
      isFailure(error, 'TM1004') && error.message === "no cluster 'mian'; did you mean 'main'?",
  )
})

test('which of two clusters', () => {
  const text = `${GOOD}  test: { connection: 'postgresql:///x' }\n`
  assert.throws(
    () => chooseCluster(parseConfiguration('/x', text), undefined),
    (error) => isFailure(error, 'TM1004') && /main, test/.test(error.because ?? ''),
  )
})

test('a cluster whose WAL is streamed: slot, standbys, times', () => {
  const said = (wal: string) => {
    const { clusters } = parseConfiguration('/etc/tidemark.yaml', `${GOOD}    wal: ${wal}\n`)
    return clusters.get('main')
  }
  assert.deepEqual(said('{ source: stream }')?.walStream, { slot: 'tidemark_main', standbys: [] })
  const all = said(
    '{ source: stream, slot: s1, flushEvery: 500ms, onPressure: keep, ' +
      'standbys: [{ connection: "postgresql://b/x", password: "file:/p" }] }',
  )
  assert.equal(all?.walSource, 'stream')
  assert.deepEqual(all?.walStream, {
    slot: 's1',
    standbys: [{ connection: 'postgresql://b/x', password: 'file:/p' }],
    flushEveryMs: 500,
    onPressure: 'keep',
  })
  assert.match(refuse(`${GOOD}    wal: { slot: A-b }\n`).message, /a slot is named by/)
  assert.match(refuse(`${GOOD}    wal: { flushEvery: 3 hours }\n`).message, /wal\.flushEvery/)
})
