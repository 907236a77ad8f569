/**
 * Changes of the keys of an encrypted repository: slots added and removed, data keys
 * rotated (docs/design/encryption.md has the order and the crash windows).
 *
 * Invariants: a data key is durable, wrapped for every slot that is proved, before anything
 * is sealed with it. A slot is removed only by a run that was opened by another one.
 */
import { Failure, isFailure } from '../base/failure.ts'
import { randomOctets } from '../base/random.ts'
import { KEY_BYTES } from '../base/wrap-key.ts'
import {
  type DataKey,
  doesNotOpen,
  findGeneration,
  formatKeyObject,
  type Generation,
  generationKey,
  isProved,
  type KeyObject,
  listKeys,
  makeDataKey,
  readDataKeys,
  type Sealing,
  slotKey,
  wrapForSlot,
  wrapPrevious,
} from '../storage/data-keys.ts'
import type { Storage } from '../storage/storage.ts'
import {
  findSlot,
  joinGeneration,
  makeSlot,
  type NewSlot,
  type ReadSlot,
  readSlots,
  type Slot,
  writeSlot,
} from './key-slots.ts'

export interface KeyState {
  /** Ascending; those that the slot of this run opens. */
  readonly keys: readonly DataKey[]
  readonly newest: KeyObject<Generation>
  /** Slots that open the newest generation. */
  readonly members: readonly ReadSlot[]
  /** Slots that do not: never joined, or not proved. */
  readonly strangers: readonly ReadSlot[]
  readonly damaged: readonly Failure[]
}

/** `storage`: the one without seal, as everywhere here. */
export async function readKeyState(storage: Storage, sealing: Sealing): Promise<KeyState> {
  const keys = await readDataKeys(storage, sealing)
  const dataKey = newestOf(keys)
  const newest = await findGeneration(storage, dataKey.generation)
  if (newest === undefined) throw doesNotOpen(storage, sealing.slotId, dataKey.generation)
  const { slots: ids } = await listKeys(storage)
  const { slots, damaged } = await readSlots(storage, ids)
  const members = slots.filter((slot) => isMember(slot, newest, dataKey))
  const strangers = slots.filter((slot) => !members.includes(slot))
  return { keys, newest, members, strangers, damaged }
}

function newestOf(keys: readonly DataKey[]): DataKey {
  const newest = keys.at(-1)
  if (newest === undefined) throw new Error('a sealing without a key')
  return newest
}

/** Whether a holder of the key has let this slot, with this public key, in. Pure. */
function isMember(slot: ReadSlot, generation: KeyObject<Generation>, dataKey: DataKey): boolean {
  const { id, publicKey, joined } = slot.content
  const { wraps } = generation.content
  if (wraps.some((wrap) => wrap.slot === id && wrap.publicKey === publicKey)) return true
  return joined?.generation === dataKey.generation && isProved(slot, dataKey)
}

/** Slots that the newest generation was wrapped for, and that are there no more. Pure. */
export function listRemoved({ newest, members, strangers }: KeyState): string[] {
  const there = new Set([...members, ...strangers].map(({ content }) => content.id))
  return newest.content.wraps.map(({ slot }) => slot).filter((id) => !there.has(id))
}

/** Gives the new slot; durable when fulfilled. */
export async function addSlot(
  storage: Storage,
  sealing: Sealing,
  request: Omit<NewSlot, 'repositoryId'>,
): Promise<Slot> {
  const { repositoryId } = sealing
  const newest = newestOf(await readDataKeys(storage, sealing))
  const slot = await makeSlot({ ...request, repositoryId }, newest)
  await joinNewest(storage, sealing, slot)
  return slot
}

/** A rotation that began before the slot was there does not know it: the keys are read again. */
async function joinNewest(storage: Storage, sealing: Sealing, slot: Slot): Promise<void> {
  for (let joinedTo = 0; ; ) {
    const newest = newestOf(await readDataKeys(storage, sealing))
    if (newest.generation === joinedTo) return
    await writeSlot(storage, joinGeneration(sealing.repositoryId, slot, newest), newest)
    joinedTo = newest.generation
  }
}

/**
 * `sealing` is that of another slot: its holder has opened the repository in this run. When
 * that one was removed meanwhile, by its own holder's neighbour, the slot comes back.
 */
