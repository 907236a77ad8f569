/**
 * A sync that is cut off at every single call to either storage, before and after the call has
 * its effect: never a listed record that does not rebuild, and a clean re-run converges.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { Failure } from '../../src/base/failure.ts'
import { backupKey, packKey } from '../../src/repository/keys.ts'
import { decodeEnvelope, encodeEnvelope } from '../../src/repository/envelope.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import type { SyncOptions } from '../../src/sync/sync.ts'
import { damageObject, forEachCrashPoint, openFaultyStorage } from '../harness/faulty-storage.ts'
import {
  assertEqual,
  holdsOf,
  newObjects,
  rebuildAll,
  syncObjects,
  syncStorages,
} from './sync-repositories.ts'
import { CLUSTER, makeRepository, type Objects, type SmallRepository } from './verify-repository.ts'

let whole: SmallRepository

before(async () => {
  whole = await makeRepository()
})

interface Pair {
  readonly source: Objects
  readonly target: Objects
}

/** Empty, and one that has the first backup, lacks some WAL and has damage of every kind. */
const STARTS: Record<string, { make: () => Promise<Pair>; options: Partial<SyncOptions> }> = {
  'an empty target': {
    make: async () => ({ source: new Map(whole.objects), target: await newObjects() }),
    options: {},
  },
  'a target that is behind and damaged': { make: makeBehind, options: { heal: true } },
}

async function makeBehind(): Promise<Pair> {
  const source: Objects = new Map(whole.objects)
  const target = await newObjects()
  await syncObjects(source, target)
  const [first, second] = whole.backups
  assert.ok(first !== undefined && second !== undefined)
  const storage = openMemoryStorage(target)
  await damageObject(storage, backupKey(CLUSTER, second.id), { kind: 'delete' })
  await damageObject(storage, backupKey(CLUSTER, first.id), { kind: 'flip-bit', byte: 60 })
  const [pack, other] = first.packs.map(({ id }) => packKey(CLUSTER, id))
  await damageObject(storage, pack ?? '', { kind: 'flip-bit', byte: 100 })
  await damageObject(storage, other ?? '', { kind: 'truncate', sizeBytes: 200 })
  const wal = [...target.keys()].filter((key) => key.endsWith('.wal'))
  await damageObject(storage, wal[0] ?? '', { kind: 'flip-bit', byte: -1 })
  await damageObject(storage, wal[1] ?? '', { kind: 'delete' })
  const history = [...target.keys()].find((key) => key.endsWith('.history'))
  await damageObject(storage, history ?? '', { kind: 'flip-bit', byte: 70 })
  return { source, target }
}

/** The process that wrote the holds is gone. */
async function declareWritersDead(objects: Objects): Promise<void> {
  for (const key of holdsOf(objects)) {
    const raw = decodeEnvelope(key, 'HOLD', objects.get(key) as Uint8Array)
    const hold = JSON.parse(Buffer.from(raw).toString()) as { writer: string }
    const dead = { ...hold, writer: hold.writer.replace(/\d+$/, '1') }
    objects.set(key, encodeEnvelope('HOLD', Buffer.from(JSON.stringify(dead))))
  }
}

/** A backup whose objects were damaged from the start may be listed and not rebuild. */
async function assertListed({ target }: Pair, isDamaged: boolean): Promise<void> {
  if (isDamaged) return
  await rebuildAll(target)
}

for (const [name, { make, options }] of Object.entries(STARTS)) {
  for (const side of ['source', 'target'] as const) {
    test(`${name}: a sync that crashes at any call of the ${side}`, async () => {
      let pair: Pair | undefined
      const crashes = await forEachCrashPoint({
        // Every call that changes something, and some of those that read.
        crashAt: ({ operation, number }) => !/read|size/i.test(operation) || number % 5 === 0,
        prepare: async () => {
          pair = await make()
          return openMemoryStorage(pair[side])
        },
        run: async (faulty: Storage) => {
          assert.ok(pair !== undefined)
          const other = openMemoryStorage(pair[side === 'source' ? 'target' : 'source'])
          await (side === 'source'
            ? syncStorages(faulty, other, options)
            : syncStorages(other, faulty, options))
        },
        check: async () => {
          assert.ok(pair !== undefined)
          await assertListed(pair, options.heal === true)
          await declareWritersDead(pair.source)
          await declareWritersDead(pair.target)
          const report = await syncObjects(pair.source, pair.target, options)
          assert.deepEqual(report.problems, [])
          assertEqual(pair.source, pair.target)
          assert.deepEqual([...holdsOf(pair.source), ...holdsOf(pair.target)], [])
          assert.equal((await rebuildAll(pair.target)).length, 2)
        },
      })
      assert.ok(crashes > 20, `${crashes} crashes`)
    })

    test(`${name}: a ${side} that refuses any call ends the sync with its failure`, async () => {
      let ended = 0
      for (let at = 1; ; at += 1) {
        const pair = await make()
        const faulty = openFaultyStorage(openMemoryStorage(pair[side]), [{ at, kind: 'refused' }])
        const from = side === 'source' ? faulty : openMemoryStorage(pair.source)
        const to = side === 'target' ? faulty : openMemoryStorage(pair.target)
        const outcome = await syncStorages(from, to, options).catch((error: unknown) => error)
        if (faulty.trace.length < at) break
        if (outcome instanceof Error) {
          assert.ok(outcome instanceof Failure, String(outcome))
          assert.equal(outcome.code, 'TM1501')
          ended++
        }
        await assertListed(pair, options.heal === true)
        await declareWritersDead(pair.source)
        await declareWritersDead(pair.target)
        await syncObjects(pair.source, pair.target, options)
        assertEqual(pair.source, pair.target)
      }
      assert.ok(ended > 10, `${ended} refusals`)
    })
  }
}
