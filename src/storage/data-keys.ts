/**
 * The data keys of an encrypted repository and how whoever holds a slot comes by them:
 * `keys/<generation>.key`, and the slot's own object for what it joined later
 * (docs/design/encryption.md). Here and not in repository/, because a sealed storage looks
 * for newer generations by itself.
 *
 * Invariant: a data key that is handed out has the id and the proof of its generation, and
 * is the one that the slot was made for, or was made by somebody who had that one: a wrap
 * alone proves nothing, since the public keys of slots are there for everybody to read.
 */
import { createHmac, hash, timingSafeEqual } from 'node:crypto'
import { Failure } from '../base/failure.ts'
import {
  agreeOnSecret,
  deriveKey,
  KEY_BYTES,
  makeKeyPair,
  publicKeyOf,
  unwrapSecret,
  wrapSecret,
} from '../base/wrap-key.ts'
import type { Storage } from './storage.ts'

export const KEYS_PREFIX = 'keys/'
export const SLOTS_PREFIX = 'keys/slots/'

export interface DataKey {
  readonly generation: number
  /** 16 hex digits. */
  readonly id: string
  /** In hex. Never to be printed. */
  readonly secret: string
}

/** Plain data that opens a repository: for threads and for opening, never for printing. */
export interface Sealing {
  readonly repositoryId: string
  readonly slotId: string
  /** The private key of the slot, in hex. */
  readonly slotKey: string
  /** What the slot trusts, as long as no key is known. */
  readonly anchor?: Anchor
  /** Those that are known, ascending; newer ones are looked for. */
  readonly keys: readonly DataKey[]
}

/** Tells the data key that was the newest one when a slot was made. */
export interface Anchor {
  readonly generation: number
  /** 64 hex digits. */
  readonly fingerprint: string
}

/** A data key wrapped for one slot. All but `slot` in hex. */
export interface SlotWrap {
  readonly slot: string
  readonly publicKey: string
  readonly ephemeral: string
  readonly wrapped: string
}

export interface Generation {
  readonly format: 1
  readonly repositoryId: string
  readonly generation: number
  readonly keyId: string
  readonly createdAt: string
  /** Every data key before, ascending, wrapped under this one. */
  readonly previous: readonly PreviousKey[]
  readonly wraps: readonly SlotWrap[]
}

export interface PreviousKey {
  readonly generation: number
  readonly keyId: string
  readonly wrapped: string
}

/** What a slot joined that was added after a generation was made. */
export interface JoinedGeneration {
  readonly generation: number
  readonly ephemeral: string
  readonly wrapped: string
}

export function generationKey(generation: number): string {
  return `${KEYS_PREFIX}${String(generation).padStart(8, '0')}.key`
}

export function slotKey(slotId: string): string {
  return `${SLOTS_PREFIX}${slotId}.slot`
}

export function makeDataKey(generation: number, secret: Uint8Array): DataKey {
  const id = deriveKey(secret, 'tidemark key id', undefined, 8).toString('hex')
  return { generation, id, secret: Buffer.from(secret).toString('hex') }
}

export function anchorOf({ generation, secret }: DataKey): Anchor {
  const fingerprint = deriveKey(Buffer.from(secret, 'hex'), 'tidemark anchor').toString('hex')
  return { generation, fingerprint }
}

// ---- JSON with its hash and its proof

export interface KeyObject<T> {
  /** As it is stored, for its proof. */
  readonly text: string
  readonly proof: string
  readonly content: T
}

/** `provers`: who writes it has these data keys. */
export function formatKeyObject(content: unknown, ...provers: readonly DataKey[]): Buffer {
  const text = JSON.stringify(content)
  const proof = provers.map((dataKey) => proveText(dataKey, text)).join('')
  const whole = { content: text, sha256: hash('sha256', text), proof }
  return Buffer.from(`${JSON.stringify(whole)}\n`)
}

/** TM1606 when it is not as it was written. */
export function parseKeyObject<T>(key: string, bytes: Uint8Array): KeyObject<T> {
  try {
    const whole = JSON.parse(Buffer.from(bytes).toString('utf8')) as Record<string, unknown>
    const { content: text, sha256, proof } = whole
    if (typeof text !== 'string' || typeof proof !== 'string') throw new Error('no content')
    if (hash('sha256', text) !== sha256) throw new Error('its SHA-256 does not hold')
    const content = JSON.parse(text) as T & { format: number }
    if (content.format !== 1) throw new Error(`it has format ${content.format}`)
    return { text, proof, content }
  } catch (cause) {
    throw damagedKey(key, cause instanceof Error ? cause.message : String(cause), cause)
  }
}

/** Whether a holder of the data key, the prover number `place`, has written it. */
export function isProved(
  { text, proof }: KeyObject<unknown>,
  dataKey: DataKey,
  place = 0,
): boolean {
  const expected = Buffer.from(proveText(dataKey, text), 'hex')
  const given = Buffer.from(proof.slice(place * PROOF_DIGITS, (place + 1) * PROOF_DIGITS), 'hex')
  return given.length === expected.length && timingSafeEqual(given, expected)
}

