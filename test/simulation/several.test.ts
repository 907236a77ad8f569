/**
 * A backup into two repositories, of which either is refused, full or cut off at every single
 * call. What is listed in one must be whole out of that one alone, whatever the other went
 * through.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { BackupResult } from '../../src/backup/backup-context.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import type { TargetOutcome } from '../../src/backup/targets.ts'
import { now, sleep } from '../../src/base/clock.ts'
import { Failure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import { expire } from '../../src/retention/expire.ts'
import { sync } from '../../src/sync/sync.ts'
import { decodeEnvelope, encodeEnvelope } from '../../src/repository/envelope.ts'
import type { Hold } from '../../src/repository/holds.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { listPacks } from '../../src/repository/write-backup.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import {
  collect,
  CrashError,
  type Fault,
  openFaultyStorage,
  type ProcessLife,
  type StorageCall,
} from '../harness/faulty-storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SimulatedCluster } from './backup-cluster.ts'
import { rebuildBackup } from './backup-rebuild.ts'
import { simulatedOptions, targetsIn } from './take-simulated-backup.ts'
import { verifyStorage } from './verify-repository.ts'

type Objects = ReadonlyMap<string, Uint8Array>
type State = ReadonlyMap<string, Buffer>

const SHOWN = ['base/5/16384', 'base/5/16390', 'base/5/16391', 'pg_xact/0000', 'global/pg_control']

function readState(cluster: SimulatedCluster): State {
  return new Map(SHOWN.map((path) => [path, readFileSync(join(cluster.directory, path))]))
}

async function backUp(
  storages: readonly Storage[],
  cluster: SimulatedCluster,
  required: readonly number[] = [0],
): Promise<BackupResult> {
  const options = {
    targets: targetsIn(storages, required),
    ...simulatedOptions(cluster),
  }
  return await takeBackup(options, SILENT, new AbortController().signal)
}

const outcomesOf = ({ targets }: BackupResult): TargetOutcome[] =>
  targets.map(({ outcome }) => outcome)

interface Scene {
  readonly cluster: SimulatedCluster
  /** Of two repositories that have one backup in common. */
  readonly repositories: readonly Objects[]
  readonly states: Map<string, State>
}

async function emptyRepository(): Promise<Map<string, Uint8Array>> {
  const objects = new Map<string, Uint8Array>()
  await createRepository(openMemoryStorage(objects), now())
  return objects
}

async function makeScene(): Promise<Scene> {
  const cluster = new SimulatedCluster(temporaryDirectory())
  cluster.write('big.log', Buffer.alloc(40_000, 'x'))
  // So that the files that do not change are not even read by the second backup.
  await sleep(2100)
  const repositories = [await emptyRepository(), await emptyRepository()]
  const states = new Map<string, State>()
  const scene = { cluster, repositories, states }
  const { record } = await backUp(repositories.map(openMemoryStorage), cluster)
  states.set(record.id, readState(cluster))
  change(scene, 20)
  return scene
}

function change({ cluster }: Scene, seed: number): void {
  cluster.write('base/5/16384', pages(60, 3).fill(seed, 8192 * 5, 8192 * 6))
  cluster.write('base/5/16390', pages(4, seed))
  cluster.write('pg_xact/0000', pages(1, seed + 1))
}

/** The ids of all that a repository lists, each of them rebuilt out of it alone. */
async function assertWhole(storage: Storage, { states, cluster }: Scene): Promise<string[]> {
  const { backups, damaged } = await listBackups(storage, 'main')
  assert.deepEqual(damaged, [])
  for (const record of backups) {
    const files = await rebuildBackup(storage, record)
    for (const [path, bytes] of states.get(record.id) ?? readState(cluster)) {
      assert.ok(files.get(path)?.bytes?.equals(bytes), `${path} differs in ${record.id}`)
    }
  }
  return backups.map(({ id }) => id)
}

/** No hold, and no pack that no record names. */
async function assertTidy(storage: Storage): Promise<void> {
  assert.deepEqual(await collect(storage.list('clusters/main/holds/')), [])
  const { backups } = await listBackups(storage, 'main')
  const named = new Set(backups.flatMap(({ packs }) => packs.map(({ id }) => id)))
  const strays = [...(await listPacks(storage, 'main')).keys()].filter((id) => !named.has(id))
  assert.deepEqual(strays, [])
}

