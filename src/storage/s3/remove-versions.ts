/**
 * Removes objects of a versioned bucket for good: every version, so that none comes back.
 *
 * Order: versions that are hidden by newer ones go first, the current one last, and only when
 * all others are gone. A crash, or a version that is locked, so leaves the object as it was, or
 * removed, and never an older state of it.
 */
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
} from '@aws-sdk/client-s3'
import { Failure } from '../../base/failure.ts'
import { addContentMd5, type S3Connection } from './s3-connection.ts'
import { isBareNotFound, isNotImplemented, isRefused, translateS3Error } from './s3-failure.ts'

/** The most that one DeleteObjects takes. */
const DELETE_BATCH = 1000

/** Of an object; `Key` has the prefix of the repository. */
interface Version {
  readonly Key: string
  readonly VersionId: string
}

interface Versions {
  current: Version | undefined
  readonly older: Version[]
}

/** TM1513 when some are locked; all the others are gone then. */
export async function removeVersions(
  connection: S3Connection,
  keys: readonly string[],
): Promise<void> {
  const found = new Map<string, Versions>()
  for (const [prefix, some] of groupByFolder(keys)) {
    await listVersions(connection, prefix, new Set(some), found)
  }
  const kept = new Map<string, Version>()
  const older = [...found.values()].flatMap((versions) => versions.older)
  for (const version of await removeAll(connection, older)) kept.set(version.Key, version)
  const current = [...found.values()].flatMap(({ current: version }) => version ?? [])
  const removable = current.filter(({ Key }) => !kept.has(Key))
  for (const version of await removeAll(connection, removable)) kept.set(version.Key, version)
  if (kept.size === 0) return
  const failure = await describeLocked(connection, [...kept.values()])
  if (failure !== undefined) throw failure
}

/** One listing for many objects of a folder, one of its own for a single one. */
function groupByFolder(keys: readonly string[]): Map<string, readonly string[]> {
  const folders = Map.groupBy(keys, (key) => key.slice(0, key.lastIndexOf('/') + 1))
  const groups = new Map<string, readonly string[]>()
  for (const [folder, some] of folders) {
    groups.set(some.length === 1 ? (some[0] as string) : folder, some)
  }
  return groups
}

async function listVersions(
  connection: S3Connection,
  prefix: string,
  wanted: ReadonlySet<string>,
  found: Map<string, Versions>,
): Promise<void> {
  const place = { Bucket: connection.bucket, Prefix: connection.key(prefix) }
  let marker: { KeyMarker?: string; VersionIdMarker?: string } | undefined = {}
  while (marker !== undefined) {
    const from: { KeyMarker?: string; VersionIdMarker?: string } = marker
    const page = await connection.send(`list versions of ${prefix}`, async (client, options) => {
      return await client.send(new ListObjectVersionsCommand({ ...place, ...from }), options)
    })
    for (const each of [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])]) {
      const { Key = '', VersionId = 'null', IsLatest = false } = each
      if (!wanted.has(Key.slice(connection.prefix.length))) continue
      let versions = found.get(Key)
      if (versions === undefined) {
        versions = { current: undefined, older: [] }
        found.set(Key, versions)
      }
      if (IsLatest) versions.current = { Key, VersionId }
      else versions.older.push({ Key, VersionId })
    }
    marker =
      page.IsTruncated === true && page.NextKeyMarker !== undefined
        ? {
            KeyMarker: page.NextKeyMarker,
            ...(page.NextVersionIdMarker === undefined
              ? {}
              : { VersionIdMarker: page.NextVersionIdMarker }),
          }
        : undefined
  }
}

/** Those that the store refuses to remove. */
async function removeAll(
  connection: S3Connection,
  versions: readonly Version[],
): Promise<Version[]> {
  const refused: Version[] = []
  for (let from = 0; from < versions.length; from += DELETE_BATCH) {
    const batch = versions.slice(from, from + DELETE_BATCH)
    const outcome = await removeBatch(connection, batch)
    if (outcome !== undefined) refused.push(...outcome)
    else for (const one of batch) if (!(await removeOne(connection, one))) refused.push(one)
  }
  return refused
}

/** Undefined: this store has no batches. */
async function removeBatch(
  connection: S3Connection,
  versions: readonly Version[],
): Promise<Version[] | undefined> {
  const { bucket: Bucket, address } = connection
  const Delete = { Objects: [...versions], Quiet: true }
  try {
    const { Errors = [] } = await connection.attempt(async (client, options) => {
      const command = new DeleteObjectsCommand({ Bucket, Delete })
      addContentMd5(command)
      return await client.send(command, options)
    })
    const others = Errors.filter(({ Code }) => Code !== 'NoSuchKey' && Code !== 'NoSuchVersion')
    const failed = others.find(({ Code }) => Code !== 'AccessDenied')
    if (failed !== undefined) throw { name: failed.Code, $metadata: { httpStatusCode: 500 } }
    return others.map(({ Key = '', VersionId = 'null' }) => ({ Key, VersionId }))
  } catch (error) {
    if (isNotImplemented(error)) return undefined
    throw translateS3Error(error, `remove ${versions.length} objects`, address)
  }
}

async function removeOne(connection: S3Connection, version: Version): Promise<boolean> {
  const place = { Bucket: connection.bucket, ...version }
  try {
    await connection.attempt(async (client, options) => {
      await client.send(new DeleteObjectCommand(place), options)
    })
    return true
  } catch (error) {
    if (isRefused(error)) return false
    throw translateS3Error(error, `remove ${version.Key}`, connection.address)
  }
}

/**
 * TM1513; what the store refused without a lock is forbidden to these credentials (TM1510).
 * Undefined: all of them are gone by now.
 */
async function describeLocked(
  connection: S3Connection,
  versions: readonly Version[],
): Promise<unknown> {
  const { bucket: Bucket, address, prefix } = connection
  const locked: { key: string; until: string }[] = []
  let gone = 0
  await Promise.all(
    versions.map(async (version) => {
      const key = version.Key.slice(prefix.length)
      const head = await connection.attempt(async (client, options) => {
        const command = new HeadObjectCommand({ Bucket, ...version })
        return await client.send(command, options).catch(orNothingThere)
      })
      if (head === undefined) gone++
      const { ObjectLockRetainUntilDate: until, ObjectLockLegalHoldStatus: hold } = head ?? {}
      if (until !== undefined) locked.push({ key, until: until.toISOString() })
      else if (hold === 'ON') locked.push({ key, until: 'its legal hold is taken away' })
    }),
  )
  if (locked.length + gone < versions.length) {
    const refusal = { name: 'AccessDenied', $metadata: { httpStatusCode: 403 } }
    return translateS3Error(refusal, `remove ${versions[0]?.Key ?? 'objects'}`, address)
  }
  if (locked.length === 0) return undefined
  return lockedObjects(locked.sort((a, b) => (a.key < b.key ? -1 : 1)))
}

/** Somebody else has removed it meanwhile. */
function orNothingThere(error: unknown): undefined {
  if (!isBareNotFound(error)) throw error
}

function lockedObjects(locked: readonly { key: string; until: string }[]): Failure {
  const [first] = locked
  const last = locked
    .map(({ until }) => until)
    .sort()
    .at(-1)
  const what = locked.length === 1 ? `${first?.key} is` : `${locked.length} objects are`
  return new Failure('TM1513', {
    message: `${what} locked and cannot be removed yet`,
    because: `the object lock of the store keeps ${first?.key} until ${first?.until}`,
    fix: `nothing needs to be done: remove them after ${last}; the next expiry tries again`,
    details: { locked },
  })
}
