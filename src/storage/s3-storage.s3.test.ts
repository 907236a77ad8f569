import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type S3Server, startS3Server, whyNoS3Server } from '../../test/harness/s3-server.ts'
import { describeStorageContract } from '../../test/harness/storage-contract.ts'
import { openCountingStorage } from './counting-storage.ts'
import { makeBandwidthLimit, openLimitedStorage } from './limited-storage.ts'
import { openStorage } from './open-storage.ts'
import { openRetryingStorage } from './retrying-storage.ts'
import { openS3Storage } from './s3-storage.ts'
import type { Storage } from './storage.ts'

let server: S3Server
const skip = whyNoS3Server() ?? false

type Wrap = (storage: Storage) => Storage

function describeContract(name: string, wrap: Wrap): void {
  describeStorageContract(name, async () => {
    const bucket = await server.createBucket()
    const opened: Storage[] = []
    const openAgain = async (): Promise<Storage> => {
      const storage = wrap(await openS3Storage(`s3://${bucket}/some/where`, server.settings))
      opened.push(storage)
      return storage
    }
    const storage = await openAgain()
    await storage.write('tidemark.repository', Buffer.from('x'))
    return {
      storage,
      openAgain,
      dispose: async () => {
        await Promise.all(opened.map(async (each) => await each.close()))
        const keys = await server.allKeys(bucket)
        assert.deepEqual(
          keys.filter((key) => key.includes('.incoming')),
          [],
        )
        assert.deepEqual(await server.openUploads(bucket), [])
      },
    }
  })
}

describe('a real S3 server', { skip }, () => {
  before(async () => {
    server = await startS3Server()
  })
  after(async () => await server.stop())

  describeContract('S3', (storage) => storage)
  describeContract('S3 with retries', openRetryingStorage)
  describeContract('S3, all wrappers', (storage) =>
    openCountingStorage(openLimitedStorage(openRetryingStorage(storage), makeBandwidthLimit(1e9))),
  )
})
void test
void openStorage
