import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  formatProcessIdentity,
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  type ProcessIdentity,
  readProcessIdentity,
} from './process-identity.ts'

const self: ProcessIdentity = {
  machine: '0123456789abcdef',
  boot: 'aa',
  pidNamespace: '77',
  pid: 10,
  startTicks: '500',
}

test('an identity survives being written and read', () => {
  const own = readProcessIdentity()
  assert.equal(own.pid, process.pid)
  assert.match(own.startTicks, /^[1-9]\d*$/)
  assert.deepEqual(parseProcessIdentity(formatProcessIdentity(own)), own)
  for (const text of ['', 'a.b.c.d.e', `${formatProcessIdentity(own)}.1`, '../x']) {
    assert.equal(parseProcessIdentity(text), undefined)
  }
})

test('dead is said only when it is proved', () => {
  const judge = (other: Partial<ProcessIdentity>, ticks: string | undefined) =>
    judgeLiveness({ ...self, ...other }, self, () => ticks)
  assert.equal(judge({}, '500'), 'alive')
  assert.equal(judge({}, '501'), 'dead', 'the id belongs to a later process')
  assert.equal(judge({}, undefined), 'dead')
  assert.equal(judge({}, 'unknown'), 'unknown', '/proc tells nothing')
  assert.equal(judge({ boot: 'bb' }, '500'), 'dead', 'the machine was started again')
  assert.equal(judge({ machine: 'f'.repeat(16) }, undefined), 'unknown', 'another machine')
  assert.equal(judge({ machine: 'f'.repeat(16), boot: 'bb' }, undefined), 'unknown')
  assert.equal(judge({ pidNamespace: '78' }, undefined), 'unknown', 'a container')
  assert.equal(judge({ boot: '0' }, undefined), 'unknown')
})

test('start times of processes of this machine', () => {
  assert.equal(lookUpStartTicks(process.pid), readProcessIdentity().startTicks)
  assert.notEqual(lookUpStartTicks(1), undefined)
  assert.equal(lookUpStartTicks(2 ** 22 + 1), undefined, 'above the largest process id')
})
