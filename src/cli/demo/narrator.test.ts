import assert from 'node:assert/strict'
import { test } from 'node:test'
import pico from 'picocolors'
import { createNarrator, quoteForShell, wrap } from './narrator.ts'

test('text is wrapped at spaces only', () => {
  assert.deepEqual(wrap('one two three', 7), ['one two', 'three'])
  assert.deepEqual(wrap('averylongwordindeed x', 5), ['averylongwordindeed', 'x'])
  assert.deepEqual(wrap('', 5), [''])
})

test('words are quoted as a shell wants them', () => {
  assert.equal(quoteForShell('before:xid:12'), 'before:xid:12')
  assert.equal(quoteForShell('a?b&c'), "'a?b&c'")
  assert.equal(quoteForShell("it's"), `'it'\\''s'`)
  assert.equal(quoteForShell(''), "''")
})

test('steps are numbered; without colours nothing but text is printed', () => {
  const lines: string[] = []
  const narrator = createNarrator((line) => lines.push(line), pico.createColors(false))
  narrator.step('Begin')
  narrator.command('tidemark list')
  narrator.output('nothing')
  narrator.proof(true, 'it is so')
  narrator.step('End')
  narrator.pairs([
    ['a', '1'],
    ['long', '2'],
  ])
  assert.deepEqual(lines, [
    '',
    '1. Begin',
    '   $ tidemark list',
    '     nothing',
    '   ✓ it is so',
    '',
    '2. End',
    '   a     1',
    '   long  2',
  ])
})
