/**
 * An object that is written in pieces, as a multipart upload. append() copies the bytes; full
 * parts go out in the background, whenever the thread comes to its event loop. A part's bytes
 * are kept until the store has acknowledged them, so memory is bounded by the size of the
 * object, which for a pack is some tens of MiB.
 *
 * Crash windows: before the completion nothing is visible, and what was sent is aborted by
 * removeLeftovers() of a later run (unfinished-uploads.ts); the completion is one step.
 */
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { isFailure } from '../../base/failure.ts'
import { randomHex } from '../../base/random.ts'
import type { ObjectWriter } from '../storage.ts'
import type { LockParameters } from './object-lock.ts'
import { addContentMd5, type S3Connection } from './s3-connection.ts'
import { isBareNotFound, isUploadAbsent, translateS3Error } from './s3-failure.ts'
import { abortUpload, noteUpload, removeNote } from './unfinished-uploads.ts'

/** S3 wants at least 5 MiB for all parts but the last, and at most 10,000 parts. */
const PART_BYTES = 8 * 1024 * 1024

/** The metadata by which a write is recognised, see WriteOptions. */
export const WRITE_ID = 'tidemark-write'

interface Part {
  readonly number: number
  bytes: Uint8Array | undefined
  etag: string | undefined
  /** Settles without failing; `etag` tells what came of it. */
  sending: Promise<void>
  failure: unknown
}

export interface MultipartPlace {
  readonly connection: S3Connection
  /** With the prefix. */
  readonly key: string
  /** For messages: `write packs/…`. */
  readonly doing: string
  /** Stores an object that is smaller than a part. */
  readonly putWhole: (bytes: Uint8Array) => Promise<void>
  /** Where the object is to be locked. */
  readonly lock?: MultipartLock
}

export interface MultipartLock {
  readonly parameters: LockParameters
  /** There are stores that forget the lock of what is uploaded in parts. */
  readonly ensure: () => Promise<void>
  readonly translate: (error: unknown) => unknown
}

export class MultipartWriter implements ObjectWriter {
  readonly #place: MultipartPlace
  readonly #writeId = randomHex(16)
  readonly #ended = new AbortController()
  readonly #parts: Part[] = []
  #state: 'open' | 'committing' | 'finished' = 'open'
  #buffer = Buffer.allocUnsafeSlow(0)
  #filled = 0
  #upload: Promise<{ id: string; note: Promise<string | undefined> }> | undefined

  constructor(place: MultipartPlace) {
    this.#place = place
  }

  append(pieces: readonly Uint8Array[]): void {
    this.#assertState('open')
    for (const piece of pieces) this.#take(piece)
  }

