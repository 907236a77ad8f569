import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseWalArguments } from './wal-arguments.ts'

test('the command lines that PostgreSQL runs', () => {
  const push = parseWalArguments(['--config', '/t.yaml', 'wal', 'push', '--cluster', 'main', 'a/b'])
  assert.deepEqual(push, {
    command: 'push',
    words: ['a/b'],
    config: '/t.yaml',
    cluster: 'main',
    systemIdentifier: undefined,
    repositories: undefined,
    holes: 'fail',
    ahead: false,
    index: false,
    fill: false,
    timeline: undefined,
    json: false,
    quiet: false,
    verbose: false,
  })
  const get = parseWalArguments(['wal', 'get', '--holes=absent', '--system-identifier=7', 'f', 'p'])
  assert.equal(get?.command, 'get')
  assert.deepEqual(get?.words, ['f', 'p'])
  assert.equal(get?.holes, 'absent')
  assert.equal(get?.systemIdentifier, '7')
  const ahead = parseWalArguments(['wal', 'get', '--ahead', '--timeline', '4', 'f', 'p'])
  assert.deepEqual([ahead?.ahead, ahead?.timeline], [true, 4])
  assert.equal(parseWalArguments(['wal', 'push', '--ahead', 'a'])?.ahead, true)
  assert.equal(parseWalArguments(['wal', 'push', '--index', 'a'])?.index, true)
  assert.equal(parseWalArguments(['wal', 'get', '--index', 'f', 'p']), undefined)
})

test('everything else is left to the full parser', () => {
  for (const line of [
    'list',
    'wal list',
    'wal push',
    'wal push a b',
    'wal get a',
    'wal get a b c',
    'wal get a b --help',
    'wal get a b --verbos',
    'wal get --config',
    'wal get --config --json a b',
    'wal get --holes maybe a b',
    'wal push --holes absent a',
    'wal push --timeline 2 a',
    'wal push --fill a',
    'wal get --timeline 0 a b',
    'wal get --system-identifier x a b',
    '-v wal get a b',
  ]) {
    assert.equal(parseWalArguments(line.split(' ')), undefined, line)
  }
})
