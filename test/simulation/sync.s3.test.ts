/** Sync and heal between a file system and a real S3 server, in both directions. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { now } from '../../src/base/clock.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { type S3Server, startS3Server, whyNoS3Server } from '../harness/s3-server.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { sharedObjects, syncStorages } from './sync-repositories.ts'
import { makeRepository } from './verify-repository.ts'

let server: S3Server
const skip = whyNoS3Server() ?? false

async function assertSame(from: Storage, to: Storage, keys: readonly string[]): Promise<void> {
  for (const key of keys) assert.deepEqual(await to.read(key), await from.read(key), key)
}

describe('a real S3 server', { skip }, () => {
  before(async () => {
    server = await startS3Server()
  })
  after(async () => await server.stop())

  test('a sync to it and back, and what is damaged there is healed', async () => {
    const { objects } = await makeRepository()
    const posix = await openStorage({ url: `file://${temporaryDirectory()}` })
    await createRepository(posix, now())
    for (const [key, bytes] of objects) {
      if (key !== 'tidemark.repository') await posix.write(key, bytes)
    }
    const bucket = await server.createBucket()
    const s3 = await openStorage({ url: `s3://${bucket}/there`, s3: server.settings })
    await createRepository(s3, now())
    const keys = [...sharedObjects(objects).keys()]
    const report = await syncStorages(posix, s3)
    assert.deepEqual(report.problems, [])
    await assertSame(posix, s3, keys)
    for (const key of keys) {
      const bytes = Buffer.from((await s3.read(key)) as Uint8Array)
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 0x10
      await s3.write(key, bytes)
    }
    const healing = await syncStorages(posix, s3, { heal: true })
    assert.deepEqual(healing.problems, [])
    assert.deepEqual(healing.healed.map(({ key }) => key).sort(), keys.sort())
    await assertSame(posix, s3, keys)
    const back = await openStorage({ url: `file://${temporaryDirectory()}` })
    await createRepository(back, now())
    assert.deepEqual((await syncStorages(s3, back)).problems, [])
    await assertSame(posix, back, keys)
    await Promise.all([posix, s3, back].map(async (storage) => await storage.close()))
  })
})