  async commit(): Promise<void> {
    if (this.#state === 'finished') this.#assertState('open')
    this.#state = 'committing'
    try {
      await this.#publish()
    } catch (error) {
      if (!isFailure(error, 'TM1509')) await this.abort().catch(() => undefined)
      throw error
    }
    this.#state = 'finished'
  }

  async abort(): Promise<void> {
    if (this.#state === 'finished') return
    this.#state = 'finished'
    this.#ended.abort()
    const upload = await this.#upload?.catch(() => undefined)
    // A part that arrives after the abort would stay.
    await Promise.all(this.#parts.map(({ sending }) => sending))
    this.#parts.length = 0
    if (upload === undefined) return
    const { connection, key } = this.#place
    await abortUpload(connection, { key, uploadId: upload.id })
    await this.#removeNote(await upload.note)
  }

  #take(piece: Uint8Array): void {
    let from = 0
    while (from < piece.length) {
      if (this.#buffer.length === 0) this.#buffer = Buffer.allocUnsafeSlow(PART_BYTES)
      const count = Math.min(piece.length - from, PART_BYTES - this.#filled)
      this.#buffer.set(piece.subarray(from, from + count), this.#filled)
      this.#filled += count
      from += count
      if (this.#filled === PART_BYTES) this.#closePart()
    }
  }

  #closePart(): void {
    const part: Part = {
      number: this.#parts.length + 1,
      bytes: this.#buffer.subarray(0, this.#filled),
      etag: undefined,
      sending: Promise.resolve(),
      failure: undefined,
    }
    this.#buffer = Buffer.allocUnsafeSlow(0)
    this.#filled = 0
    this.#parts.push(part)
    part.sending = this.#send(part)
  }

  async #publish(): Promise<void> {
    if (this.#parts.length === 0) {
      await this.#place.putWhole(this.#buffer.subarray(0, this.#filled))
      return
    }
    if (this.#filled > 0) this.#closePart()
    await Promise.all(this.#parts.map(({ sending }) => sending))
    await this.#sendAgain(this.#parts.filter(({ etag }) => etag === undefined))
    await this.#complete()
  }

  /** What failed in the background, and whatever an earlier commit() has left. */
  async #sendAgain(missing: readonly Part[]): Promise<void> {
    for (const part of missing) part.sending = this.#send(part)
    await Promise.all(missing.map(({ sending }) => sending))
    const failed = missing.find(({ etag }) => etag === undefined)
    if (failed !== undefined) throw failed.failure
  }

  async #send(part: Part): Promise<void> {
    const { connection, key, doing, lock } = this.#place
    part.failure = undefined
    try {
      const { id } = await this.#begin()
      const { signal } = this.#ended
      const answer = await connection.send(
        doing,
        async (client, options) => {
          const place = { Bucket: connection.bucket, Key: key, UploadId: id }
          const body = { PartNumber: part.number, Body: part.bytes as Uint8Array }
          const command = new UploadPartCommand({ ...place, ...body })
          if (lock !== undefined) addContentMd5(command)
          return await client.send(command, options)
        },
        signal,
      )
      part.etag = answer.ETag ?? ''
      part.bytes = undefined
    } catch (error) {
      part.failure = error
    }
  }

  /** A begin that failed is forgotten, so that the next attempt begins anew. */
  async #begin(): Promise<{ id: string; note: Promise<string | undefined> }> {
    this.#upload ??= this.#create()
    const upload = this.#upload
    try {
      return await upload
    } catch (error) {
      if (this.#upload === upload) this.#upload = undefined
      throw error
    }
  }

  async #create(): Promise<{ id: string; note: Promise<string | undefined> }> {
    const { connection, key, doing, lock } = this.#place
    const create = async (): Promise<string | undefined> =>
      await connection.attempt(async (client, options) => {
        const command = new CreateMultipartUploadCommand({
          Bucket: connection.bucket,
          Key: key,
          Metadata: { [WRITE_ID]: this.#writeId },
          ContentType: 'application/octet-stream',
          ...connection.storage,
          ...lock?.parameters,
        })
        return (await client.send(command, options)).UploadId
      })
    const UploadId = await create().catch((error: unknown) => {
      throw lock?.translate(error) ?? translateS3Error(error, doing, connection.address)
    })
    const id = UploadId ?? ''
    // Without its note an upload is found only when it is old: no reason to fail.
    const note = noteUpload(connection, { key, uploadId: id }).catch(() => undefined)
    return { id, note }
  }

  async #complete(): Promise<void> {
    const { connection, key, doing } = this.#place
    const { id, note } = await this.#begin()
    const Parts = this.#parts.map(({ number, etag }) => ({
      PartNumber: number,
      ...(etag === undefined ? {} : { ETag: etag }),
    }))
    try {
      await connection.attempt(async (client, options) => {
        const place = { Bucket: connection.bucket, Key: key, UploadId: id }
        const command = new CompleteMultipartUploadCommand({ ...place, MultipartUpload: { Parts } })
        await client.send(command, options)
      })
    } catch (error) {
      // The completion whose acknowledgement was lost has ended the upload.
      const isOurs = isUploadAbsent(error) && (await this.#isStored())
      if (!isOurs) throw translateS3Error(error, doing, connection.address)
    }
    await this.#removeNote(await note)
    await this.#place.lock?.ensure()
  }

  async #isStored(): Promise<boolean> {
    const { connection, key, doing } = this.#place
    const place = { Bucket: connection.bucket, Key: key }
    try {
      const { Metadata } = await connection.attempt(async (client, options) => {
        return await client.send(new HeadObjectCommand(place), options)
      })
      return Metadata?.[WRITE_ID] === this.#writeId
    } catch (error) {
      if (isBareNotFound(error)) return false
      throw translateS3Error(error, doing, connection.address)
    }
  }

  /** A note that stays costs the next removeLeftovers() two requests. */
  async #removeNote(note: string | undefined): Promise<void> {
    if (note === undefined) return
    await removeNote(this.#place.connection, note).catch(() => undefined)
  }

  #assertState(wanted: 'open'): void {
    if (this.#state !== wanted) throw new Error(`the writer of ${this.#place.key} is finished`)
  }
}
