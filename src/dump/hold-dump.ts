/**
 * Takes the holds of a dump, one in each member of the group, and makes sure of its base: what an
 * expiry is about to remove, or has removed since it was chosen, is not used.
 *
 * Invariant: when this returns the hold of every living member names the base's record and packs,
 * and condemned sets were listed after it was written.
 */
import { isFailure } from '../base/failure.ts'
import type { Condemned } from '../repository/condemned-sets.ts'
import type { DumpFormat, DumpRecord } from '../repository/dump-record.ts'
import {
  type Hold,
  readHolder,
  removeHold,
  replaceHold,
  type TakenHold,
  takeHold,
} from '../repository/holds.ts'
import { dumpKey, dumpPackKey } from '../repository/keys.ts'
import { listDumpPacks, listDumps } from '../repository/read-dumps.ts'
import { readVerifiedMemory, verifiedKey } from '../repository/verified-memory.ts'
import type { Storage } from '../storage/storage.ts'
import type { WriteGroup } from '../storage/write-group.ts'
import { chooseDumpBase } from './choose-dump-base.ts'

export interface DumpPlan {
  readonly group: WriteGroup
  readonly cluster: string
  readonly id: string
  readonly attemptId: string
  readonly startedAt: Date
  readonly databases: readonly string[]
  readonly format: DumpFormat
  /** The base has the same one; undefined: any. */
  readonly selection?: readonly string[]
  /** No base. */
  readonly rewrite?: boolean
}

export interface HeldDump {
  /** By the number of the member. */
  readonly holds: ReadonlyMap<number, Hold>
  readonly base: DumpRecord | undefined
  /** Packs of the base that every living member has, and no expiry is removing. */
  readonly usablePacks: ReadonlySet<string>
  readonly notes: readonly string[]
}

/** A member that is not required and cannot be held is dropped. */
export async function holdDump(plan: DumpPlan): Promise<HeldDump> {
  const taken = new Map<number, TakenHold>()
  try {
    const notes: string[] = []
    const damaged = await readKnownDamage(plan, notes)
    const found = await takeHolds(plan, taken, damaged)
    const { base } = found
    notes.push(...found.notes, ...describeDamage(plan, base, damaged))
    const holds = new Map([...taken].map(([member, { hold }]) => [member, hold]))
    const usablePacks = await findUsablePacks(plan, base, taken, damaged)
    return { holds, base, usablePacks, notes }
  } catch (error) {
    await giveBack(plan, taken)
    throw error
  }
}

/**
 * Keys that `tidemark verify` found damaged in any member: what lies there is stored anew, so that
 * at least the dumps from now on can be loaded. A memory that cannot be read knows of nothing.
 */
async function readKnownDamage({ group, cluster, rewrite }: DumpPlan, notes: string[]) {
  if (rewrite === true) return new Set<string>()
  const memories = await group.gather(async (storage) => {
    const { memory, damaged } = await readVerifiedMemory(storage, cluster)
    const key = verifiedKey(cluster)
    if (damaged !== undefined) {
      notes.push(`what verify found damaged is not known: ${key} cannot be read (${damaged})`)
    }
    return memory.damagedObjects
  })
  return new Set([...memories.values()].flatMap((keys) => [...keys]))
}

function describeDamage(
  { cluster }: DumpPlan,
  base: DumpRecord | undefined,
  damaged: ReadonlySet<string>,
): string[] {
  const packs = (base?.packs ?? []).filter(({ id }) => damaged.has(dumpPackKey(cluster, id)))
  if (base === undefined || packs.length === 0) return []
  return [
    `of the packs of dump ${base.id} ${packs.length} cannot be trusted, as tidemark verify has ` +
      'found: what this dump needs of them is stored anew',
  ]
}

type FoundBase = Pick<HeldDump, 'base' | 'notes'>

