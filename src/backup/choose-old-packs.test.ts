import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BackupRecord } from '../repository/backup-record.ts'
import { chooseOldPacks } from './choose-old-packs.ts'

const DAY = 86_400_000
const AT = new Date('2026-11-21T00:00:00Z')
const MIB = 1024 ** 2

function ago(days: number): string {
  return new Date(AT.getTime() - days * DAY).toISOString()
}

/** Packs by name, with their age in days and their size in MiB. */
function choose(packs: Record<string, [number | undefined, number]>, leastMib = 0): string[] {
  const all = Object.entries(packs)
  const base = {
    startedAt: ago(95),
    packs: all.map(([id, [age]]) => (age === undefined ? { id } : { id, since: ago(age) })),
  } as unknown as BackupRecord
  const sizes = new Map(all.map(([id, [, mib]]) => [id, mib * MIB]))
  return [...chooseOldPacks(base, sizes, AT, 90 * DAY, leastMib * MIB)]
}

test('only what is older than the limit, oldest first', () => {
  const packs = { a: [91, 10], b: [90, 10], c: [200, 10], d: [1, 1000] } as const
  assert.deepEqual(choose(packs as never), ['c', 'a'])
})

test('a tenth of the bytes for each backup, at least one pack', () => {
  const packs = Object.fromEntries(
    Array.from({ length: 50 }, (_, n) => [`p${n}`, [100 + n, 10]]),
  ) as Record<string, [number, number]>
  assert.deepEqual(choose(packs), ['p49', 'p48', 'p47', 'p46', 'p45'])
  assert.deepEqual(choose({ only: [100, 30] }), ['only'])
})

test('of a small cluster as much as the least budget allows', () => {
  const packs = { a: [91, 10], b: [92, 10], c: [93, 10], d: [94, 10] } as const
  assert.deepEqual(choose(packs as never, 30), ['d', 'c', 'b'])
})

test('a pack of unknown age is as old as the record that names it', () => {
  assert.deepEqual(choose({ a: [undefined, 1], b: [91, 1] }, 10), ['a', 'b'])
})
