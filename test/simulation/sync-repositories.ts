/** Two repositories in memory, and what must be the same in both after a sync. */
import assert from 'node:assert/strict'
import { now } from '../../src/base/clock.ts'
import { SILENT } from '../../src/base/progress.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { type SyncOptions, type SyncReport, sync } from '../../src/sync/sync.ts'
import { rebuildBackup } from './backup-rebuild.ts'
import { CLUSTER, type Objects } from './verify-repository.ts'

export async function newObjects(): Promise<Objects> {
  const objects: Objects = new Map()
  await createRepository(openMemoryStorage(objects), now())
  return objects
}

export async function syncStorages(
  source: Storage,
  target: Storage,
  more: Partial<SyncOptions> = {},
): Promise<SyncReport> {
  const names = { source: 'a', target: 'b' }
  const signal = new AbortController().signal
  return await sync({ source, target, names, cluster: CLUSTER, progress: SILENT, signal, ...more })
}

export async function syncObjects(
  source: Objects,
  target: Objects,
  more: Partial<SyncOptions> = {},
): Promise<SyncReport> {
  return await syncStorages(openMemoryStorage(source), openMemoryStorage(target), more)
}

/** Objects that two repositories of a cluster have in common. */
export function sharedObjects(objects: Objects): Map<string, string> {
  const own =
    /^tidemark\.repository$|\/(holds|condemned|writers|reserved)\/|verified\.seen$|\.damaged$/
  const shared = [...objects].filter(([key]) => !own.test(key))
  return new Map(shared.map(([key, bytes]) => [key, Buffer.from(bytes).toString('base64')]))
}

export function assertEqual(source: Objects, target: Objects): void {
  const [a, b] = [sharedObjects(source), sharedObjects(target)]
  assert.deepEqual([...b.keys()].sort(), [...a.keys()].sort())
  for (const [key, bytes] of a) assert.ok(b.get(key) === bytes, `${key} differs`)
}

/** Every record that is listed rebuilds from this repository alone. Gives their ids. */
export async function rebuildAll(objects: Objects): Promise<string[]> {
  const storage = openMemoryStorage(objects)
  const { backups } = await listBackups(storage, CLUSTER)
  for (const record of backups) await rebuildBackup(storage, record)
  return backups.map(({ id }) => id)
}

export function holdsOf(objects: Objects): string[] {
  return [...objects.keys()].filter((key) => key.includes('/holds/'))
}
