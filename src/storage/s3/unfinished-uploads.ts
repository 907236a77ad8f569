/**
 * Multipart uploads that are under way: who writes them, so that those of dead writers can
 * be told from those of living ones.
 *
 * A store keeps the parts of an upload that nobody ends, unseen by listings, and charges for
 * them. Beside each upload lies a note, `.incoming/w1.<identity>.<random>`, which no key can
 * name; it says which upload its writer has begun. Aborting a living writer's upload by
 * mistake would cost that writer its attempt, never an object.
 */
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  type ListMultipartUploadsCommandOutput,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import { now } from '../../base/clock.ts'
import { randomHex } from '../../base/random.ts'
import {
  formatProcessIdentity,
  judgeLiveness,
  lookUpStartTicks,
  parseProcessIdentity,
  type ProcessIdentity,
  readProcessIdentity,
} from '../process-identity.ts'
import { readBody, type S3Connection } from './s3-connection.ts'
import { isKeyAbsent, isNotImplemented, isUploadAbsent, translateS3Error } from './s3-failure.ts'

/** Below the prefix of the repository. */
const NOTES = '.incoming/'

/**
 * Uploads of writers that cannot be judged (another machine) are given up after so long. A
 * clock that is wrong by that much costs a writer its attempt.
 */
const STALE_MS = 7 * 24 * 3600 * 1000

let self: ProcessIdentity | undefined

function ownIdentity(): ProcessIdentity {
  self ??= readProcessIdentity()
  return self
}

interface Upload {
  /** With the prefix. */
  readonly key: string
  readonly uploadId: string
}

/** Gives the note's name, with the prefix. */
export async function noteUpload(connection: S3Connection, upload: Upload): Promise<string> {
  const name = `w1.${formatProcessIdentity(ownIdentity())}.${randomHex(8)}`
  const key = connection.key(`${NOTES}${name}`)
  const Body = Buffer.from(JSON.stringify(upload))
  await connection.send('note an upload', async (client, options) => {
    await client.send(new PutObjectCommand({ Bucket: connection.bucket, Key: key, Body }), options)
  })
  return key
}

export async function removeNote(connection: S3Connection, note: string): Promise<void> {
  await connection.send('remove the note of an upload', async (client, options) => {
    const place = { Bucket: connection.bucket, Key: note }
    await client.send(new DeleteObjectCommand(place), options)
  })
}

/** An upload that is gone, or was completed, is no failure. False: it was not there. */
export async function abortUpload(connection: S3Connection, upload: Upload): Promise<boolean> {
  const place = { Bucket: connection.bucket, Key: upload.key, UploadId: upload.uploadId }
  try {
    await connection.attempt(async (client, options) => {
      await client.send(new AbortMultipartUploadCommand(place), options)
    })
    return true
  } catch (error) {
    if (isUploadAbsent(error)) return false
    throw translateS3Error(error, 'abort an upload', connection.address)
  }
}

/** Aborts what dead processes have begun, and what is old; returns how many that were. */
export async function abortDeadUploads(connection: S3Connection): Promise<number> {
  let aborted = 0
  for (const { note, isStale } of await listNotes(connection)) {
    const writer = parseNoteName(note.slice(connection.key(NOTES).length))
    const isDead =
      writer !== undefined && judgeLiveness(writer, ownIdentity(), lookUpStartTicks) === 'dead'
    if (!isDead && !isStale) continue
    const upload = await readNote(connection, note)
    if (upload !== undefined && (await abortUpload(connection, upload))) aborted += 1
    await removeNote(connection, note)
  }
  // A writer that died between the upload's begin and its note.
  for (const upload of await listOldUploads(connection)) {
    if (await abortUpload(connection, upload)) aborted += 1
  }
  return aborted
}

function parseNoteName(name: string): ProcessIdentity | undefined {
  const match = /^w1\.(.+)\.[0-9a-f]{16}$/.exec(name)
  return match === null ? undefined : parseProcessIdentity(match[1] as string)
}

function isOld(time: Date | undefined): boolean {
  return time !== undefined && now().getTime() - time.getTime() > STALE_MS
}

async function listNotes(
  connection: S3Connection,
): Promise<{ readonly note: string; readonly isStale: boolean }[]> {
  const found: { note: string; isStale: boolean }[] = []
  let token: string | undefined
  do {
    const page = await connection.send('list unfinished uploads', async (client, options) => {
      const place = { Bucket: connection.bucket, Prefix: connection.key(NOTES) }
      const from = token === undefined ? {} : { ContinuationToken: token }
      return await client.send(new ListObjectsV2Command({ ...place, ...from }), options)
    })
    for (const { Key, LastModified } of page.Contents ?? []) {
      if (Key !== undefined) found.push({ note: Key, isStale: isOld(LastModified) })
    }
    token = page.IsTruncated === true ? page.NextContinuationToken : undefined
  } while (token !== undefined)
  return found
}

/** Undefined for one that is gone, or none of ours: only uploads below our prefix. */
async function readNote(connection: S3Connection, note: string): Promise<Upload | undefined> {
  try {
    const bytes = await connection.attempt(async (client, options) => {
      const place = { Bucket: connection.bucket, Key: note }
      const { Body, ContentLength = 0 } = await client.send(new GetObjectCommand(place), options)
      return await readBody(Body, ContentLength)
    })
    const { key, uploadId } = JSON.parse(Buffer.from(bytes).toString()) as Partial<Upload>
    if (typeof key !== 'string' || typeof uploadId !== 'string') return undefined
    return key.startsWith(connection.prefix) ? { key, uploadId } : undefined
  } catch (error) {
    if (isKeyAbsent(error) || error instanceof SyntaxError) return undefined
    throw translateS3Error(error, 'read the note of an upload', connection.address)
  }
}

/** Empty at a store that cannot list uploads: its own lifecycle rules are left then. */
async function listUploadPage(
  connection: S3Connection,
  from: { KeyMarker?: string; UploadIdMarker?: string },
): Promise<Partial<ListMultipartUploadsCommandOutput>> {
  try {
    return await connection.attempt(async (client, options) => {
      const place = { Bucket: connection.bucket, Prefix: connection.prefix, ...from }
      return await client.send(new ListMultipartUploadsCommand(place), options)
    })
  } catch (error) {
    if (isNotImplemented(error)) return {}
    throw translateS3Error(error, 'list unfinished uploads', connection.address)
  }
}

async function listOldUploads(connection: S3Connection): Promise<Upload[]> {
  const old: Upload[] = []
  let marker: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {}
  while (marker !== undefined) {
    const from: { KeyMarker?: string; UploadIdMarker?: string } = marker
    const page = await listUploadPage(connection, from)
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      if (Key === undefined || UploadId === undefined || !isOld(Initiated)) continue
      old.push({ key: Key, uploadId: UploadId })
    }
    const { NextKeyMarker, NextUploadIdMarker } = page
    const isMore = page.IsTruncated === true && NextKeyMarker !== undefined
    marker = isMore
      ? {
          KeyMarker: NextKeyMarker,
          ...(NextUploadIdMarker === undefined ? {} : { UploadIdMarker: NextUploadIdMarker }),
        }
      : undefined
  }
  return old
}
