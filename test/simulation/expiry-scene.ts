/** Backups, WAL and leftovers for simulations of expiry, and what must hold of them. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { walPrefix } from '../../src/archive/wal-file-name.ts'
import { now } from '../../src/base/clock.ts'
import { SILENT } from '../../src/base/progress.ts'
import type { BackupRecord } from '../../src/repository/backup-record.ts'
import { decodeEnvelope, type EnvelopeKind, encodeEnvelope } from '../../src/repository/envelope.ts'
import { packKey } from '../../src/repository/keys.ts'
import { FRAME_KINDS } from '../../src/repository/pack-format.ts'
import { openPack } from '../../src/repository/pack-reader.ts'
import { pinBackup } from '../../src/repository/marks.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { type ExpireResult, expire } from '../../src/retention/expire.ts'
import type { RetentionPolicy } from '../../src/retention/retention-policy.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { collect } from '../harness/faulty-storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { SYSTEM, segmentName } from '../harness/wal-builder.ts'
import { pages, SimulatedCluster } from './backup-cluster.ts'
import { rebuildBackup } from './backup-rebuild.ts'
import { takeSimulatedBackup } from './take-simulated-backup.ts'

const CHANGING = ['base/5/16384', 'base/5/16391', 'pg_xact/0000', 'global/pg_control']

export type Expected = ReadonlyMap<string, Buffer>

export interface Scene {
  readonly cluster: SimulatedCluster
  readonly objects: ReadonlyMap<string, Uint8Array>
  /** What each backup must hold, by the segment that it is in. */
  readonly states: Map<string, Expected>
  /** Oldest first. */
  readonly ids: readonly string[]
}

/** Some pages change, and the pages of earlier backups stay in use beside them. */
export function change(scene: Pick<Scene, 'cluster' | 'states'>, step: number): void {
  const { cluster, states } = scene
  if (step > 0) cluster.advance(24)
  cluster.write('base/5/16391', pages(3, 100 + step))
  cluster.write('pg_xact/0000', pages(1, 200 + step))
  const table = Buffer.from(readFileSync(join(cluster.directory, 'base/5/16384')))
  table.fill(step + 1, 8192 * step * 5, 8192 * (step * 5 + 9))
  cluster.write('base/5/16384', table)
  const state = CHANGING.map((path) => {
    return [path, readFileSync(join(cluster.directory, path))] as const
  })
  states.set(segmentName({ segment: BigInt(step + 1) }), new Map(state))
}

export const BACKUPS = 4

/** Four backups, a pin on the first, a pack of nobody, and WAL that no backup reaches. */
export async function makeScene(): Promise<Scene> {
  const cluster = new SimulatedCluster(temporaryDirectory())
  const objects = new Map<string, Uint8Array>()
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  const scene = { cluster, states: new Map<string, Expected>() }
  const ids: string[] = []
  for (let step = 0; step < BACKUPS; step++) {
    change(scene, step)
    const record = await backUp(storage, cluster)
    ids.push(record.id)
    if (step === 0) await pinBackup(storage, record)
  }
  await storage.write(packKey('main', 'e'.repeat(32)), Buffer.from('nobody needs this'))
  const early = segmentName({ segment: 0n })
  const prefix = walPrefix('main', SYSTEM.toString())
  await storage.write(`${prefix}00000001/00000000/${early}.wal`, Buffer.from('early WAL'))
  return { ...scene, objects, ids }
}

export async function backUp(
  storage: Storage,
  cluster: SimulatedCluster,
  more: { readonly rewrite?: boolean } = {},
): Promise<BackupRecord> {
  return await takeSimulatedBackup(storage, cluster, more)
}

export async function expireAll(
  storage: Storage,
  { cluster }: Pick<Scene, 'cluster'>,
  policy: Partial<RetentionPolicy>,
): Promise<ExpireResult> {
  const none = { windowMs: 0, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
  return await expire({
    storage,
    cluster: 'main',
    policy: { ...none, ...policy },
    apply: true,
    progress: SILENT,
    signal: new AbortController().signal,
    at: new Date(cluster.now.getTime() + 60_000),
  })
}

/** Every backup that is listed is whole, and becomes consistent. Returns their ids. */
export async function assertListed(storage: Storage, scene: Scene): Promise<string[]> {
  const { backups, damaged } = await listBackups(storage, 'main')
  assert.deepEqual(damaged, [])
  for (const record of backups) {
    const files = await rebuildBackup(storage, record)
    const state = scene.states.get(record.walFirst)
    assert.ok(state !== undefined, record.walFirst)
    for (const [path, bytes] of state) {
      assert.ok(files.get(path)?.bytes?.equals(bytes), `${path} differs in ${record.id}`)
    }
    const name = record.walFirst
    const key = `${walPrefix('main', SYSTEM.toString())}${name.slice(0, 8)}/${name.slice(8, 16)}`
    assert.ok((await storage.size(`${key}/${name}.wal`)) !== undefined, `${name} is gone`)
  }
  return backups.map(({ id }) => id)
}

/** Nothing but what the listed backups need. */
export async function assertNoGarbage(storage: Storage): Promise<void> {
  const { backups } = await listBackups(storage, 'main')
  const needed = backups.flatMap(({ packs }) => packs.map(({ id }) => packKey('main', id)))
  const keys = (await collect(storage.list('clusters/main/'))).map(({ key }) => key)
  const ids = new Set(backups.map(({ id }) => id))
  const garbage = keys.filter((key) => {
    if (key.includes('/holds/') || key.includes('/condemned/')) return true
    if (key.includes('/packs/')) return !needed.includes(key)
    if (key.includes('/pins/')) return !ids.has(/([^/]+)\.pin$/.exec(key)?.[1] ?? '')
    return key.endsWith(`${segmentName({ segment: 0n })}.wal`)
  })
  assert.deepEqual(garbage, [])
  for (const pack of new Set(backups.flatMap(({ packs }) => packs.map(({ id }) => id)))) {
    for (const id of await readRecordCopies(storage, pack)) {
      assert.ok(ids.has(id), `pack ${pack} holds the record of ${id}, which has expired`)
    }
  }
}

async function readRecordCopies(storage: Storage, packId: string): Promise<string[]> {
  const pack = await openPack(storage, 'main', packId)
  const found: string[] = []
  for (const [ordinal, { kind }] of pack.frames.entries()) {
    if (kind !== FRAME_KINDS.record || !pack.holdsFrame(ordinal)) continue
    const raw = Buffer.from(await pack.readFrame(ordinal)).toString()
    found.push((JSON.parse(raw) as BackupRecord).id)
  }
  return found
}

/** The processes that wrote holds and condemned sets are gone: others are in their place. */
export async function declareWritersDead(storage: Storage): Promise<void> {
  const folders: readonly (readonly [string, EnvelopeKind])[] = [
    ['holds', 'HOLD'],
    ['condemned', 'COND'],
  ]
  for (const [folder, kind] of folders) {
    for (const { key } of await collect(storage.list(`clusters/main/${folder}/`))) {
      const bytes = await storage.read(key)
      assert.ok(bytes !== undefined)
      const stored = JSON.parse(decodeEnvelope(key, kind, bytes).toString()) as { writer: string }
      const dead = { ...stored, writer: stored.writer.replace(/\d+$/, '1') }
      await storage.write(key, encodeEnvelope(kind, Buffer.from(JSON.stringify(dead))))
    }
  }
}
