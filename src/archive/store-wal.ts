/**
 * Stores one encoded WAL object in one repository, once.
 *
 * Invariant: of two that store one name with different content exactly one creates the
 * object; the bytes of the other are in quarantine before it fails. Segments that differ behind
 * the end of their records only are no conflict: the longer one stays (docs/design/lineage.md, 5).
 */
import { Failure, isFailure } from '../base/failure.ts'
import { type PerhapsDamaged, readPerhapsDamaged } from '../storage/read-damaged.ts'
import type { Storage } from '../storage/storage.ts'
import { compareSegments, type SegmentComparison } from './compare-segments.ts'
import { eventsKey, nameHash, quarantineKey, type WalFileName, walKey } from './wal-file-name.ts'
import { decodeWalObject, hashContent } from './wal-object.ts'

/**
 * `found`: it was there and is whole, or longer. `replaced`: what was there was damaged.
 * `extended`: what was there had the same records up to its end, and ended earlier.
 */
export type StoreOutcome = 'stored' | 'found' | 'replaced' | 'extended'

export interface WalToStore {
  readonly cluster: string
  readonly systemIdentifier: string
  readonly file: WalFileName
  /** hashContent() of the raw content. */
  readonly contentHash: string
  /** What the object is named after elsewhere, where that is another hash than today's. */
  readonly hash16?: string | undefined
  /** The WAL object. */
  readonly bytes: () => Uint8Array
}

export async function storeWal(storage: Storage, wal: WalToStore): Promise<StoreOutcome> {
  const { cluster, systemIdentifier, file } = wal
  const key = walKey(cluster, systemIdentifier, file, nameOf(wal))
  if (await create(storage, key, wal.bytes())) return 'stored'
  const existing = await readPerhapsDamaged(storage, key)
  if (existing === undefined) throw vanished(storage, key)
  const archivedHash = hashIfWhole(key, existing, wal)
  if (archivedHash === undefined) return await replaceDamaged(storage, key, existing.bytes, wal)
  if (archivedHash === wal.contentHash) return 'found'
  const comparison = compareWith(existing.bytes, key, wal)
  if (comparison.kind === 'same-records') {
    if (comparison.longer !== 'second') return 'found'
    return await extend(storage, key, existing.bytes, archivedHash, wal)
  }
  await quarantineWal(storage, wal)
  throw conflict(storage, wal, archivedHash)
}

/** What is archived is the first, what is to be stored the second. */
function compareWith(archived: Uint8Array, key: string, wal: WalToStore): SegmentComparison {
  if (wal.file.kind !== 'segment') return { kind: 'different' }
  const [first, second] = [archived, wal.bytes()].map((bytes) => decodeWalObject(key, bytes))
  return compareSegments(first?.content as Buffer, second?.content as Buffer)
}

/**
 * Both are in quarantine before the longer one takes the place. Of several that do this at once the
 * last one to write sees the copies of all that wrote before it, so that the longest stays. A
 * crash leaves the shorter one in its place, or the longer one.
 */
async function extend(
  storage: Storage,
  key: string,
  archived: Uint8Array,
  archivedHash: string,
  wal: WalToStore,
): Promise<StoreOutcome> {
  const { cluster, systemIdentifier, file } = wal
  const kept = { cluster, systemIdentifier, file, contentHash: archivedHash }
  await quarantineWal(storage, { ...kept, bytes: () => archived })
  await quarantineWal(storage, wal)
  await removeIndex(storage, wal)
  await storage.write(key, wal.bytes())
  // One that was built meanwhile, of what was there.
  await removeIndex(storage, wal)
  const rivals = quarantineKey(cluster, systemIdentifier, file.name, '')
  for await (const { key: rival } of storage.list(rivals)) {
    if (rival.endsWith('.damaged')) continue
    const kept = await readPerhapsDamaged(storage, rival)
    const contentHash = kept === undefined ? undefined : hashIfWhole(rival, kept, wal)
    if (kept === undefined || contentHash === undefined) continue
    const { bytes } = kept
    const comparison = compareWith(bytes, rival, wal)
    if (comparison.kind !== 'same-records' || comparison.longer !== 'first') continue
    return await storeWal(storage, { ...wal, contentHash, bytes: () => bytes })
  }
  return 'extended'
}

