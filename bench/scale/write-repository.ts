/**
 * Puts a synthetic repository where commands can look at it. Nothing is synced: whoever
 * loses it makes it again.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Storage } from '../../src/storage/storage.ts'
import { makeObjects, type Shape } from './synthetic-repository.ts'

/** Files below a directory, written without the posix driver's fsyncs. Returns how many. */
export async function writeToDirectory(root: string, shape: Shape, endsAt: Date): Promise<number> {
  const made = new Set<string>()
  let count = 0
  for await (const { key, bytes } of makeObjects(shape, endsAt)) {
    const path = join(root, key)
    const directory = dirname(path)
    if (!made.has(directory)) {
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      made.add(directory)
    }
    writeFileSync(path, bytes, { mode: 0o600 })
    count++
  }
  return count
}

const WRITES_AT_ONCE = 16

export async function writeToStorage(
  storage: Storage,
  shape: Shape,
  endsAt: Date,
): Promise<number> {
  const running = new Set<Promise<void>>()
  let count = 0
  for await (const { key, bytes } of makeObjects(shape, endsAt)) {
    const write = storage.write(key, bytes)
    // The first one makes it a repository.
    if (count === 0) await write
    const done: Promise<void> = write.finally(() => running.delete(done))
    running.add(done)
    count++
    if (running.size >= WRITES_AT_ONCE) await Promise.race(running)
  }
  await Promise.all(running)
  return count
}
