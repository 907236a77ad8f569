/**
 * Backups into two repositories in random turns with all that changes them: each expires and
 * repacks by itself, is away, comes back as it was days ago, is synced; packs grow too old and
 * everything is stored anew. Whatever one of them lists restores from it alone, at any time.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { BackupResult } from '../../src/backup/backup-context.ts'
import { takeBackup } from '../../src/backup/take-backup.ts'
import { now } from '../../src/base/clock.ts'
import { SILENT } from '../../src/base/progress.ts'
import { listBackups } from '../../src/repository/read-backups.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { openFaultyStorage } from '../harness/faulty-storage.ts'
import { randomOf } from '../harness/hand-made-backup.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { pages, SimulatedCluster } from './backup-cluster.ts'
import { rebuildBackup } from './backup-rebuild.ts'
import { simulatedOptions, targetsIn } from './take-simulated-backup.ts'
import { declareWritersDead, expireAll } from './expiry-scene.ts'
import { syncStorages } from './sync-repositories.ts'

const SHOWN = ['base/5/16384', 'base/5/16391', 'pg_xact/0000', 'global/pg_control']
const STEPS = 10
const SEEDS = [2, 10]

type Objects = Map<string, Uint8Array>

class World {
  readonly cluster = new SimulatedCluster(temporaryDirectory())
  readonly repositories: Objects[] = []
  readonly states = new Map<string, Map<string, Buffer>>()
  readonly random: (below: number) => number
  readonly trace: string[] = []
  #old: Objects | undefined
  #changes = 0

  constructor(seed: number) {
    this.random = randomOf(seed)
  }

  async begin(): Promise<void> {
    for (let number = 0; number < 2; number++) {
      const objects: Objects = new Map()
      await createRepository(openMemoryStorage(objects), now())
      this.repositories.push(objects)
    }
    await this.backUp()
  }

  storage(number: number): Storage {
    return openMemoryStorage(this.repositories[number])
  }

  change(): void {
    this.#changes++
    this.cluster.advance(24)
    const table = readFileSync(join(this.cluster.directory, 'base/5/16384'))
    const first = this.random(50)
    table.fill(this.#changes + 1, 8192 * first, 8192 * (first + 1 + this.random(12)))
    this.cluster.write('base/5/16384', table)
    if (this.random(2) === 0) this.cluster.write('base/5/16391', pages(3, 100 + this.#changes))
    this.cluster.write('pg_xact/0000', pages(1, 200 + this.#changes))
  }

  async backUp(more: object = {}, isAway = false): Promise<BackupResult> {
    this.change()
    const fault = { at: 1 + this.random(40), kind: 'refused' } as const
    const storages = [
      this.storage(0),
      isAway ? openFaultyStorage(this.storage(1), [fault]) : this.storage(1),
    ]
    const options = {
      ...more,
      targets: targetsIn(storages, [0]),
      ...simulatedOptions(this.cluster),
    }
    const result = await takeBackup(options, SILENT, new AbortController().signal)
    const state = SHOWN.map((path) => {
      return [path, readFileSync(join(this.cluster.directory, path))] as const
    })
    this.states.set(result.record.id, new Map(state))
    this.trace.push(result.targets.map(({ outcome }) => outcome).join('+'))
    return result
  }

  /** One of them is put back as it was. */
  travelBack(): void {
    if (this.#old === undefined) this.#old = new Map(this.repositories[1])
    else {
      this.repositories[1] = this.#old
      this.#old = undefined
    }
  }

  async step(): Promise<void> {
    const number = this.random(2)
    const choice = this.random(9)
    this.trace.push(`${choice}/${number}`)
    if (choice <= 1) await this.backUp()
    else if (choice === 2) await this.backUp({}, true)
    else if (choice === 3) await this.backUp({ full: true, rewrite: true })
    else if (choice === 4) await this.backUp({ maxPackAgeMs: 1, leastRenewalBytes: 1 })
    else if (choice === 5) this.travelBack()
    else if (choice === 6) await syncStorages(this.storage(number), this.storage(1 - number))
    else {
      await declareWritersDead(this.storage(number))
      await expireAll(this.storage(number), this, { last: 1 + this.random(3) })
    }
  }

  async assertWhole(): Promise<void> {
    for (let number = 0; number < 2; number++) {
      const { backups, damaged } = await listBackups(this.storage(number), 'main')
      assert.deepEqual(damaged, [])
      assert.ok(number === 1 || backups.length > 0)
      for (const record of backups) {
        const files = await rebuildBackup(this.storage(number), record)
        for (const [path, bytes] of this.states.get(record.id) ?? []) {
          assert.ok(files.get(path)?.bytes?.equals(bytes), `${path} differs in ${record.id}`)
        }
      }
    }
  }
}

for (const seed of SEEDS) {
  test(`whatever either lists is whole: ${seed}`, async () => {
    const world = new World(seed)
    await world.begin()
    try {
      for (let step = 0; step < STEPS; step++) {
        await world.step()
        await world.assertWhole()
      }
    } catch (error) {
      throw new Error(`after ${world.trace.join(', ')}`, { cause: error })
    }
  })
}
