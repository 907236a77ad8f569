/**
 * Opens an encrypted repository: from a secret to what seals and opens its objects; and
 * makes the first key of a new one.
 *
 * Invariant: a wrong key (TM1522) is said only when every slot that it may be made for is
 * whole; else it is damage (TM1606).
 */
import { Failure, isFailure } from '../base/failure.ts'
import { randomOctets } from '../base/random.ts'
import { KEY_BYTES } from '../base/wrap-key.ts'
import {
  findGeneration,
  formatKeyObject,
  type Generation,
  generationKey,
  listKeys,
  makeDataKey,
  noKeyYet,
  readDataKeys,
  type Sealing,
  slotKey,
  wrapForSlot,
} from '../storage/data-keys.ts'
import type { Storage } from '../storage/storage.ts'
import {
  isRemembered,
  type KeySecret,
  makeSlot,
  type NewSlot,
  openSlot,
  type ReadSlot,
  readSlots,
  type SlotMemory,
  writeSlot,
} from './key-slots.ts'
import { REPOSITORY_KEY } from './keys.ts'
import { readIdentity, refuseUnencrypted } from './repository.ts'

/**
 * `storage` is the one without seal. TM1503, TM1521, TM1522, TM1526, TM1606. `without`: a
 * slot that shall not be the one which opens it.
 */
export async function unlockRepository(
  storage: Storage,
  secret: KeySecret,
  memory?: SlotMemory,
  without?: string,
): Promise<Sealing> {
  const identity = await readIdentity(storage)
  if (!identity.isEncrypted) throw refuseUnencrypted(storage)
  const { generations, slots: ids } = await listKeys(storage)
  if (generations.length === 0) throw noKeyYet(storage)
  const { slots, damaged } = await readSlots(
    storage,
    ids.filter((id) => id !== without),
  )
  const { repositoryId } = identity
  let refusal: Failure | undefined
  for (const slot of rememberedFirst(slots, memory)) {
    const opened = await openSlot(repositoryId, slot, secret, memory)
    if (opened === undefined) continue
    const { id: slotId, anchor } = slot.content
    const sealing: Sealing = { repositoryId, slotId, slotKey: opened, anchor, keys: [] }
    try {
      return { ...sealing, keys: await readDataKeys(storage, sealing, generations) }
    } catch (error) {
      // The same secret may have another slot.
      if (!isFailure(error, 'TM1526')) throw error
      refusal = error
    }
  }
  throw (
    refusal ??
    damaged[0] ??
    (await findOtherIdentity(storage, repositoryId, generations)) ??
    wrongKey(storage, secret, slots)
  )
}

/** Slots are bound to the id: one that was made anew lets nobody in. */
async function findOtherIdentity(
  storage: Storage,
  repositoryId: string,
  generations: readonly number[],
): Promise<Failure | undefined> {
  const newest = await findGeneration(storage, generations.at(-1) ?? 1)
  const other = newest?.content.repositoryId
  if (other === undefined || other === repositoryId) return undefined
  return new Failure('TM1606', {
    message: `the object ${REPOSITORY_KEY} of ${storage.url} is another repository's`,
    because: `it says ${repositoryId}, and the keys are of ${other}`,
    fix: `bring it back from a copy of the repository, or make it
       {"format":1,"repositoryId":"${other}","createdAt":"","encryption":1}`,
    details: { key: REPOSITORY_KEY, repositoryId, keysOf: other },
  })
}

function rememberedFirst(slots: readonly ReadSlot[], memory: SlotMemory | undefined): ReadSlot[] {
  const rank = (slot: ReadSlot): number => (isRemembered(slot, memory) ? 0 : 1)
  return slots.toSorted((a, b) => rank(a) - rank(b))
}

function wrongKey(storage: Storage, secret: KeySecret, slots: readonly ReadSlot[]): Failure {
  const known = slots.map(({ content: { id, kind, label } }) => `${id} (${kind}, '${label}')`)
  return new Failure('TM1522', {
    message: `the key of ${secret.where} does not open ${storage.url}`,
    because: `its slots were made for others: ${known.join(', ') || 'there are none'}`,
    fix: `give the ${secret.kind.replace('-', ' ')} that one of them was made for, or let somebody
       whose key opens it add this one: tidemark key add`,
    details: { url: storage.url, slots: slots.map(({ content }) => content.id) },
  })
}

/**
 * The first slot and the first data key, unless the repository has one: of two that create
 * at once, one wins. Nothing is sealed before generation 1 is there; a slot whose run was
 * interrupted before that opens nothing and does no harm.
 */
export async function ensureFirstKey(
  storage: Storage,
  request: Omit<NewSlot, 'repositoryId'>,
): Promise<void> {
  const { repositoryId, isEncrypted } = await readIdentity(storage)
  if (!isEncrypted) throw refuseUnencrypted(storage)
  const { generations } = await listKeys(storage)
  if (generations.length > 0) return
  // Keys that were lost are not replaced: what they sealed could then only look damaged.
  for await (const { key } of storage.list('clusters/')) throw keysAreLost(storage, key)
  const dataKey = makeDataKey(1, randomOctets(KEY_BYTES))
  const slot = await makeSlot({ ...request, repositoryId }, dataKey)
  const generation: Generation = {
    format: 1,
    repositoryId,
    generation: 1,
    keyId: dataKey.id,
    createdAt: request.createdAt.toISOString(),
    previous: [],
    wraps: [wrapForSlot(repositoryId, dataKey, slot)],
  }
  await writeSlot(storage, slot, undefined)
  try {
    const bytes = formatKeyObject(generation, dataKey)
    await storage.write(generationKey(1), bytes, { createOnly: true })
  } catch (error) {
    if (!isFailure(error, 'TM1502')) throw error
    await storage.remove(slotKey(slot.id))
  }
}

function keysAreLost(storage: Storage, key: string): Failure {
  return new Failure('TM1526', {
    message: `the encrypted repository ${storage.url} has lost its keys`,
    because: `it holds objects, such as ${key}, and there is no ${generationKey(1)}`,
    fix: 'bring the objects below keys/ back from a copy of the repository',
    details: { url: storage.url },
  })
}