export async function removeSlot(storage: Storage, sealing: Sealing, id: string): Promise<void> {
  if (id === sealing.slotId) throw new Error('a slot cannot remove itself')
  const key = slotKey(id)
  const bytes = await storage.read(key)
  if (bytes === undefined) throw noSuchSlot(storage, id)
  await storage.remove(key)
  if ((await storage.size(slotKey(sealing.slotId))) !== undefined) return
  await storage.write(key, bytes)
  throw lastSlot(id, 'the slot that this command was opened with was removed at the same time')
}

export interface Rotation {
  readonly key: DataKey
  /** Slots that open the new generation. */
  readonly slots: readonly Slot[]
  /** Ids of those that do not, and why. */
  readonly left: readonly { readonly slot: string; readonly because: string }[]
  /** What opens it now. */
  readonly sealing: Sealing
}

/** A new data key for everything that is written from now on. TM1528 for the loser of two. */
export async function rotateDataKey(
  storage: Storage,
  sealing: Sealing,
  createdAt: Date,
): Promise<Rotation> {
  const state = await readKeyState(storage, sealing)
  const { repositoryId, slotId } = sealing
  const previous = newestOf(state.keys)
  // A key that is wrapped for nobody would seal all that is written from now on for nobody.
  if (!state.members.some(({ content }) => content.id === slotId)) {
    throw doesNotOpen(storage, slotId, previous.generation)
  }
  const key = makeDataKey(previous.generation + 1, randomOctets(KEY_BYTES))
  const generation: Generation = {
    format: 1,
    repositoryId,
    generation: key.generation,
    keyId: key.id,
    createdAt: createdAt.toISOString(),
    previous: state.keys.map((one) => wrapPrevious(repositoryId, one, key)),
    wraps: state.members.map(({ content }) => wrapForSlot(repositoryId, key, content)),
  }
  await createGeneration(storage, formatKeyObject(generation, key, ...state.keys), key)
  const rotated = { ...sealing, keys: [...state.keys, key] }
  const late = await joinLateSlots(storage, rotated, { previous, state })
  const left = [
    ...state.strangers
      .filter(({ content }) => !late.some(({ id }) => id === content.id))
      .map(({ content }) => ({ slot: content.id, because: 'it did not open the key before' })),
    ...state.damaged.map((failure) => ({
      slot: String(failure.details?.['key'] ?? ''),
      because: failure.because ?? failure.message,
    })),
  ]
  const slots = [...state.members.map(({ content }) => content), ...late]
  return { key, slots, left, sealing: rotated }
}

async function createGeneration(storage: Storage, bytes: Buffer, key: DataKey): Promise<void> {
  const place = generationKey(key.generation)
  try {
    await storage.write(place, bytes, { createOnly: true })
  } catch (cause) {
    if (!isFailure(cause, 'TM1502')) throw cause
    throw new Failure('TM1528', {
      message: `another run has rotated the key of ${storage.url} meanwhile`,
      because: `${place} was created by it first`,
      fix: 'nothing is to be done; tidemark key list shows the new generation',
      details: { url: storage.url, generation: key.generation },
      cause,
    })
  }
}

/** Slots that came between the listing and the creation: their run may have ended already. */
async function joinLateSlots(
  storage: Storage,
  rotated: Sealing,
  rotation: { readonly previous: DataKey; readonly state: KeyState },
): Promise<Slot[]> {
  const { previous, state } = rotation
  const known = new Set(state.members.map(({ content }) => content.id))
  const { slots: ids } = await listKeys(storage)
  const late: Slot[] = []
  for (const id of ids.filter((each) => !known.has(each))) {
    const slot = await findReadable(storage, id)
    if (slot === undefined || !isMember(slot, state.newest, previous)) continue
    // Another rotation may have come behind this one, for which the slot was a stranger.
    await joinNewest(storage, rotated, slot.content)
    late.push(slot.content)
  }
  return late
}

async function findReadable(storage: Storage, id: string): Promise<ReadSlot | undefined> {
  try {
    return await findSlot(storage, id)
  } catch (error) {
    if (isFailure(error, 'TM1606')) return undefined
    throw error
  }
}

function noSuchSlot(storage: Storage, id: string): Failure {
  return new Failure('TM1525', {
    message: `there is no key slot ${id}`,
    because: `${storage.url} holds no object ${slotKey(id)}`,
    fix: 'tidemark key list shows the slots',
    details: { url: storage.url, slot: id },
  })
}

export function lastSlot(id: string, because: string): Failure {
  return new Failure('TM1524', {
    message: `the key slot ${id} must stay`,
    because,
    fix: `add another slot (tidemark key add), let the configuration name its key, and remove this
       one then`,
    details: { slot: id },
  })
}
