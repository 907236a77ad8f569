import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lsn } from '../../../postgres/lsn.ts'
import type { ServerSetting } from '../../../postgres/server-session.ts'
import { checkPressure, checkSlot, checkSynchronousCommit } from './check-streaming.ts'

function settings(values: Record<string, string>): Map<string, ServerSetting> {
  return new Map(Object.entries(values).map(([name, value]) => [name, { value } as ServerSetting]))
}

const GOOD = {
  isPhysical: true,
  activePid: 7,
  restartLsn: lsn(1n),
  walStatus: 'reserved',
  invalidationReason: undefined,
}

test('a slot that keeps nothing, or that nobody reads from, is a problem', () => {
  assert.equal(checkSlot('s', GOOD).result, 'ok')
  assert.equal(checkSlot('s', undefined).result, 'problem')
  assert.equal(checkSlot('s', { ...GOOD, activePid: undefined }).result, 'problem')
  assert.equal(checkSlot('s', { ...GOOD, walStatus: 'lost' }).result, 'problem')
  assert.equal(checkSlot('s', { ...GOOD, isPhysical: false }).result, 'problem')
})

test('remote_apply is refused only where the receiver is waited for', () => {
  const judge = (names: string, level: string): string =>
    checkSynchronousCommit(
      settings({ synchronous_standby_names: names, synchronous_commit: level }),
    ).result
  assert.equal(judge('ANY 1 (tidemark, other)', 'remote_apply'), 'problem')
  assert.equal(judge('*', 'remote_apply'), 'problem')
  assert.equal(judge('other', 'remote_apply'), 'ok')
  assert.equal(judge('tidemark', 'on'), 'ok')
})

test('the policy under pressure must be that of the server', () => {
  const judge = (policy: 'keep' | 'invalidateSlot' | undefined, limit: string): string =>
    checkPressure(settings({ max_slot_wal_keep_size: limit }), policy).result
  assert.equal(judge(undefined, '-1'), 'warning')
  assert.equal(judge('keep', '-1'), 'ok')
  assert.equal(judge('keep', '1GB'), 'warning')
  assert.equal(judge('invalidateSlot', '-1'), 'warning')
  assert.equal(judge('invalidateSlot', '1GB'), 'ok')
})