/** Where it is locked it stays, and is of no use: `wal index --rebuild` replaces it. */
async function removeIndex(
  storage: Storage,
  { cluster, systemIdentifier, file }: WalToStore,
): Promise<void> {
  const key = eventsKey(cluster, systemIdentifier, file.name)
  // Whoever may only write is asked for nothing more, where there is nothing.
  if ((await storage.size(key)) === undefined) return
  try {
    await storage.remove(key)
  } catch (error) {
    if (!isFailure(error, 'TM1513')) throw error
  }
}

function nameOf({ hash16, contentHash }: WalToStore): string {
  return hash16 ?? nameHash(contentHash)
}

/** Keeps refused bytes under name and content hash; durable when fulfilled. */
export async function quarantineWal(storage: Storage, wal: WalToStore): Promise<void> {
  const { cluster, systemIdentifier, file, contentHash } = wal
  const key = quarantineKey(cluster, systemIdentifier, file.name, nameOf(wal))
  if (await create(storage, key, wal.bytes())) return
  const existing = await readPerhapsDamaged(storage, key)
  if (existing !== undefined && hashIfWhole(key, existing, wal) === contentHash) return
  await storage.write(key, wal.bytes())
}

/** True when this call has created the object, false when the key was taken. */
async function create(storage: Storage, key: string, bytes: Uint8Array): Promise<boolean> {
  try {
    await storage.write(key, bytes, { createOnly: true })
    return true
  } catch (error) {
    if (error instanceof Failure && error.code === 'TM1502') return false
    throw error
  }
}

function hashIfWhole(
  key: string,
  { bytes, damage }: PerhapsDamaged,
  wal: WalToStore,
): string | undefined {
  if (damage !== undefined) return undefined
  try {
    const expected = { systemIdentifier: wal.systemIdentifier, name: wal.file.name }
    return decodeWalObject(key, bytes, expected).contentHash
  } catch (error) {
    if (error instanceof Failure && error.code === 'TM1601') return undefined
    throw error
  }
}

/**
 * The stored bytes are not those that anyone wrote, and the pushed file has passed every
 * check: it takes their place, after they were kept. A crash in between leaves the damaged
 * object as it was. What was written is read back, in case another replaced it too.
 */
async function replaceDamaged(
  storage: Storage,
  key: string,
  damaged: Uint8Array,
  wal: WalToStore,
): Promise<StoreOutcome> {
  const { cluster, systemIdentifier, file } = wal
  const kept = quarantineKey(cluster, systemIdentifier, file.name, nameHash(hashContent(damaged)))
  await create(storage, `${kept}.damaged`, damaged)
  await storage.write(key, wal.bytes())
  const written = await storage.read(key)
  if (written === undefined) throw vanished(storage, key)
  const archivedHash = decodeWalObject(key, written).contentHash
  if (archivedHash === wal.contentHash) return 'replaced'
  await quarantineWal(storage, wal)
  throw conflict(storage, wal, archivedHash)
}

function conflict(storage: Storage, wal: WalToStore, archivedHash: string): Failure {
  const { file, contentHash } = wal
  return new Failure('TM1402', {
    message: `${file.name} is in the archive with other content`,
    because:
      `${storage.url} holds ${nameHash(archivedHash)}, this file is ` +
      `${nameHash(contentHash)}: two servers or two histories use one archive`,
    fix:
      'find out which server is the right one and stop archiving on the other; ' +
      'the refused bytes are in quarantine (tidemark wal list)',
    details: { name: file.name, url: storage.url, archivedHash, contentHash },
  })
}

function vanished(storage: Storage, key: string): Failure {
  return new Failure('TM1602', {
    message: `the object ${key} vanished while it was compared`,
    because: `something removes objects of ${storage.url}`,
    fix: 'push the file again',
    details: { key },
  })
}
