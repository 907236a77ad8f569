import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Failure } from '../base/failure.ts'
import type { TimelineHistory } from '../postgres/history-file.ts'
import { lsn } from '../postgres/lsn.ts'
import { isFatal } from './judge-failure.ts'
import { mustWaitFor, planProof, planStep } from './plan-stream.ts'

const MB = 1 << 20
const address = 'a server'

function path(...forks: readonly (readonly [number, number])[]): TimelineHistory {
  const last = forks.at(-1)?.[0] ?? 0
  const ancestors = forks.map(([timeline, end]) => ({
    timeline,
    endLsn: lsn(BigInt(end)),
    reason: '',
  }))
  return { timeline: last + 1, ancestors }
}

function at(timeline: number, start: number, flushed: number) {
  return { timeline, lsn: lsn(BigInt(start)), flushed: lsn(BigInt(flushed)) }
}

test('the present timeline, and an old one up to its fork, are streamed', () => {
  const two = { path: path([1, 5 * MB + 7]), address }
  const expected = (timeline: number, start: number) => ({
    kind: 'stream',
    timeline,
    start: lsn(BigInt(start)),
  })
  assert.deepEqual(planStep(two, at(2, 5 * MB, 5 * MB), MB), expected(2, 5 * MB))
  assert.deepEqual(planStep(two, at(1, 5 * MB, 5 * MB + 6), MB), expected(1, 5 * MB))
})

test('at the fork and beyond it the next timeline begins with the segment of the fork', () => {
  const two = { path: path([1, 5 * MB + 7]), address }
  for (const [flushed, isBeyondFork] of [
    [5 * MB + 7, false],
    [5 * MB + 8, true],
    [9 * MB, true],
  ] as const) {
    assert.deepEqual(planStep(two, at(1, flushed - (flushed % MB), flushed), MB), {
      kind: 'switch',
      from: 1,
      end: lsn(BigInt(flushed)),
      to: 2,
      start: lsn(BigInt(5 * MB)),
      isBeyondFork,
    })
  }
})

test('every path is walked to its end, timeline by timeline, and each fork segment anew', () => {
  const forks = fc
    .array(fc.integer({ min: 1, max: 40 * MB }), { minLength: 1, maxLength: 5 })
    .map((ends) => ends.sort((a, b) => a - b).map((end, index) => [index + 1, end] as const))
  fc.assert(
    fc.property(forks, (ancestors) => {
      const server = { path: path(...ancestors), address }
      let place = at(1, 0, 0)
      const streamed: number[] = []
      for (let turn = 0; turn < 20; turn++) {
        const step = planStep(server, place, MB)
        if (step.kind === 'switch') {
          place = { timeline: step.to, lsn: step.start, flushed: step.start }
          continue
        }
        streamed.push(step.timeline)
        if (step.timeline === server.path.timeline) break
        const [, end] = ancestors[step.timeline - 1] ?? assert.fail()
        place = { ...place, flushed: lsn(BigInt(end)) }
      }
      assert.equal(streamed.at(-1), server.path.timeline)
      assert.deepEqual(
        streamed,
        [...streamed].sort((a, b) => a - b),
      )
    }),
  )
})

test('a timeline that the server never was on is refused', () => {
  const code = { code: 'TM1427' }
  assert.throws(() => planStep({ path: path([1, MB]), address }, at(3, 0, 0), MB), code)
})

test('a primary behind the archive is refused, a standby is waited for', () => {
  const server = { path: path(), address, flushLsn: lsn(BigInt(5 * MB)), isInRecovery: false }
  assert.equal(mustWaitFor(server, at(1, 5 * MB, 5 * MB)), false)
  assert.throws(() => mustWaitFor(server, at(1, 5 * MB, 5 * MB + 1)), { code: 'TM1426' })
  const standby = { ...server, isInRecovery: true }
  assert.equal(mustWaitFor(standby, at(1, 5 * MB, 5 * MB + 1)), false)
  assert.equal(mustWaitFor(standby, at(1, 6 * MB, 6 * MB + 1)), true)
})

test('what another attempt cannot heal ends the receiver, a lost connection does not', () => {
  const failure = (code: Failure['code']) => new Failure(code, { message: '', fix: '' })
  for (const hasStreamed of [false, true]) {
    assert.equal(isFatal(failure('TM1402'), hasStreamed), true)
    assert.equal(isFatal(failure('TM1426'), hasStreamed), true)
    assert.equal(isFatal(failure('TM1106'), hasStreamed), false)
    assert.equal(isFatal(failure('TM1506'), hasStreamed), false)
  }
  assert.equal(isFatal(failure('TM1102'), false), true)
  assert.equal(isFatal(failure('TM1102'), true), false)
})

test('an archive that ends with a whole segment has that one shown again, if it is ours', () => {
  const one = path()
  assert.equal(planProof(one, at(1, 5 * MB, 5 * MB), MB), BigInt(4 * MB))
  assert.equal(planProof(one, at(1, 5 * MB, 5 * MB + 1), MB), undefined)
  assert.equal(planProof(path([1, 5 * MB + 7]), at(2, 5 * MB, 5 * MB), MB), undefined)
  assert.equal(planProof(path([1, 5 * MB + 7]), at(2, 7 * MB, 7 * MB), MB), BigInt(6 * MB))
})
