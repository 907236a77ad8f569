import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type S3Server, startS3Server, whyNoS3Server } from '../../test/harness/s3-server.ts'
import { testSealing } from '../../test/harness/sealing.ts'
import { describeStorageContract, keysOf } from '../../test/harness/storage-contract.ts'
import { openCountingStorage } from './counting-storage.ts'
import { makeBandwidthLimit, openLimitedStorage } from './limited-storage.ts'
import { openStorage } from './open-storage.ts'
import { openRetryingStorage } from './retrying-storage.ts'
import { openS3Storage } from './s3-storage.ts'
import { openSealedStorage } from './sealed-storage.ts'
import { makeStorageMeter, readMeter } from './storage-meter.ts'
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

  test('a listing of several pages, over the storage that is opened by its URL', async () => {
    const bucket = await server.createBucket()
    const meter = makeStorageMeter()
    const storage = await openStorage({ url: `s3://${bucket}`, s3: server.settings, meter })
    await storage.write('tidemark.repository', Buffer.from('x'), { createOnly: true })
    const keys = Array.from({ length: 1100 }, (_, index) => `k/${String(index).padStart(4, '0')}`)
    const queue = [...keys]
    const writers = Array.from({ length: 16 }, async () => {
      for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
        await storage.write(key, Buffer.from('x'))
      }
    })
    await Promise.all(writers)
    assert.deepEqual(await keysOf(storage, 'k/'), keys)
    await storage.removeMany(keys)
    assert.deepEqual(await server.allKeys(bucket), ['tidemark.repository'])
    await storage.close()
    // One listing looks whether the place is empty, two are the pages.
    assert.deepEqual(Object.fromEntries(readMeter(meter).requests), {
      PutObject: 1101,
      ListObjectsV2: 3,
      DeleteObjects: 2,
    })
  })

  describeContract('S3', (storage) => storage)
  describeContract('S3 with retries', openRetryingStorage)
  describeContract('S3, sealed', (storage) => openSealedStorage(storage, testSealing()))
  describeContract('S3, all wrappers', (storage) =>
    openCountingStorage(openLimitedStorage(openRetryingStorage(storage), makeBandwidthLimit(1e9))),
  )
})
