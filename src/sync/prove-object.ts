/** Proves one object of a repository by its own hashes, whatever its kind. */
import {
  damagedWalObject,
  decodeWalObject,
  isNamedAfter,
  type WalObject,
} from '../archive/wal-object.ts'
import { Failure } from '../base/failure.ts'
import { damagedObject, missingObject } from '../repository/envelope.ts'
import { dumpPackKey, type PackKeyOf, packKey } from '../repository/keys.ts'
import { readBackup } from '../repository/read-backups.ts'
import { findDump } from '../repository/read-dumps.ts'
import { readSystemIdentity } from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'
import { isDamage } from './damage.ts'
import { type NamedObject, type NamedWal, parseObjectKey } from './object-key.ts'
import { findPackShape, isKept, StoredFrames } from './pack-frames.ts'

/**
 * Undefined: whole. What keeps it from being looked at is thrown. `frame`: of a pack, this
 * frame alone is asked for, and a pack that has dropped it does not have it.
 */
export async function findDamage(
  storage: Storage,
  cluster: string,
  key: string,
  frame?: number,
  isFirst = true,
): Promise<Failure | undefined> {
  const named = parseObjectKey(cluster, key)
  if (named === undefined) return missingObject(key, 'another repository')
  try {
    await proveNamed(storage, cluster, key, named, frame)
    return undefined
  } catch (error) {
    // A pack may have been repacked since its index was read.
    if (isDamage(error) && named.kind.endsWith('pack') && isFirst) {
      return await findDamage(storage, cluster, key, frame, false)
    }
    if (isDamage(error)) return error
    // Of records and identities their absence has a code of its own.
    const isAbsence = error instanceof Failure && /^TM(1505|1407)$/.test(error.code)
    if (isAbsence) return error
    throw error
  }
}

async function proveNamed(
  storage: Storage,
  cluster: string,
  key: string,
  named: NamedObject,
  frame: number | undefined,
): Promise<void> {
  switch (named.kind) {
    case 'pack':
      return await provePack(storage, cluster, named.packId, frame)
    case 'dump-pack':
      return await provePack(storage, cluster, named.packId, frame, dumpPackKey)
    case 'dump': {
      const record = await findDump(storage, cluster, named.dumpId)
      if (record === undefined) throw missingObject(key, 'another repository')
      return
    }
    case 'record': {
      await readBackup(storage, cluster, named.backupId)
      return
    }
    case 'identity': {
      await readSystemIdentity(storage, cluster, named.systemIdentifier)
      return
    }
    case 'wal': {
      const bytes = await storage.read(key)
      if (bytes === undefined) throw missingObject(key, 'another repository')
      decodeNamedWal(named, bytes)
    }
  }
}

async function provePack(
  storage: Storage,
  cluster: string,
  packId: string,
  frame: number | undefined,
  keyOf: PackKeyOf = packKey,
): Promise<void> {
  const shape = await findPackShape(storage, cluster, packId, keyOf)
  if (shape === undefined) throw missingObject(keyOf(cluster, packId), 'another repository')
  const frames = new StoredFrames(storage, shape)
  const wanted = frame === undefined ? shape.frames.keys() : [frame]
  for (const ordinal of wanted) {
    const entry = shape.frames[ordinal]
    const isAsked = frame !== undefined
    if (entry === undefined || (!isKept(entry) && isAsked)) {
      throw missingObject(`${shape.key} (frame ${ordinal})`, 'another repository')
    }
    if (isKept(entry) && (await frames.findProved(ordinal)) === undefined) {
      throw damagedObject(shape.key, `frame ${ordinal} is not the one that was written`)
    }
  }
}

/** The verified object, which must be what its key says; else TM1601. */
export function decodeNamedWal(named: NamedWal, bytes: Uint8Array): WalObject {
  const { key, systemIdentifier, file, hash16 } = named
  const object = decodeWalObject(key, bytes, { systemIdentifier, name: file.name })
  if (hash16 === undefined || isNamedAfter(object.content, hash16)) return object
  throw damagedWalObject(key, 'its content is not what its name says')
}
