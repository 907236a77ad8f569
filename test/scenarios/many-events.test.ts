/** The small size of many-events.soak.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { prepareManyEvents } from './many-events.ts'

test('events streams: all are counted, the large ones shown, the first ones at once', async () => {
  const shape = { segments: 12, transactionsPerSegment: 20_000, largeEvery: 1000 }
  const many = await prepareManyEvents(shape)
  const { lines, end } = await many.run(64)
  assert.equal(end.kind, 'end')
  assert.equal(end.transactions, 240_000)
  assert.equal(end.shown, 240)
  assert.equal(lines.length, 241)
  assert.equal(end.rows, 240 * 5000 + 240_000 - 240)
  const first = await many.run(64, '--all', '--limit', '5')
  assert.equal(first.lines.length, 6)
  // What follows is not read.
  assert.ok(first.end.transactions < 10, String(first.end.transactions))
  const range = ['--since', '2026-11-20T10:01:00Z', '--until', '2026-11-20T10:02:00Z', '--all']
  const { end: minute } = await many.run(64, ...range)
  assert.equal(minute.transactions, 60_000)
})

test('a reader that has seen enough ends it without a word', async () => {
  const many = await prepareManyEvents({
    segments: 4,
    transactionsPerSegment: 20_000,
    largeEvery: 1000,
  })
  const { status, stdout, stderr } = await many.pipe('events --since start --all | head -n 2')
  assert.equal(status, 0)
  assert.equal(stdout.split('\n').length, 3)
  assert.doesNotMatch(stderr, /error|EPIPE/)
})
