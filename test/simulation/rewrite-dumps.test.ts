/**
 * Dumps are sealed anew by `key rotate --rewrite`, beside an expiry that removes some of them in
 * the same moment: no record comes back without its packs, and what stays is read with the new key.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { SILENT } from '../../src/base/progress.ts'
import { expireDumps } from '../../src/dump/expire-dumps.ts'
import { proveDump } from '../../src/dump/read-dump.ts'
import { rotateDataKey } from '../../src/repository/change-keys.ts'
import type { KeySecret } from '../../src/repository/key-slots.ts'
import { dumpKey, dumpPackKey, dumpPinKey } from '../../src/repository/keys.ts'
import { labelDump, pinDump } from '../../src/repository/marks.ts'
import { listDumps } from '../../src/repository/read-dumps.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { listKeyUse, rewriteObjects } from '../../src/repository/rewrite-objects.ts'
import { ensureFirstKey, unlockRepository } from '../../src/repository/unlock.ts'
import type { Sealing } from '../../src/storage/data-keys.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { openSealedStorage } from '../../src/storage/sealed-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { groupOf, madeUpRows, writeMadeUpDump } from '../harness/dumped-files.ts'
import { type Actor, interleave } from '../harness/interleaving.ts'

const AT = new Date('2026-11-21T00:00:00Z')
const SECRET: KeySecret = { kind: 'key-file', bytes: Buffer.alloc(40, 'k'), where: '' }
const NEVER = new AbortController().signal
const SEEDS = Number(process.env['TIDEMARK_SEEDS'] ?? 20)

const objects = new Map<string, Uint8Array>()
/** Keys of the packs of each dump, by the key of its record. */
const needs = new Map<string, readonly string[]>()
let sealing: Sealing

before(async () => {
  const storage = openMemoryStorage(objects)
  await createRepository(storage, AT, true)
  await ensureFirstKey(storage, { secret: SECRET, label: '', createdAt: AT })
  const first = await unlockRepository(storage, SECRET)
  const sealed = openSealedStorage(storage, first)
  for (let step = 0; step < 3; step++) {
    const rows = Buffer.concat([madeUpRows(120_000), madeUpRows(80_000, 2 + step)])
    const dump = { files: { '1.dump': rows }, packTargetBytes: 60_000 }
    const { record } = await writeMadeUpDump(groupOf([sealed]), dump)
    const packs = record.packs.map(({ id }) => dumpPackKey('main', id))
    needs.set(dumpKey('main', record.id), packs)
    if (step > 0) continue
    await pinDump(sealed, record)
    await labelDump(sealed, record, { why: 'first' })
  }
  sealing = (await rotateDataKey(storage, first, AT)).sealing
})

async function expireTo(storage: Storage, keepLast: number): Promise<void> {
  const policy = { keepLast, keepDays: 0 }
  const request = { cluster: 'main', apply: true, progress: SILENT, signal: NEVER }
  await expireDumps({ storage: openSealedStorage(storage, sealing), policy, ...request })
}

async function listOlder(storage: Storage): Promise<string[]> {
  const sealed = openSealedStorage(storage, sealing)
  const newest = await sealed.newestKeyId()
  const older: string[] = []
  for await (const { key, keyId } of listKeyUse(sealed, 'clusters/')) {
    if (keyId !== newest) older.push(key)
  }
  return older
}

async function assertProved(storage: Storage): Promise<number> {
  const sealed = openSealedStorage(storage, sealing)
  const { dumps, unreadable } = await listDumps(sealed, 'main')
  assert.deepEqual(unreadable, [])
  for (const record of dumps) assert.deepEqual(await proveDump(sealed, record), [])
  return dumps.length
}

test('records, packs and labels of dumps are sealed anew, pins are left', async () => {
  const storage = openMemoryStorage(new Map(objects))
  assert.ok((await listOlder(storage)).length > 6)
  const done = await rewriteObjects(openSealedStorage(storage, sealing), SILENT, NEVER)
  assert.deepEqual([done.damaged, done.left], [[], 0])
  const [pin, ...rest] = await listOlder(storage)
  assert.match(pin ?? '', /\/dump-marks\/.*\.pin$/)
  assert.deepEqual(rest, [])
  assert.equal(pin?.startsWith(dumpPinKey('main', '').slice(0, -4)), true)
  assert.equal(await assertProved(storage), 3)
})

test('a rewrite and an expiry in any order lose nothing, and bring nothing back', async () => {
  let rewritten = 0
  for (let seed = 1; seed <= SEEDS; seed++) {
    const stored = new Map(objects)
    const storage = openMemoryStorage(stored)
    const look = (call: string): void => {
      for (const [record, packs] of needs) {
        if (!stored.has(record)) continue
        for (const pack of packs) assert.ok(stored.has(pack), `${call}: ${record} lost ${pack}`)
      }
    }
    const rewrite = async (gated: Storage): Promise<void> => {
      const done = await rewriteObjects(openSealedStorage(gated, sealing), SILENT, NEVER)
      rewritten += done.objects
    }
    const actors: Actor[] = [
      { name: 'rewrite', run: rewrite, stopAt: seed, stopFor: 3 * seed },
      { name: 'expiry', run: async (gated) => await expireTo(gated, 1) },
    ]
    for (const { name, result } of await interleave(storage, actors, seed, look)) {
      assert.equal(result?.status, 'fulfilled', `seed ${seed}: ${name}`)
    }
    await expireTo(storage, 1)
    assert.equal(await assertProved(storage), 2, 'the pinned one and the newest')
  }
  assert.ok(rewritten > 5 * SEEDS, `${rewritten}`)
})
