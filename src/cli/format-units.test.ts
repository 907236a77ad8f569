import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatTable } from './format-table.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from './format-units.ts'

test('bytes', () => {
  assert.deepEqual([0, 1023, 1024, 10 * 1024, 150 * 1024 ** 2, 3.7 * 1024 ** 3].map(formatBytes), [
    '0 B',
    '1023 B',
    '1.00 KiB',
    '10.0 KiB',
    '150 MiB',
    '3.70 GiB',
  ])
})

test('durations', () => {
  assert.deepEqual(
    [0, 800, 9949, 9950, 59_400, 60_000, 3_599_000, 3_600_000, 90_000_000].map(formatDuration),
    [
      '0.0 s',
      '0.8 s',
      '9.9 s',
      '10 s',
      '59 s',
      '1 min 00 s',
      '59 min 59 s',
      '1 h 00 min',
      '1 d 01 h',
    ],
  )
})

test('times are UTC, counts have their noun', () => {
  assert.equal(formatTime('2026-11-21T14:03:11.5+01:00'), '2026-11-21 13:03:11Z')
  assert.equal(formatCount(1, 'backup'), '1 backup')
  assert.equal(formatCount(12_345, 'entry', 'entries'), '12,345 entries')
})

test('columns align, colour codes take no room', () => {
  const red = (text: string): string => `\u001b[31m${text}\u001b[39m`
  const lines = formatTable(
    [{ title: 'A' }, { title: 'B', align: 'right' }],
    [
      [red('x'), '1'],
      ['long', '22'],
    ],
  )
  assert.deepEqual(lines, ['A      B', `${red('x')}      1`, 'long  22'])
})