async function takeHolds(
  plan: DumpPlan,
  taken: Map<number, TakenHold>,
  damaged: ReadonlySet<string>,
): Promise<FoundBase> {
  const { group, cluster } = plan
  const notes: string[] = []
  const without = new Set<string>()
  const lists = await group.gather(async (storage) => (await listDumps(storage, cluster)).dumps)
  for (;;) {
    const living = [...lists].filter(([member]) => !group.isDropped(member))
    const dumps = living.map(([, list]) => list)
    const base = plan.rewrite === true ? undefined : chooseDumpBase(dumps, { ...plan, without })
    if (base !== undefined && damaged.has(dumpKey(cluster, base.id))) {
      without.add(base.id)
      notes.push(`nothing is compared with dump ${base.id}, which was found damaged`)
      continue
    }
    const hold = describeHold(plan, base)
    const kept = await group.gather(async (storage, member) => {
      const one = await takeOrReplace(storage, cluster, hold, taken.get(member))
      taken.set(member, one)
      return await isThere(storage, cluster, base, one.condemned)
    })
    if (base === undefined || [...kept.values()].every((isKept) => isKept)) {
      return { base, notes: [...notes, ...describeUnreadable(taken)] }
    }
    without.add(base.id)
    notes.push(`nothing is compared with dump ${base.id}, which is expiring`)
  }
}

/** The first one is created; then it is replaced by one that names another base. */
async function takeOrReplace(
  storage: Storage,
  cluster: string,
  hold: Hold,
  before: TakenHold | undefined,
): Promise<TakenHold> {
  if (before === undefined) return await takeHold(storage, cluster, hold)
  return await replaceHold(storage, cluster, hold)
}

/** After the sets were listed: of one that is gone by now the record is gone, too. */
async function isThere(
  storage: Storage,
  cluster: string,
  base: DumpRecord | undefined,
  condemned: Condemned,
): Promise<boolean> {
  if (base === undefined) return true
  const key = dumpKey(cluster, base.id)
  return !condemned.hasKey(key) && (await storage.size(key)) !== undefined
}

function describeHold(plan: DumpPlan, base: DumpRecord | undefined): Hold {
  const { id, cluster, attemptId, startedAt } = plan
  const packs = (base?.packs ?? []).map((pack) => dumpPackKey(cluster, pack.id))
  return {
    id,
    purpose: 'dump',
    attemptId,
    ...readHolder(),
    startedAt: startedAt.toISOString(),
    needs: [],
    keys: base === undefined ? [] : [dumpKey(cluster, base.id), ...packs],
  }
}

function describeUnreadable(taken: ReadonlyMap<number, TakenHold>): string[] {
  const unreadable = [...taken.values()].flatMap(({ condemned }) => condemned.unreadable)
  return unreadable.map((key) => {
    return `everything is stored anew: ${key} cannot be read, nobody knows what an expiry removes`
  })
}

/**
 * Listed after the hold was written. One that is missing somewhere, or has another size, is
 * referred to nowhere: what lay in it is stored anew.
 */
async function findUsablePacks(
  { group, cluster }: DumpPlan,
  base: DumpRecord | undefined,
  taken: ReadonlyMap<number, TakenHold>,
  damaged: ReadonlySet<string>,
): Promise<ReadonlySet<string>> {
  const { packs = [] } = base ?? {}
  if (packs.length === 0) return new Set()
  const listed = await group.gather(async (storage) => await listDumpPacks(storage, cluster))
  const usable = packs.filter(({ id, bytes }) => {
    if (damaged.has(dumpPackKey(cluster, id))) return false
    return [...listed].every(([member, sizes]) => {
      const isCondemned = taken.get(member)?.condemned.hasKey(dumpPackKey(cluster, id)) !== false
      return sizes.get(id) === bytes && !isCondemned
    })
  })
  return new Set(usable.map(({ id }) => id))
}

async function giveBack(
  { group, cluster }: DumpPlan,
  taken: ReadonlyMap<number, TakenHold>,
): Promise<void> {
  for (const [member, { hold }] of taken) {
    try {
      await removeHold(group.storageOf(member), cluster, hold.id)
    } catch (error) {
      if (!isFailure(error)) throw error
    }
  }
}
