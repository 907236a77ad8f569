/**
 * Servers that come from one another and archive at once, each stopped and continued at any call:
 * a timeline has one history at every moment, and no byte of any server is lost.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDirectorySource } from '../../src/archive/adoption-source.ts'
import { adoptWal } from '../../src/archive/adopt-wal.ts'
import { planAdoption } from '../../src/archive/plan-adoption.ts'
import { isFailure } from '../../src/base/failure.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { interleave } from '../harness/interleaving.ts'
import { MB } from '../harness/wal-builder.ts'
import {
  archived,
  assertOneHistory,
  newArchive,
  partedServers,
  PLACE,
  quarantinedContents,
  type WritingServer,
} from '../harness/writing-server.ts'

/** A server and a clone of it that parted in segment 2; segment 1 is archived. */
async function twoServers(): Promise<[Storage, WritingServer, WritingServer]> {
  const storage = await newArchive()
  const { server, clone } = partedServers(3)
  await server.push(storage, 1n)
  server.finish(1n, 'done')
  for (const one of [server, clone]) {
    for (const segment of [2n, 3n]) one.finish(segment, 'ready')
  }
  return [storage, server, clone]
}

/** As PostgreSQL's archiver: in order, and not behind a file that was refused. */
const archiver = (server: WritingServer) => ({
  name: server.data,
  run: async (storage: Storage): Promise<bigint[]> => {
    const done: bigint[] = []
    for (const segment of [2n, 3n]) {
      try {
        await server.push(storage, segment)
      } catch (error) {
        if (!isFailure(error)) throw error
        return done
      }
      done.push(segment)
    }
    return done
  },
})

/** What was acknowledged is in its place, or was set aside. */
async function assertKept(storage: Storage, server: WritingServer, done: readonly bigint[]) {
  const contents = await quarantinedContents(storage)
  for (const segment of done) {
    const there = await archived(storage, server.name(segment))
    const all = there === undefined ? contents : [there, ...contents]
    assert.ok(
      all.some((one) => one.equals(server.content(segment))),
      `${segment} is lost`,
    )
  }
}

test('two servers that archive at once: one goes on, the other is refused', async () => {
  for (let seed = 1; seed <= 15; seed++) {
    const [storage, server, clone] = await twoServers()
    const actors = [archiver(server), archiver(clone)]
    const outcomes = await interleave(storage, actors, seed, () => {})
    await assertOneHistory(storage, server, [1n, 2n, 3n])
    const done = outcomes.map(({ result }) =>
      result?.status === 'fulfilled' ? (result.value as bigint[]) : [],
    )
    assert.deepEqual(done.map(({ length }) => length).sort(), [0, 2], `seed ${seed}`)
    await assertKept(storage, server, done[0] ?? [])
    await assertKept(storage, clone, done[1] ?? [])
  }
})

test('wal adopt beside both archivers ends in one history, and nothing is lost', async () => {
  for (let seed = 1; seed <= 15; seed++) {
    const [storage, server, clone] = await twoServers()
    await clone.push(storage, 2n)
    const adopt = {
      name: 'adopt',
      run: async (seen: Storage): Promise<void> => {
        const request = { ...PLACE, timeline: 1, walSegmentSizeBytes: MB }
        const source = await openDirectorySource(request, server.data)
        await adoptWal(seen, await planAdoption(seen, { ...request, source }))
      },
    }
    const actors = [archiver(server), archiver(clone), adopt]
    const outcomes = await interleave(storage, actors, seed, () => {})
    const [own, others] = outcomes.map(({ result }) =>
      result?.status === 'fulfilled' ? ((result.value ?? []) as bigint[]) : [],
    )
    await assertKept(storage, server, own ?? [])
    await assertKept(storage, clone, [2n, ...(others ?? [])])
    // Both are asked again; a late one of the clone may need a second decision.
    const again = await archiver(server).run(storage)
    if (again.length < 2) await adopt.run(storage)
    assert.equal((await archiver(server).run(storage)).length, 2, `seed ${seed}`)
    assert.equal((await archiver(clone).run(storage)).length, 0, `seed ${seed}`)
    await assertOneHistory(storage, server, [1n, 2n, 3n])
    await assertKept(storage, clone, [2n, ...(others ?? [])])
  }
})
