/**
 * Objects of an S3 store, below a prefix of one bucket. This module loads the SDK: only
 * openStorage() imports it, and late.
 *
 * Invariant: an answer "absent" is one that the store has given for this very key (NoSuchKey),
 * of a bucket in which the object `tidemark.repository` was seen. Nothing is tried again here
 * (retrying-storage.ts). docs/design/storage.md says what the store must offer.
 */
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import { createHash } from 'node:crypto'
import { Failure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import { type MultipartLock, MultipartWriter, WRITE_ID } from './s3/multipart-writer.ts'
import { isLockedKey, isRemovedForGood, S3ObjectLocks } from './s3/object-lock.ts'
import { removeVersions } from './s3/remove-versions.ts'
import { addContentMd5, readBody, S3Connection, type S3Settings } from './s3/s3-connection.ts'
import {
  DamagedTransferError,
  isBareNotFound,
  isKeyAbsent,
  isNotImplemented,
  isPreconditionFailed,
  isRangeBehindEnd,
  translateS3Error,
} from './s3/s3-failure.ts'
import { parseS3Url } from './s3/s3-url.ts'
import { abortDeadUploads } from './s3/unfinished-uploads.ts'
import {
  assertStorageKey,
  assertListing,
  compareKeys,
  isStorageKey,
  MARKER_KEY,
} from './storage-key.ts'
import type { StorageMeter } from './storage-meter.ts'
import {
  keysOfListing,
  type ObjectWriter,
  type Storage,
  type StoredObject,
  type WriteOptions,
} from './storage.ts'

/** The SHA-256 of a whole object, in its metadata, compared by every read of it. */
const CONTENT_HASH = 'tidemark-sha256'

/** The most that one DeleteObjects takes. */
const DELETE_BATCH = 1000

export async function openS3Storage(
  url: string,
  settings: S3Settings,
  meter?: StorageMeter,
): Promise<Storage> {
  const connection = new S3Connection(url, parseS3Url(url), settings, meter)
  await connection.requireRegion()
  const { objectLock } = settings
  const locks = objectLock === undefined ? undefined : new S3ObjectLocks(connection, objectLock)
  return new S3Storage(connection, locks)
}

class S3Storage implements Storage {
  readonly url: string
  readonly locks: S3ObjectLocks | undefined
  readonly #connection: S3Connection
  #isRepository = false

  constructor(connection: S3Connection, locks: S3ObjectLocks | undefined) {
    this.url = connection.address.url
    this.locks = locks
    this.#connection = connection
  }

  async read(key: string): Promise<Uint8Array | undefined> {
    assertStorageKey(key)
    const bytes = await this.#read(key)
    // Whoever opens a repository reads this first: it need not be asked for again.
    if (key === MARKER_KEY && bytes !== undefined) this.#isRepository = true
    return bytes
  }

  async #read(key: string): Promise<Uint8Array | undefined> {
    return await this.#orAbsent(`read ${key}`, key, async () => {
      return await this.#connection.attempt(async (client, options) => {
        const answer = await client.send(new GetObjectCommand(this.#place(key)), options)
        const bytes = await readBody(answer.Body, answer.ContentLength ?? 0)
        const expected = answer.Metadata?.[CONTENT_HASH]
        if (expected !== undefined && hashOf(bytes) !== expected) {
          throw new DamagedTransferError(`the bytes of ${key} are not those that were stored`)
        }
        return bytes
      })
    })
  }

  async readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    assertStorageKey(key)
    if (offset < 0 || length < 0) throw new Error(`not a range: ${offset}, ${length}`)
    if (length === 0) return (await this.size(key)) === undefined ? undefined : new Uint8Array(0)
    return await this.#orAbsent(`read ${key}`, key, async () => {
      try {
        return await this.#readRange(key, offset, length, into)
      } catch (error) {
        if (isRangeBehindEnd(error)) return new Uint8Array(0)
        throw error
      }
    })
  }

  async #readRange(
    key: string,
    offset: number,
    length: number,
    into?: Uint8Array,
  ): Promise<Uint8Array> {
    const Range = `bytes=${offset}-${offset + length - 1}`
    return await this.#connection.attempt(async (client, options) => {
      const command = new GetObjectCommand({ ...this.#place(key), Range })
      const { Body, ContentRange, ContentLength } = await client.send(command, options)
      const count = judgeRange(ContentRange, offset, length)
      if (count === undefined || count !== ContentLength) {
        throw new DamagedTransferError(`the store gave another range than ${Range} of ${key}`)
      }
      return await readBody(Body, count, into)
    })
  }

  async size(key: string): Promise<number | undefined> {
    assertStorageKey(key)
    return await this.#orAbsent(`look for ${key}`, key, async () => {
      return await this.#connection.attempt(async (client, options) => {
        try {
          const answer = await client.send(new HeadObjectCommand(this.#place(key)), options)
          return answer.ContentLength ?? 0
        } catch (error) {
          if (!isBareNotFound(error)) throw error
        }
        // The body of a refused GET says whether it is the key that is missing.
        const command = new GetObjectCommand({ ...this.#place(key), Range: 'bytes=0-0' })
        const { Body, ContentRange, ContentLength } = await client.send(command, options)
        await readBody(Body, ContentLength ?? 0)
        return Number(ContentRange?.split('/')[1] ?? ContentLength)
      })
    })
  }

  list(prefix: string, after?: string): AsyncIterable<StoredObject> {
    assertListing(prefix, after)
    return this.#list(prefix, after)
  }

  listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return keysOfListing(this.list(prefix, after))
  }

  async *#list(prefix: string, after: string | undefined): AsyncGenerator<StoredObject> {
    const doing = `list ${prefix === '' ? 'objects' : prefix}`
    let token: string | undefined
    let last: string | undefined
    do {
      const page = await this.#listPage(doing, prefix, token, after)
      for (const { Key = '', Size = 0 } of page.Contents ?? []) {
        const key = Key.slice(this.#connection.prefix.length)
        if (!isStorageKey(key)) continue
        // A store that does not know StartAfter.
        if (after !== undefined && compareKeys(key, after) <= 0) continue
        if (last !== undefined && compareKeys(last, key) >= 0) throw this.#unordered(doing)
        last = key
        yield { key, sizeBytes: Size }
      }
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined
      if (page.IsTruncated === true && token === undefined) throw this.#unordered(doing)
    } while (token !== undefined)
    await this.#proveRepository()
  }

  async #listPage(doing: string, prefix: string, token: string | undefined, after?: string) {
    return await this.#connection.send(doing, async (client, options) => {
      const place = { Bucket: this.#connection.bucket, Prefix: this.#connection.key(prefix) }
      const start = after === undefined ? {} : { StartAfter: this.#connection.key(after) }
      const from = token === undefined ? start : { ContinuationToken: token }
      return await client.send(new ListObjectsV2Command({ ...place, ...from }), options)
    })
  }

  async write(key: string, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    assertStorageKey(key)
    await this.#prepare(key)
    await this.#put(key, bytes, options)
    if (key === MARKER_KEY) this.#isRepository = true
  }

  async openWriter(key: string): Promise<ObjectWriter> {
    assertStorageKey(key)
    await this.#prepare(key)
    return new MultipartWriter({
      connection: this.#connection,
      key: this.#connection.key(key),
      doing: `write ${key}`,
      putWhole: async (bytes) => await this.#put(key, bytes, {}),
      ...this.#lockOf(key),
    })
  }

  /** What a store has acknowledged or shows is durable. */
  async confirmDurable(): Promise<void> {
    await this.#proveRepository()
  }

  #lockOf(key: string): { lock?: MultipartLock } {
    const { locks } = this
    if (locks === undefined || !isLockedKey(key)) return {}
    const parameters = locks.parametersOf(key)
    const ensure = async (): Promise<void> => await locks.ensure(key)
    const translate = (error: unknown): unknown => locks.translateUpload(error, `write ${key}`)
    return { lock: { parameters, ensure, translate } }
  }

  async remove(key: string): Promise<void> {
    assertStorageKey(key)
    await this.#proveRepository()
    if (this.#isRemovedForGood(key)) return await removeVersions(this.#connection, [key])
    await this.#connection.send(`remove ${key}`, async (client, options) => {
      await client.send(new DeleteObjectCommand(this.#place(key)), options)
    })
  }

  async removeMany(keys: readonly string[]): Promise<void> {
    for (const key of keys) assertStorageKey(key)
    await this.#proveRepository()
    const hidden = keys.filter((key) => !this.#isRemovedForGood(key))
    for (let from = 0; from < hidden.length; from += DELETE_BATCH) {
      const batch = hidden.slice(from, from + DELETE_BATCH)
      if (await this.#removeBatch(batch)) continue
      for (const key of batch) await this.remove(key)
    }
    const forGood = keys.filter((key) => this.#isRemovedForGood(key))
    if (forGood.length > 0) await removeVersions(this.#connection, forGood)
  }

  /** Without locks the bucket's own rules decide what becomes of versions. */
  #isRemovedForGood(key: string): boolean {
    return this.locks !== undefined && isRemovedForGood(key)
  }

  async removeLeftovers(): Promise<number> {
    await this.#proveRepository()
    return await abortDeadUploads(this.#connection)
  }

  async freeBytes(): Promise<number | undefined> {
    return undefined
  }

  async close(): Promise<void> {
    this.#connection.close()
  }

  #place(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#connection.bucket, Key: this.#connection.key(key) }
  }

  async #put(key: string, bytes: Uint8Array, options: WriteOptions): Promise<void> {
    const writeId = options.writeId ?? randomHex(16)
    const command = new PutObjectCommand({
      ...this.#place(key),
      Body: bytes,
      ContentType: 'application/octet-stream',
      Metadata: { [WRITE_ID]: writeId, [CONTENT_HASH]: hashOf(bytes) },
      ...(options.createOnly === true ? { IfNoneMatch: '*' } : {}),
      ...this.#connection.storage,
      ...this.locks?.parametersOf(key),
    })
    if (this.locks !== undefined) addContentMd5(command)
    const doing = `write ${key}`
    try {
      await this.#connection.attempt(async (client, sending) => {
        await client.send(command, sending)
      })
    } catch (error) {
      if (!isPreconditionFailed(error)) {
        const { locks } = this
        if (locks !== undefined && isLockedKey(key)) throw locks.translateUpload(error, doing)
        throw translateS3Error(error, doing, this.#connection.address)
      }
      // The creation whose acknowledgement was lost meets what it has made.
      if ((await this.#findWriteId(key)) !== writeId) throw this.#existsAlready(key)
    }
  }

  async #findWriteId(key: string): Promise<string | undefined> {
    const answer = await this.#connection.send(`look for ${key}`, async (client, options) => {
      return await client.send(new HeadObjectCommand(this.#place(key)), options)
    })
    return answer.Metadata?.[WRITE_ID]
  }

  /** False: this store has no batches. */
  async #removeBatch(keys: readonly string[]): Promise<boolean> {
    const doing = `remove ${keys.length} objects`
    const Objects = keys.map((key) => ({ Key: this.#connection.key(key) }))
    const { bucket: Bucket, address } = this.#connection
    try {
      const { Errors = [] } = await this.#connection.attempt(async (client, options) => {
        const command = new DeleteObjectsCommand({ Bucket, Delete: { Objects, Quiet: true } })
        addContentMd5(command)
        return await client.send(command, options)
      })
      const first = Errors.find(({ Code }) => Code !== 'NoSuchKey')
      if (first === undefined) return true
      // Each error of a batch is that of a request of its own, without its status.
      const httpStatusCode = first.Code === 'AccessDenied' ? 403 : 500
      throw translateS3Error(
        { name: first.Code, $metadata: { httpStatusCode } },
        `remove ${first.Key ?? 'objects'}`,
        address,
      )
    } catch (error) {
      if (isNotImplemented(error)) return false
      throw translateS3Error(error, doing, address)
    }
  }

  /** The value, or undefined once the store has said that this key is not there. */
  async #orAbsent<T>(doing: string, key: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read()
    } catch (error) {
      if (!isKeyAbsent(error)) throw translateS3Error(error, doing, this.#connection.address)
    }
    // The marker's own absence is the answer that tells an empty place from a repository.
    if (key !== MARKER_KEY) await this.#proveRepository()
    return undefined
  }

  async #prepare(key: string): Promise<void> {
    if (key === MARKER_KEY) await this.#requireEmptyPlace()
    else await this.#proveRepository()
  }

  /** Once is enough: a bucket is not unmounted, and says itself when it is gone. */
  async #proveRepository(): Promise<void> {
    if (this.#isRepository) return
    if ((await this.read(MARKER_KEY)) === undefined) {
      const { address, bucket, prefix } = this.#connection
      throw new Failure('TM1507', {
        message: `the repository ${this.url} is not there`,
        because: `the bucket ${bucket} at ${address.endpoint} holds no object ${prefix}${MARKER_KEY}`,
        fix: 'check bucket, prefix and endpoint of the repository; for a new one: tidemark init',
        details: { url: this.url },
      })
    }
    this.#isRepository = true
  }

  /** A repository that lost its marker must not become the place of another one. */
  async #requireEmptyPlace(): Promise<void> {
    const { Contents = [] } = await this.#listPage('look for objects', '', undefined)
    const found = Contents.map(({ Key = '' }) => Key.slice(this.#connection.prefix.length))
    const other = found.find((key) => key !== MARKER_KEY && !key.startsWith('.'))
    if (other === undefined || (await this.read(MARKER_KEY)) !== undefined) return
    throw new Failure('TM1501', {
      message: `cannot create a repository in ${this.url}`,
      because: `there are objects already, such as ${other}, and no ${MARKER_KEY}`,
      fix: 'choose another prefix: s3://bucket/prefix',
    })
  }

  #existsAlready(key: string): Failure {
    return new Failure('TM1502', {
      message: `${key} exists already in ${this.url}`,
      because: 'another run created it first; it was not overwritten',
      fix: 'compare the two runs; when both did the same work, nothing is to be done',
      details: { key },
    })
  }

  #unordered(doing: string): Failure {
    return new Failure('TM1501', {
      message: `cannot ${doing} in ${this.url}`,
      because: 'the store does not list keys in the order of their bytes, page by page',
      fix: 'use a general purpose bucket (directory buckets list in no order)',
    })
  }
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** How many bytes the answer holds; undefined when it is not the range that was asked for. */
function judgeRange(
  header: string | undefined,
  offset: number,
  length: number,
): number | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(header ?? '')
  if (match === null) return undefined
  const [first, last, total] = match.slice(1).map(Number) as [number, number, number]
  if (first !== offset || last !== Math.min(offset + length, total) - 1) return undefined
  return last - first + 1
}
