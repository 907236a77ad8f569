/** `wal adopt` as a process that is killed, again and again, on a real file system. */
import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { startTidemark, tidemarkOk } from '../harness/tidemark.ts'
import {
  archived,
  assertArchived,
  assertOneHistory,
  introduce,
  partedServers,
  quarantinedContents,
  type WritingServer,
} from '../harness/writing-server.ts'

const SEGMENTS = [2n, 3n, 4n, 5n]

async function contentsOf(storage: Storage, server: WritingServer): Promise<Buffer[]> {
  const contents = await quarantinedContents(storage)
  for (const segment of SEGMENTS) {
    const content = await archived(storage, server.name(segment))
    if (content !== undefined) contents.push(content)
  }
  return contents
}

test('killed after each of its steps it leaves one history, and all bytes', async () => {
  const base = temporaryDirectory()
  const repository = join(base, 'repository')
  const storage = await openStorage({ url: `file://${repository}` })
  await createRepository(storage, new Date())
  await introduce(storage)
  const config = join(base, 'tidemark.yaml')
  writeFileSync(
    config,
    `repositories:\n  local: { url: "file://${repository}" }\n` +
      `clusters:\n  main:\n    connection: "postgresql:///postgres?host=/nowhere"\n`,
  )
  const { server, clone } = partedServers(4)
  await server.push(storage, 1n)
  for (const segment of SEGMENTS) {
    await clone.push(storage, segment)
    server.finish(segment, 'ready')
    clone.finish(segment, 'done')
  }
  const words = ['--config', config, 'wal', 'adopt', '--timeline', '1', '--from']
  const adopt = (from: WritingServer): string[] => [...words, from.data, '--apply']
  const writes = (): number => readdirSync(repository, { recursive: true }).length
  const [first, second] = [server, clone]
  for (let round = 0; round < 8; round++) {
    const chosen = round % 2 === 0 ? first : second
    const before = writes()
    const running = startTidemark(adopt(chosen))
    let isOver = false
    void running.done.then(() => {
      isOver = true
    })
    // Its objects come one after the other: each round it lives for some more of them.
    while (!isOver && Math.abs(writes() - before) <= round) await sleep(1)
    running.kill('SIGKILL')
    await running.done
    await assertOneHistory(storage, server, [1n, ...SEGMENTS])
    const kept = await contentsOf(storage, server)
    for (const segment of SEGMENTS) {
      assert.ok(
        kept.some((one) => one.equals(clone.content(segment))),
        `round ${round}`,
      )
    }
  }
  await tidemarkOk(adopt(server))
  for (const segment of SEGMENTS) {
    await assertArchived(storage, server.name(segment), server.content(segment))
  }
})