const PROOF_DIGITS = 64

function proveText(dataKey: DataKey, text: string): string {
  const key = deriveKey(Buffer.from(dataKey.secret, 'hex'), 'tidemark proof')
  return createHmac('sha256', key).update(text).digest('hex')
}

// ---- wraps

function associatedOf(repositoryId: string, { generation, id }: Omit<DataKey, 'secret'>): string {
  return `tidemark data key ${repositoryId} ${generation} ${id}`
}

/** Needs the public key of the slot only. */
export function wrapForSlot(
  repositoryId: string,
  dataKey: DataKey,
  slot: { readonly id: string; readonly publicKey: string },
): SlotWrap {
  const pair = makeKeyPair()
  const publicKey = Buffer.from(slot.publicKey, 'hex')
  const under = wrappingKey(pair.privateKey, publicKey, pair.publicKey, publicKey)
  if (under === undefined) throw new Error(`slot ${slot.id} has no usable public key`)
  const secret = Buffer.from(dataKey.secret, 'hex')
  return {
    slot: slot.id,
    publicKey: slot.publicKey,
    ephemeral: pair.publicKey.toString('hex'),
    wrapped: wrapSecret(under, secret, associatedOf(repositoryId, dataKey)).toString('hex'),
  }
}

function wrappingKey(
  ownPrivate: Uint8Array,
  otherPublic: Uint8Array,
  ephemeral: Uint8Array,
  slotPublic: Uint8Array,
): Buffer | undefined {
  const shared = agreeOnSecret(ownPrivate, otherPublic)
  if (shared === undefined) return undefined
  return deriveKey(shared, 'tidemark wrap', Buffer.concat([ephemeral, slotPublic]))
}

export function wrapPrevious(
  repositoryId: string,
  previous: DataKey,
  dataKey: DataKey,
): PreviousKey {
  const under = deriveKey(Buffer.from(dataKey.secret, 'hex'), 'tidemark previous')
  const secret = Buffer.from(previous.secret, 'hex')
  const wrapped = wrapSecret(under, secret, associatedOf(repositoryId, previous))
  const { generation, id: keyId } = previous
  return { generation, keyId, wrapped: wrapped.toString('hex') }
}

type Wrapped = Pick<SlotWrap, 'ephemeral' | 'wrapped'>

function unwrapForSlot(
  { repositoryId, slotKey: privateKey }: Sealing,
  named: Omit<DataKey, 'secret'>,
  { ephemeral, wrapped }: Wrapped,
): DataKey | undefined {
  const own = Buffer.from(privateKey, 'hex')
  const other = Buffer.from(ephemeral, 'hex')
  const under = wrappingKey(own, other, other, publicKeyOf(own))
  if (under === undefined) return undefined
  const bytes = Buffer.from(wrapped, 'hex')
  return requireId(named, unwrapSecret(under, bytes, associatedOf(repositoryId, named)))
}

function unwrapPrevious(
  repositoryId: string,
  dataKey: DataKey,
  previous: PreviousKey,
): DataKey | undefined {
  const under = deriveKey(Buffer.from(dataKey.secret, 'hex'), 'tidemark previous')
  const named = { generation: previous.generation, id: previous.keyId }
  const wrapped = Buffer.from(previous.wrapped, 'hex')
  return requireId(named, unwrapSecret(under, wrapped, associatedOf(repositoryId, named)))
}

function requireId(
  { generation, id }: Omit<DataKey, 'secret'>,
  secret: Buffer | undefined,
): DataKey | undefined {
  if (secret?.length !== KEY_BYTES) return undefined
  const dataKey = makeDataKey(generation, secret)
  return dataKey.id === id ? dataKey : undefined
}

// ---- all of them

/** Numbers of the generations that are there, ascending, and the ids of the slots. */
export async function listKeys(
  storage: Storage,
): Promise<{ generations: number[]; slots: string[] }> {
  const generations: number[] = []
  const slots: string[] = []
  for await (const { key } of storage.list(KEYS_PREFIX)) {
    const generation = /^keys\/(\d{8})\.key$/.exec(key)?.[1]
    const slot = /^keys\/slots\/([0-9a-f]{16})\.slot$/.exec(key)?.[1]
    if (generation !== undefined) generations.push(Number(generation))
    if (slot !== undefined) slots.push(slot)
  }
  return { generations, slots }
}

/**
 * Every data key that the slot opens, ascending: the newest one by its wrap, the others out
 * of that one. TM1526 when the slot does not open the newest one; TM1606 when that one is
 * damaged or gone, or when nobody has made it who had the keys before. `listed`: the
 * generations, where they were listed just now.
 */