async function declareWritersDead(storage: Storage): Promise<void> {
  for (const { key } of await collect(storage.list('clusters/main/holds/'))) {
    const bytes = await storage.read(key)
    assert.ok(bytes !== undefined)
    const hold = JSON.parse(decodeEnvelope(key, 'HOLD', bytes).toString()) as Hold
    const dead = { ...hold, writer: hold.writer.replace(/\d+$/, '1') }
    await storage.write(key, encodeEnvelope('HOLD', Buffer.from(JSON.stringify(dead))))
  }
}

/** The run after it: both have it, and nothing is left of what went wrong. */
async function assertConverges(inner: readonly Storage[], scene: Scene): Promise<void> {
  for (const storage of inner) await declareWritersDead(storage)
  const again = await backUp(inner, scene.cluster)
  assert.deepEqual(outcomesOf(again), ['stored', 'stored'])
  for (const storage of inner) {
    assert.ok((await assertWhole(storage, scene)).includes(again.record.id))
    await assertTidy(storage)
  }
}

/** Both storages, one of them faulty; undefined when the fault was never met. */
async function runWith(scene: Scene, faulty: number, fault: Fault) {
  const inner = scene.repositories.map((objects) => openMemoryStorage(new Map(objects)))
  const life: ProcessLife = {}
  const storages = inner.map((storage, number) => {
    return openFaultyStorage(storage, number === faulty ? [fault] : [], life)
  })
  const outcome = await backUp(storages, scene.cluster).catch((error: unknown) => error)
  const trace = storages[faulty]?.trace ?? []
  const call = trace[fault.at - 1]
  if (call === undefined) return undefined
  return { inner, outcome, call, isLate: isBehindRecord(trace, fault.at) }
}

/** Was the record there before the call? Then only the hold is looked at and removed. */
function isBehindRecord(trace: readonly StorageCall[], at: number): boolean {
  const before = trace.slice(0, at - 1)
  return before.some(({ operation, key }) => operation === 'write' && key.endsWith('.record'))
}

for (const [faulty, role] of ['required', 'optional'].entries()) {
  for (const kind of ['refused', 'full'] as const) {
    test(`the ${role} repository is ${kind} at any call`, async () => {
      const scene = await makeScene()
      let met = 0
      for (let at = 1; ; at++) {
        const run = await runWith(scene, faulty, { at, kind })
        if (run === undefined) break
        met++
        const { inner, outcome, call, isLate } = run
        const what = `call ${at}, ${call.operation} ${call.key}: ${String(outcome)}`
        const lists = await Promise.all(inner.map((storage) => assertWhole(storage, scene)))
        if (outcome instanceof Failure) {
          assert.equal(faulty, 0, what)
          assert.equal(outcome.code, kind === 'full' ? 'TM1506' : 'TM1501', what)
          assert.deepEqual(
            lists.map(({ length }) => length),
            [1, 1],
            what,
          )
        } else {
          const result = outcome as BackupResult
          assert.ok(result.targets !== undefined, what)
          const expected = faulty === 1 && !isLate ? 'failed' : 'stored'
          assert.deepEqual(outcomesOf(result), ['stored', expected], what)
          assert.deepEqual(
            lists.map(({ length }) => length),
            [2, expected === 'failed' ? 1 : 2],
          )
          if (faulty === 0) assert.ok(isLate, what)
        }
        await assertConverges(inner, scene)
      }
      assert.ok(met > 25, `${met} calls`)
    })
  }

  for (const when of ['before', 'after'] as const) {
    test(`a crash ${when} any call to the ${role} repository`, async () => {
      const scene = await makeScene()
      let met = 0
      for (let at = 1; ; at++) {
        const run = await runWith(scene, faulty, { at, kind: 'crash', when })
        if (run === undefined) break
        met++
        assert.ok(
          run.outcome instanceof CrashError,
          `call ${at}, ${run.call.operation} ${run.call.key}: ${String(run.outcome)}`,
        )
        for (const storage of run.inner) await assertWhole(storage, scene)
        await assertConverges(run.inner, scene)
      }
      assert.ok(met > 25, `${met} calls`)
    })
  }
}

