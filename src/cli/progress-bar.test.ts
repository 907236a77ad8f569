import assert from 'node:assert/strict'
import { test } from 'node:test'
import { barWidth, describePhase, type Phase } from './progress-bar.ts'

const MIB = 1024 * 1024

function phase(done: number, total: number | undefined, unit: Phase['unit'] = 'bytes'): Phase {
  return { phase: 'reading', done, total, unit, startedAtMs: 1000 }
}

test('a phase tells what is done, how fast, and what is left', () => {
  assert.equal(
    describePhase(phase(100 * MIB, 400 * MIB), 3000),
    'reading: 100 MiB of 400 MiB, 50.0 MiB/s, 6.0 s left',
  )
  assert.equal(
    describePhase(phase(400 * MIB, 400 * MIB), 3000),
    'reading: 400 MiB of 400 MiB, 200 MiB/s',
  )
  assert.equal(describePhase(phase(1, 2, 'segments'), 2000), 'reading: 1 of 2 segments, 1.0 s left')
})

test('nothing is said of what is not known', () => {
  assert.equal(describePhase(phase(0, undefined), 1000), 'reading …')
  assert.equal(describePhase(phase(0, 1, 'segments'), 1000), 'reading: 0 of 1 segment')
  assert.equal(describePhase(phase(3, undefined, 'files'), 1000), 'reading: 3 files')
})

test('on a narrow terminal the bar gives way to the text', () => {
  const text = 'x'.repeat(64)
  assert.equal(barWidth(200, text), 24)
  assert.equal(barWidth(80, text), 14)
  assert.equal(barWidth(80, 'x'.repeat(72)), 6)
  assert.equal(barWidth(60, text), 0)
})