export async function readDataKeys(
  storage: Storage,
  sealing: Sealing,
  listed?: readonly number[],
): Promise<DataKey[]> {
  const generations = listed ?? (await listKeys(storage)).generations
  const newest = generations.at(-1)
  const known = sealing.keys.at(-1)
  const least = known?.generation ?? sealing.anchor?.generation ?? 1
  if (newest === undefined && known === undefined) throw noKeyYet(storage)
  // Nobody could open what is sealed with a key that has gone.
  if (newest === undefined || newest < least) throw damagedKey(generationKey(least), 'it is gone')
  if (newest === known?.generation) return [...sealing.keys]
  const object = await findGeneration(storage, newest)
  if (object === undefined) throw damagedKey(generationKey(newest), 'it is gone')
  const dataKey = await openGeneration(storage, sealing, object)
  if (dataKey === undefined) throw doesNotOpen(storage, sealing.slotId, newest)
  const keys = [...openPrevious(sealing.repositoryId, object, dataKey), dataKey]
  if (keys.some((key) => isTrusted(sealing, key))) return keys
  throw unknownMaker(generationKey(newest), least)
}

/** Whether it is the key that is known, or else the one that the slot was made for. */
function isTrusted({ keys, anchor }: Sealing, dataKey: DataKey): boolean {
  const known = keys.at(-1)
  if (known !== undefined) {
    return known.generation === dataKey.generation && known.secret === dataKey.secret
  }
  if (anchor === undefined) throw new Error('a sealing with neither key nor anchor')
  if (anchor.generation !== dataKey.generation) return false
  return anchor.fingerprint === anchorOf(dataKey).fingerprint
}

export async function findGeneration(
  storage: Storage,
  generation: number,
): Promise<KeyObject<Generation> | undefined> {
  const key = generationKey(generation)
  const bytes = await storage.read(key)
  if (bytes === undefined) return undefined
  const object = parseKeyObject<Generation>(key, bytes)
  if (object.content.generation === generation) return object
  throw damagedKey(key, 'it is that of another generation')
}

/** By the wrap in the generation, else by that in the slot; undefined: for neither. */
async function openGeneration(
  storage: Storage,
  sealing: Sealing,
  object: KeyObject<Generation>,
): Promise<DataKey | undefined> {
  const { generation, keyId: id, wraps } = object.content
  const wrap = wraps.find(({ slot }) => slot === sealing.slotId)
  const joined = wrap ?? (await findJoined(storage, sealing.slotId, generation))
  if (joined === undefined) return undefined
  const dataKey = unwrapForSlot(sealing, { generation, id }, joined)
  if (dataKey === undefined) throw damagedKey(generationKey(generation), 'it does not unwrap')
  return requireProof(object, dataKey)
}

function requireProof(object: KeyObject<Generation>, dataKey: DataKey): DataKey {
  if (isProved(object, dataKey)) return dataKey
  throw damagedKey(generationKey(dataKey.generation), 'no holder of its key has written it')
}

async function findJoined(
  storage: Storage,
  slotId: string,
  generation: number,
): Promise<Wrapped | undefined> {
  const key = slotKey(slotId)
  const bytes = await storage.read(key)
  if (bytes === undefined) return undefined
  const { content } = parseKeyObject<{ readonly joined: JoinedGeneration | null }>(key, bytes)
  return content.joined?.generation === generation ? content.joined : undefined
}

/** All before it, each unwrapped and proved: who made the generation had them. */
function openPrevious(
  repositoryId: string,
  object: KeyObject<Generation>,
  dataKey: DataKey,
): DataKey[] {
  const { previous, generation } = object.content
  const found = previous.map((one, index) => {
    const key = unwrapPrevious(repositoryId, dataKey, one)
    const isWhole = one.generation === index + 1 && key !== undefined
    return isWhole && isProved(object, key, index + 1) ? key : undefined
  })
  const keys = found.filter((key) => key !== undefined)
  if (keys.length === generation - 1) return keys
  throw damagedKey(generationKey(generation), 'the keys before it do not unwrap')
}

export function damagedKey(key: string, because: string, cause?: unknown): Failure {
  return new Failure('TM1606', {
    message: `the object ${key} of the repository is damaged`,
    because,
    fix: `bring it back from a copy of the repository; without it, use another slot or another
       repository of the cluster`,
    details: { key },
    ...(cause === undefined ? {} : { cause }),
  })
}

/** Nobody may seal with it, nor believe what it has sealed: its key may be anybody's. */
function unknownMaker(key: string, generation: number): Failure {
  return new Failure('TM1606', {
    message: `the object ${key} is none of this repository's`,
    because: `nobody who has the key of generation ${generation} has made it`,
    fix: `find out who can write to the repository; move the object away unless a copy of the
       repository has the same one`,
    details: { key },
  })
}

export function noKeyYet(storage: Storage): Failure {
  return new Failure('TM1526', {
    message: `the encrypted repository ${storage.url} has no key yet`,
    because: `its creation was interrupted: there is no ${generationKey(1)}`,
    fix: 'run tidemark init again; if backups were there before, bring keys/ back from a copy',
    details: { url: storage.url },
  })
}

export function doesNotOpen(storage: Storage, slotId: string, generation: number): Failure {
  return new Failure('TM1526', {
    message: `the key slot ${slotId} does not open generation ${generation} of ${storage.url}`,
    because: 'the slot was removed, or the key was rotated just as the slot was added',
    fix: 'let somebody with another key add it again: tidemark key add',
    details: { url: storage.url, slot: slotId, generation },
  })
}
