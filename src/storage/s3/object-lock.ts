/**
 * Object lock: objects of a versioned bucket that nobody can remove before a time, not even who
 * has the keys (docs/design/storage.md, "Object lock").
 *
 * Invariant: an object is called locked only when the store has said so after it was stored.
 */
import {
  DeleteObjectCommand,
  GetObjectLockConfigurationCommand,
  HeadObjectCommand,
  type ObjectLockMode,
  PutObjectCommand,
  PutObjectRetentionCommand,
} from '@aws-sdk/client-s3'
import { now } from '../../base/clock.ts'
import { Failure } from '../../base/failure.ts'
import { randomHex } from '../../base/random.ts'
import type { ObjectLocks } from '../storage.ts'
import { addContentMd5, type S3Connection } from './s3-connection.ts'
import { isBareNotFound, isRefused, statusOf, translateS3Error } from './s3-failure.ts'

export interface ObjectLockSettings {
  /** Of `governance` some accounts may be exempt, of `compliance` nobody. */
  readonly mode: 'governance' | 'compliance'
  readonly days: number
}

/** Parameters of a request that creates an object. */
export interface LockParameters {
  readonly ObjectLockMode?: ObjectLockMode
  readonly ObjectLockRetainUntilDate?: Date
}

const DAY_MS = 24 * 3600 * 1000
const PROBE_MS = 60_000

/** What a restore needs. All of it is created locked. */
const LOCKED = [
  /^tidemark\.repository$/,
  /^keys\/.+$/,
  /^clusters\/[^/]+\/((packs|wal|systems)\/.+|backups\/[^/]+\.record)$/,
  /^clusters\/[^/]+\/(dump-packs\/.+|dumps\/[^/]+\.dump)$/,
]
/** What expiry removes for good, with all its versions; all else is hidden by a delete marker. */
const REMOVED_FOR_GOOD = [
  /^clusters\/[^/]+\/((packs|wal|events|names)\/.+|backups\/[^/]+\.record)$/,
  /^clusters\/[^/]+\/(dump-packs\/.+|dumps\/[^/]+\.dump)$/,
]

export function isLockedKey(key: string): boolean {
  return LOCKED.some((form) => form.test(key))
}

export function isRemovedForGood(key: string): boolean {
  return REMOVED_FOR_GOOD.some((form) => form.test(key))
}

export class S3ObjectLocks implements ObjectLocks {
  readonly days: number
  readonly #mode: ObjectLockMode
  readonly #connection: S3Connection

  constructor(connection: S3Connection, { mode, days }: ObjectLockSettings) {
    this.#connection = connection
    this.#mode = mode === 'governance' ? 'GOVERNANCE' : 'COMPLIANCE'
    this.days = days
  }

  /** For a key without the prefix of the repository. */
  parametersOf(key: string): LockParameters {
    return isLockedKey(key) ? this.#lockUntil(this.untilFrom(now())) : {}
  }

  untilFrom(at: Date): Date {
    return new Date(at.getTime() + this.days * DAY_MS)
  }

  async lockedUntil(key: string): Promise<Date | undefined> {
    return await this.#readUntil(this.#connection.key(key), `look at the lock of ${key}`)
  }

  async extend(key: string, until: Date): Promise<void> {
    const doing = `lock ${key}`
    const place = { Bucket: this.#connection.bucket, Key: this.#connection.key(key) }
    const command = new PutObjectRetentionCommand({
      ...place,
      Retention: { Mode: this.#mode, RetainUntilDate: until },
    })
    addContentMd5(command)
    try {
      await this.#connection.attempt(async (client, options) => {
        await client.send(command, options)
      })
    } catch (error) {
      throw this.#translate(error, doing)
    }
    const found = await this.#readUntil(place.Key, doing)
    if (found === undefined || found.getTime() < until.getTime() - 1000) {
      const because = `the store took the lock until ${until.toISOString()} and does not show it`
      throw this.#cannotLock(doing, because)
    }
  }

