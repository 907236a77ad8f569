/**
 * Dumps that are written beside expiries of dumps and of backups, in orders that a seed decides: no
 * listed dump ever lacks a pack, at no call to the storage, and what is left is read to its end.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { now } from '../../src/base/clock.ts'
import { Failure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import { expireDumps } from '../../src/dump/expire-dumps.ts'
import { syncDumps } from '../../src/dump/sync-dumps.ts'
import { proveDump } from '../../src/dump/read-dump.ts'
import { decodeDumpRecord } from '../../src/repository/dump-record.ts'
import { dumpPackKey, parseDumpKey } from '../../src/repository/keys.ts'
import { listDumps } from '../../src/repository/read-dumps.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { expire } from '../../src/retention/expire.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { groupOf, madeUpRows, writeMadeUpDump } from '../harness/dumped-files.ts'
import { assertDumpsWhole, assertNoDumpGarbage } from '../harness/hand-made-dump.ts'
import { randomOf } from '../harness/hand-made-backup.ts'
import { type Actor, interleave } from '../harness/interleaving.ts'
import { declareWritersDead } from './expiry-scene.ts'

const SEEDS = Number(process.env['TIDEMARK_SEEDS'] ?? 40)
const FIRST_SEED = Number(process.env['TIDEMARK_SEED'] ?? 1)

const objects = new Map<string, Uint8Array>()
const DUMPS = 3

/** Some rows of the dump before come again, others are new, in several packs. */
async function writeDump(storage: Storage, step: number): Promise<void> {
  const rows = Buffer.concat([madeUpRows(300_000), madeUpRows(200_000, 2 + step)])
  await writeMadeUpDump(groupOf([storage]), { files: { '1.dump': rows }, packTargetBytes: 60_000 })
}

before(async () => {
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  for (let step = 0; step < DUMPS; step++) await writeDump(storage, step)
})

async function expireTo(storage: Storage, keepLast: number): Promise<void> {
  const { signal } = new AbortController()
  const policy = { keepLast, keepDays: 0 }
  const request = { storage, cluster: 'main', apply: true, progress: SILENT, signal }
  await expireDumps({ ...request, policy })
}

async function expireBackups(storage: Storage): Promise<void> {
  const { signal } = new AbortController()
  const request = { storage, cluster: 'main', apply: true, progress: SILENT, signal }
  await expire({ ...request, policy: undefined })
}

/** Looks at memory directly after every call. */
function watch(stored: ReadonlyMap<string, Uint8Array>): (call: string) => void {
  const known = new Map<string, readonly string[]>()
  return (call) => {
    for (const [key, bytes] of stored) {
      if (parseDumpKey(key) === undefined) continue
      let packs = known.get(key)
      if (packs === undefined) {
        packs = decodeDumpRecord(key, bytes).packs.map(({ id }) => dumpPackKey('main', id))
        known.set(key, packs)
      }
      for (const pack of packs) assert.ok(stored.has(pack), `${call}: ${key} lost ${pack}`)
    }
  }
}

interface Outcomes {
  published: number
  refused: number
  expired: number
}

function chooseActors(random: (below: number) => number): Actor[] {
  const keepLast = 1 + random(2)
  const dump = async (storage: Storage) => await writeDump(storage, 10)
  const run = async (storage: Storage) => await expireTo(storage, keepLast)
  const actors: Actor[] = [
    { name: 'dump', run: dump },
    { name: 'expiry', run },
    ...(random(2) === 0 ? [{ name: 'second dump', run: dump }] : []),
    ...(random(2) === 0 ? [{ name: 'second expiry', run }] : []),
    ...(random(3) === 0 ? [{ name: 'expiry of backups', run: expireBackups }] : []),
  ]
  const victim = random(actors.length + 1)
  const stopAt = random(60)
  const length = random(3) === 0 ? {} : { stopFor: random(120) }
  const stopped = { stopAt, ...length, isKilled: random(4) === 0 }
  return actors.map((actor, at) => (at === victim ? { ...actor, ...stopped } : actor))
}

async function playSeed(seed: number, outcomes: Outcomes): Promise<void> {
  const random = randomOf(seed)
  const stored = new Map(objects)
  const storage = openMemoryStorage(stored)
  for (const { name, result } of await interleave(
    storage,
    chooseActors(random),
    seed,
    watch(stored),
  )) {
    if (result?.status === 'rejected') {
      assert.ok(result.reason instanceof Failure, String(result.reason?.stack))
      outcomes.refused++
    } else if (result !== undefined) outcomes[name.endsWith('dump') ? 'published' : 'expired']++
  }
  for (const record of (await listDumps(storage, 'main')).dumps) {
    assert.deepEqual(await proveDump(storage, record), [], record.id)
  }
  await declareWritersDead(storage)
  await expireTo(storage, 1)
  assert.equal((await assertDumpsWhole(storage)).length, 1)
  await assertNoDumpGarbage(storage)
}

test('dumps and expiries in any order lose nothing and leave nothing', async () => {
  const outcomes = { published: 0, refused: 0, expired: 0 }
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    try {
      await playSeed(seed, outcomes)
    } catch (error) {
      throw new Error(`TIDEMARK_SEED=${seed} TIDEMARK_SEEDS=1`, { cause: error })
    }
  }
  if (SEEDS < 30) return
  assert.ok(outcomes.published > SEEDS / 2, JSON.stringify(outcomes))
  assert.ok(outcomes.expired > SEEDS / 2, JSON.stringify(outcomes))
})

/** The other side has what each dump needs, and lacks the last one. */
async function makeOther(): Promise<Map<string, Uint8Array>> {
  const made = new Map<string, Uint8Array>()
  await createRepository(openMemoryStorage(made), now())
  const last = (await listDumps(openMemoryStorage(objects), 'main')).dumps.at(-1)
  for (const [key, bytes] of objects) {
    if (key.includes('/dump') && parseDumpKey(key) !== last?.id) made.set(key, bytes)
  }
  return made
}

async function syncSides(source: Storage, target: Storage): Promise<void> {
  await syncDumps({
    source,
    target,
    names: { source: 'source', target: 'target' },
    cluster: 'main',
    dryRun: false,
    heal: false,
    policy: undefined,
    progress: SILENT,
    signal: new AbortController().signal,
  })
}

for (const side of ['source', 'target'] as const) {
  test(`a sync beside an expiry of its ${side} lists nothing that lacks a pack`, async () => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS / 2; seed++) {
      const sides = { source: new Map(objects), target: await makeOther() }
      const other = openMemoryStorage(side === 'source' ? sides.target : sides.source)
      const sync = async (gated: Storage) => {
        await (side === 'source' ? syncSides(gated, other) : syncSides(other, gated))
      }
      const random = randomOf(seed)
      const actors: Actor[] = [
        { name: 'sync', run: sync, stopAt: random(40), stopFor: random(60) },
        { name: 'expiry', run: async (gated) => await expireTo(gated, 1) },
        { name: 'dump', run: async (gated) => await writeDump(gated, 20) },
      ]
      const storage = openMemoryStorage(sides[side])
      for (const { result } of await interleave(storage, actors, seed, watch(sides[side]))) {
        const reason: unknown = result?.status === 'rejected' ? result.reason : undefined
        assert.ok(reason === undefined || reason instanceof Failure, `seed ${seed}: ${reason}`)
      }
      for (const stored of [sides.source, sides.target]) {
        const proved = openMemoryStorage(stored)
        for (const record of (await listDumps(proved, 'main')).dumps) {
          assert.deepEqual(await proveDump(proved, record), [], `seed ${seed}: ${record.id}`)
        }
      }
    }
  })
}