test('a repository that was away for a backup is caught up by the next one', async () => {
  const scene = await makeScene()
  const inner = scene.repositories.map((objects) => openMemoryStorage(new Map(objects)))
  const away = openFaultyStorage(inner[1] as Storage, [{ at: 1, kind: 'refused' }])
  const missed = await backUp([inner[0] as Storage, away], scene.cluster)
  assert.deepEqual(outcomesOf(missed), ['stored', 'failed'])
  const asked = away.trace.slice(1).map(({ operation }) => operation)
  assert.ok(!asked.includes('write') && !asked.includes('openWriter'), asked.join())
  scene.states.set(missed.record.id, readState(scene.cluster))
  change(scene, 40)
  await assertConverges(inner, scene)
  const [local, offsite] = await Promise.all(inner.map((one) => assertWhole(one, scene)))
  assert.deepEqual([local?.length, offsite?.length], [3, 2])
})

test('a new repository is behind, and with it required everything is stored anew', async () => {
  const scene = await makeScene()
  const local = openMemoryStorage(new Map(scene.repositories[0]))
  const fresh = openMemoryStorage(await emptyRepository())
  const first = await backUp([local, fresh], scene.cluster)
  assert.deepEqual(outcomesOf(first), ['stored', 'behind'])
  assert.notEqual(first.record.comparedWith, undefined)
  assert.deepEqual(await assertWhole(fresh, scene), [])
  const packs = [...(await listPacks(fresh, 'main')).keys()]
  assert.ok(
    packs.length > 0 && packs.every((id) => first.record.packs.some((one) => one.id === id)),
  )
  const second = await backUp([local, fresh], scene.cluster, [0, 1])
  assert.deepEqual(outcomesOf(second), ['stored', 'stored'])
  assert.equal(second.record.comparedWith, undefined)
  assert.deepEqual(await assertWhole(fresh, scene), [second.record.id])
})

test('in a repository that is behind expiry goes on, and nothing is rebuilt in part', async () => {
  const scene = await makeScene()
  const local = openMemoryStorage(new Map(scene.repositories[0]))
  const fresh = openMemoryStorage(await emptyRepository())
  const { record } = await backUp([local, fresh], scene.cluster)
  const { signal } = new AbortController()
  assert.deepEqual((await verifyStorage(fresh, { kind: 'full' }, true)).rebuilt, [])
  const names = { source: 'a', target: 'b' }
  const sides = { source: local, target: fresh, names, cluster: 'main' }
  const { problems } = await sync({ ...sides, progress: SILENT, signal })
  assert.deepEqual(problems, [])
  assert.ok((await assertWhole(fresh, { ...scene })).includes(record.id))
  const later = openMemoryStorage(await emptyRepository())
  await backUp([local, later], scene.cluster)
  const request = { storage: later, cluster: 'main', policy: undefined, progress: SILENT, signal }
  await expire({ ...request, apply: true })
  assert.equal((await listPacks(later, 'main')).size, 0)
})

test('what one of them has lost is stored anew, in all', async () => {
  const scene = await makeScene()
  for (const [number, objects] of scene.repositories.entries()) {
    for (const lost of [...objects.keys()].filter((key) => key.endsWith('.pack'))) {
      const inner = scene.repositories.map((each) => new Map(each))
      inner[number]?.delete(lost)
      const storages = inner.map((each) => openMemoryStorage(each))
      const result = await backUp(storages, scene.cluster)
      assert.deepEqual(outcomesOf(result), ['stored', 'stored'])
      for (const storage of storages) {
        const files = await rebuildBackup(storage, result.record)
        for (const [path, bytes] of readState(scene.cluster)) {
          assert.ok(files.get(path)?.bytes?.equals(bytes), `${path} without ${lost}`)
        }
      }
    }
  }
})

test('two required ones: the second fails at any call, and no success is told', async () => {
  const scene = await makeScene()
  for (let at = 1; ; at++) {
    const inner = scene.repositories.map((objects) => openMemoryStorage(new Map(objects)))
    const second = openFaultyStorage(inner[1] as Storage, [{ at, kind: 'refused' }])
    const run = backUp([inner[0] as Storage, second], scene.cluster, [0, 1])
    const outcome = await run.catch((error: unknown) => error)
    const call = second.trace[at - 1]
    if (call === undefined) break
    const isLate = isBehindRecord(second.trace, at)
    assert.equal(outcome instanceof Failure, !isLate, `call ${at}: ${call.operation} ${call.key}`)
    for (const storage of inner) await assertWhole(storage, scene)
    await assertConverges(inner, scene)
  }
})