  /** After an object was created in parts: there are stores that forget its lock. */
  async ensure(key: string): Promise<void> {
    if (!isLockedKey(key)) return
    const least = now().getTime() + (this.days * DAY_MS) / 2
    const found = await this.lockedUntil(key)
    if (found === undefined || found.getTime() < least)
      await this.extend(key, this.untilFrom(now()))
  }

  async prove(): Promise<void> {
    const doing = 'lock objects'
    const { bucket: Bucket } = this.#connection
    const key = `probe/${randomHex(8)}`
    const Key = this.#connection.key(key)
    try {
      await this.#connection.attempt(async (client, options) => {
        await client.send(new GetObjectLockConfigurationCommand({ Bucket }), options)
        const lock = this.#lockUntil(new Date(now().getTime() + PROBE_MS))
        const put = new PutObjectCommand({ Bucket, Key, Body: Buffer.from('probe'), ...lock })
        addContentMd5(put)
        const { VersionId } = await client.send(put, options)
        if (VersionId === undefined) throw this.#cannotLock(doing, 'its bucket keeps no versions')
      })
      await this.extend(key, new Date(now().getTime() + 2 * PROBE_MS))
      await this.#proveThatItHolds(key)
    } catch (error) {
      throw this.#translate(error, doing)
    } finally {
      await this.#connection
        .attempt(async (client, options) => {
          await client.send(new DeleteObjectCommand({ Bucket, Key }), options)
        })
        .catch(() => undefined)
    }
  }

  async #proveThatItHolds(key: string): Promise<void> {
    const place = { Bucket: this.#connection.bucket, Key: this.#connection.key(key) }
    await this.#connection.attempt(async (client, options) => {
      const { VersionId } = await client.send(new HeadObjectCommand(place), options)
      try {
        await client.send(new DeleteObjectCommand({ ...place, VersionId }), options)
      } catch (error) {
        if (isRefused(error)) return
        throw error
      }
      throw this.#cannotLock('lock objects', 'the store removed an object that was locked')
    })
  }

  /** Of an upload with the parameters of a lock: 400 is that of a bucket without locks. */
  translateUpload(error: unknown, doing: string): unknown {
    return this.#translate(error, doing, [400, 501])
  }

  #translate(error: unknown, doing: string, refusals = [400, 403, 404, 405, 501]): unknown {
    const { address } = this.#connection
    const status = statusOf(error)
    if (status === undefined || !refusals.includes(status)) {
      return translateS3Error(error, doing, address)
    }
    const name = (error as { name?: string }).name ?? ''
    const known = /^[A-Z][A-Za-z0-9]+$/.test(name) ? ` ${name}` : ''
    return this.#cannotLock(doing, `${address.endpoint} answered ${status}${known}`, error)
  }

  #cannotLock(doing: string, because: string, cause?: unknown): Failure {
    const { url, bucket } = this.#connection.address
    return new Failure('TM1514', {
      message: `cannot ${doing} in ${url}`,
      because,
      fix: `objectLock needs a bucket that was created with object lock (${bucket}), and the
       permissions s3:PutObjectRetention, s3:GetObjectRetention and
       s3:GetBucketObjectLockConfiguration; else take objectLock out of the configuration`,
      details: { url },
      ...(cause === undefined ? {} : { cause }),
    })
  }

  #lockUntil(until: Date): LockParameters {
    return { ObjectLockMode: this.#mode, ObjectLockRetainUntilDate: until }
  }

  async #readUntil(Key: string, doing: string): Promise<Date | undefined> {
    const place = { Bucket: this.#connection.bucket, Key }
    try {
      const { ObjectLockRetainUntilDate } = await this.#connection.attempt(
        async (client, options) => await client.send(new HeadObjectCommand(place), options),
      )
      return ObjectLockRetainUntilDate
    } catch (error) {
      if (isBareNotFound(error)) return undefined
      throw translateS3Error(error, doing, this.#connection.address)
    }
  }
}
