/**
 * Brings the identities of servers: with them a person's `sync` introduces a server to the
 * target, as `init` and a first backup do.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { clusterPrefix } from '../repository/keys.ts'
import {
  ensureSystemIdentity,
  findSystemIdentity,
  type SystemIdentity,
  systemKey,
} from '../repository/system-identity.ts'
import type { Storage } from '../storage/storage.ts'
import { addProblem, mayReplace, type SyncState } from './sync-state.ts'

/** Keys of all identities, damaged ones included. */
export async function listIdentityKeys(storage: Storage, cluster: string): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of storage.list(`${clusterPrefix(cluster)}systems/`)) {
    if (/\/systems\/\d{1,20}\.json$/.test(key)) keys.push(key)
  }
  return keys
}

/** The servers that the target knows afterwards as the source does. */
export async function bringIdentities(
  state: SyncState,
  keys: readonly string[],
): Promise<SystemIdentity[]> {
  const known: SystemIdentity[] = []
  for (const key of keys) {
    const systemIdentifier = /(\d+)\.json$/.exec(key)?.[1] as string
    const identity = await findIn(state, 'source', systemIdentifier)
    if (identity !== undefined && (await bringOne(state, identity))) known.push(identity)
  }
  return known
}

async function findIn(
  state: SyncState,
  side: 'source' | 'target',
  systemIdentifier: string,
): Promise<SystemIdentity | undefined> {
  const { cluster } = state
  try {
    return await findSystemIdentity(state[side], cluster, systemIdentifier)
  } catch (error) {
    if (!isFailure(error, 'TM1601')) throw error
    const key = systemKey(cluster, systemIdentifier)
    if (side === 'source') addProblem(state, side, key, error)
    else if (mayReplace(state, key)) await replaceDamaged(state, systemIdentifier)
    return undefined
  }
}

async function bringOne(state: SyncState, identity: SystemIdentity): Promise<boolean> {
  const { target, cluster } = state
  const { systemIdentifier } = identity
  const key = systemKey(cluster, systemIdentifier)
  try {
    const before = await findIn(state, 'target', systemIdentifier)
    await ensureSystemIdentity(target, cluster, identity)
    const isHealed = state.healed.some((one) => one.key === key)
    if (before === undefined && !isHealed) state.counts.others++
    await target.confirmDurable([key])
    return true
  } catch (error) {
    if (!(error instanceof Failure) || !/^TM(1407|1601)$/.test(error.code)) throw error
    addProblem(state, 'target', key, error)
    return false
  }
}

/** What no hash covers and every server states anew: nothing of it is kept. */
async function replaceDamaged(state: SyncState, systemIdentifier: string): Promise<void> {
  const { source, target, cluster, healed } = state
  const key = systemKey(cluster, systemIdentifier)
  const bytes = await source.read(key)
  if (bytes === undefined) return
  await target.write(key, bytes)
  healed.push({ key, frames: undefined, was: 'damaged' })
}
