/** Object lock, against a real S3 server: what it keeps, for how long, and what removal means. */
import { ListObjectVersionsCommand } from '@aws-sdk/client-s3'
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type S3Server, startS3Server, whyNoS3Server } from '../../test/harness/s3-server.ts'
import { now, sleep } from '../base/clock.ts'
import { isFailure } from '../base/failure.ts'
import { openStorage } from './open-storage.ts'
import type { ObjectLocks, Storage } from './storage.ts'

const DAY_MS = 86_400_000
const PACK = `clusters/main/packs/${'a'.repeat(24)}/00000000.pack`
const OTHER_PACK = `clusters/main/packs/${'a'.repeat(24)}/00000001.pack`
const RECORD = 'clusters/main/backups/20261121-120000-abcd.record'
const SEGMENT = 'clusters/main/wal/7/00000001/00000000/000000010000000000000001.wal'
const HOLD = 'clusters/main/holds/20261121-120000-abcd.hold'

let server: S3Server
const skip = whyNoS3Server() ?? false

interface Place {
  readonly storage: Storage
  readonly locks: ObjectLocks
  readonly bucket: string
}

async function open(days: number, bucket?: string): Promise<Place> {
  const name = bucket ?? (await server.createBucket('locked'))
  const s3 = { ...server.settings, objectLock: { mode: 'compliance', days } } as const
  const storage = await openStorage({ url: `s3://${name}/some/where`, s3 })
  if (bucket === undefined) await storage.write('tidemark.repository', Buffer.from('x'))
  return { storage, locks: storage.locks as ObjectLocks, bucket: name }
}

async function versions(bucket: string, key: string): Promise<number> {
  const Prefix = `some/where/${key}`
  const page = await server.client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix }))
  return (page.Versions ?? []).length + (page.DeleteMarkers ?? []).length
}

async function writeLarge(storage: Storage, key: string, mebibytes: number): Promise<void> {
  const writer = await storage.openWriter(key)
  for (let part = 0; part < mebibytes; part++) writer.append([Buffer.alloc(1024 * 1024, part)])
  await writer.commit()
}

describe('object lock', { skip }, () => {
  before(async () => {
    server = await startS3Server()
  })
  after(async () => await server.stop())

  test('a bucket with locks is proved, one without is refused, and uploads to it', async () => {
    const { storage, locks } = await open(1)
    await locks.prove()
    assert.deepEqual(await Array.fromAsync(storage.list('probe/')), [])
    const bucket = await server.createBucket()
    const s3 = { ...server.settings, objectLock: { mode: 'governance', days: 1 } } as const
    const plain = await openStorage({ url: `s3://${bucket}`, s3 })
    const isTold = (error: unknown): boolean => isFailure(error, 'TM1514')
    await assert.rejects(async () => await plain.locks?.prove(), isTold)
    await assert.rejects(plain.write('tidemark.repository', Buffer.from('x')), isTold)
  })

  test('what a restore needs is created locked, in parts or in one piece', async () => {
    const { storage, locks } = await open(3)
    await storage.write(RECORD, Buffer.from('r'), { createOnly: true })
    await storage.write(SEGMENT, Buffer.from('w'))
    await storage.write(HOLD, Buffer.from('h'))
    await writeLarge(storage, PACK, 1)
    await writeLarge(storage, OTHER_PACK, 9)
    for (const key of ['tidemark.repository', RECORD, SEGMENT, PACK, OTHER_PACK]) {
      const until = (await locks.lockedUntil(key))?.getTime() ?? 0
      const left = until - now().getTime()
      assert.ok(left > 2.9 * DAY_MS && left <= 3 * DAY_MS, `${key}: ${left}`)
    }
    assert.equal(await locks.lockedUntil(HOLD), undefined)
    assert.equal(await locks.lockedUntil('clusters/main/packs/none'), undefined)
  })

  test('a lock is extended and seen, never shortened', async () => {
    const { storage, locks } = await open(1)
    await storage.write(PACK, Buffer.from('p'))
    const until = new Date(now().getTime() + 5 * DAY_MS)
    await locks.extend(PACK, until)
    assert.equal((await locks.lockedUntil(PACK))?.getTime(), until.getTime())
    const earlier = new Date(now().getTime() + DAY_MS)
    await assert.rejects(locks.extend(PACK, earlier), (error) => isFailure(error, 'TM1514'))
    assert.equal((await locks.lockedUntil(PACK))?.getTime(), until.getTime())
  })

  test('what is locked stays, everything else goes, and the failure names it', async () => {
    const { storage, bucket } = await open(1)
    const unlocked = await openStorage({ url: `s3://${bucket}/some/where`, s3: server.settings })
    await storage.write(PACK, Buffer.from('p'))
    await unlocked.write(OTHER_PACK, Buffer.from('o'))
    await unlocked.write(SEGMENT, Buffer.from('w'))
    await storage.write(HOLD, Buffer.from('h'))
    await assert.rejects(storage.removeMany([OTHER_PACK, PACK, SEGMENT, HOLD]), (error) => {
      assert.ok(isFailure(error, 'TM1513'), String(error))
      assert.match(error.message, /00000000\.pack is locked/)
      assert.match(error.because ?? '', /until 20\d\d-/)
      const locked = (error.details?.['locked'] ?? []) as { key: string; until: string }[]
      assert.deepEqual(
        locked.map(({ key }) => key),
        [PACK],
      )
      return locked.every(({ until }) => Date.parse(until) > now().getTime())
    })
    const left = await Array.fromAsync(storage.list('clusters/'), ({ key }) => key)
    assert.deepEqual(left, [PACK])
    assert.equal(await versions(bucket, OTHER_PACK), 0)
    assert.equal(await versions(bucket, SEGMENT), 0)
    // Hidden, and its version is left to the bucket's own rules.
    assert.equal(await versions(bucket, HOLD), 2)
    await assert.rejects(storage.remove(PACK), (error) => isFailure(error, 'TM1513'))
    assert.equal(Buffer.from((await storage.read(PACK)) ?? []).toString(), 'p')
    await storage.remove('clusters/main/packs/none')
  })

  test('once the lock has ended every version goes, and no older one comes back', async () => {
    const { storage, locks, bucket } = await open(2 / 86_400)
    await storage.write(PACK, Buffer.from('first'))
    await storage.write(PACK, Buffer.from('second'))
    await storage.write(OTHER_PACK, Buffer.from('other'))
    assert.equal(await versions(bucket, PACK), 2)
    await assert.rejects(storage.remove(PACK), (error) => isFailure(error, 'TM1513'))
    assert.equal(Buffer.from((await storage.read(PACK)) ?? []).toString(), 'second')
    const until = (await locks.lockedUntil(PACK))?.getTime() ?? 0
    while (now().getTime() < until + 1200) await sleep(100)
    await storage.removeMany([PACK, OTHER_PACK])
    assert.equal(await storage.read(PACK), undefined)
    assert.equal(await versions(bucket, PACK), 0)
    assert.equal(await versions(bucket, OTHER_PACK), 0)
  })

  test('an older version that is locked for longer keeps the newer one', async () => {
    const { bucket, storage: long } = await open(1)
    await long.write(PACK, Buffer.from('first'))
    const { storage } = await open(1 / 86_400, bucket)
    await storage.write(PACK, Buffer.from('second'))
    await sleep(2500)
    await assert.rejects(storage.remove(PACK), (error) => isFailure(error, 'TM1513'))
    assert.equal(Buffer.from((await storage.read(PACK)) ?? []).toString(), 'second')
  })
})
