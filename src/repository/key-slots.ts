/**
 * Key slots: who may open an encrypted repository, `keys/slots/<id>.slot`
 * (docs/design/encryption.md). A slot is a key pair whose private half is wrapped under a
 * secret; data keys are wrapped for its public half by the generations.
 *
 * Invariant: what opens a slot never leaves the process, but for what the memory of the
 * private directory keeps, which is of use only together with the passphrase.
 */
import { hash, scrypt } from 'node:crypto'
import { isFailure, type Failure } from '../base/failure.ts'
import { randomHex, randomOctets } from '../base/random.ts'
import { deriveKey, KEY_BYTES, makeKeyPair, unwrapSecret, wrapSecret } from '../base/wrap-key.ts'
import {
  type Anchor,
  anchorOf,
  type DataKey,
  damagedKey,
  formatKeyObject,
  type JoinedGeneration,
  type KeyObject,
  parseKeyObject,
  slotKey,
  wrapForSlot,
} from '../storage/data-keys.ts'
import type { Storage } from '../storage/storage.ts'

export type SlotKind = 'passphrase' | 'key-file' | 'key-command'

/** What opens a slot. Not to be printed. */
export interface KeySecret {
  readonly kind: SlotKind
  readonly bytes: Uint8Array
  /** For messages: `repositories.local.encryption`. */
  readonly where: string
}

export interface Slot {
  readonly format: 1
  readonly id: string
  readonly kind: SlotKind
  readonly label: string
  readonly createdAt: string
  readonly kdf: KeyDerivation
  readonly publicKey: string
  readonly privateKey: string
  /** Bound to the private key by the secret of the slot: nobody else can change it. */
  readonly anchor: Anchor
  /** The generation that it joined; null in the first slot of a repository. */
  readonly joined: JoinedGeneration | null
}

export type KeyDerivation = ScryptDerivation | { readonly name: 'hkdf'; readonly salt: string }

interface ScryptDerivation {
  readonly name: 'scrypt'
  readonly n: number
  readonly r: number
  readonly p: number
  readonly salt: string
}

/** Keeps what scrypt costs, by the hash of a slot. */
export interface SlotMemory {
  recall(slotHash: string): Uint8Array | undefined
  remember(slotHash: string, bytes: Uint8Array): void
}

/** 128 MiB and about 0.4 s; stored in each slot. */
export const SCRYPT_COST = 131_072
const SCRYPT_BLOCK = 8
/** What a slot may ask for at most: a damaged or planted one must not take the machine down. */
const MOST_SCRYPT_BYTES = 1024 ** 3

export interface NewSlot {
  readonly repositoryId: string
  readonly secret: KeySecret
  readonly label: string
  readonly createdAt: Date
  /** For tests: SCRYPT_COST unless given. */
  readonly scryptCost?: number
}

/** A slot that opens nothing yet, and trusts what follows this data key. */
export async function makeSlot(request: NewSlot, newest: DataKey): Promise<Slot> {
  const { repositoryId, secret, label, createdAt, scryptCost = SCRYPT_COST } = request
  const id = randomHex(8)
  const salt = randomHex(16)
  const kdf: KeyDerivation =
    secret.kind === 'passphrase'
      ? { name: 'scrypt', n: scryptCost, r: SCRYPT_BLOCK, p: 1, salt }
      : { name: 'hkdf', salt }
  const pair = makeKeyPair()
  const publicKey = pair.publicKey.toString('hex')
  const under = await deriveSlotKey(kdf, secret.bytes)
  const anchor = anchorOf(newest)
  const associated = associatedOf(repositoryId, { id, publicKey, anchor })
  return {
    format: 1,
    id,
    kind: secret.kind,
    label,
    createdAt: createdAt.toISOString(),
    kdf,
    publicKey,
    privateKey: wrapSecret(under, pair.privateKey, associated).toString('hex'),
    anchor,
    joined: null,
  }
}

/** The slot as one that opens this generation; needs its public key only. */
export function joinGeneration(repositoryId: string, slot: Slot, dataKey: DataKey): Slot {
  const { ephemeral, wrapped } = wrapForSlot(repositoryId, dataKey, slot)
  return { ...slot, joined: { generation: dataKey.generation, ephemeral, wrapped } }
}

/** `proof`: the generation that it joined, if any. */
export async function writeSlot(
  storage: Storage,
  slot: Slot,
  proof: DataKey | undefined,
): Promise<void> {
  const provers = proof === undefined ? [] : [proof]
  await storage.write(slotKey(slot.id), formatKeyObject(slot, ...provers))
}

type SlotFacts = Pick<Slot, 'id' | 'publicKey' | 'anchor'>

function associatedOf(repositoryId: string, { id, publicKey, anchor }: SlotFacts): string {
  const { generation, fingerprint } = anchor
  return `tidemark slot ${repositoryId} ${id} ${publicKey} ${generation} ${fingerprint}`
}

async function deriveSlotKey(kdf: KeyDerivation, secret: Uint8Array): Promise<Buffer> {
  const salt = Buffer.from(kdf.salt, 'hex')
  if (kdf.name === 'hkdf') return deriveKey(secret, 'tidemark slot', salt)
  const { n: N, r, p } = kdf
  const maxmem = 128 * N * r + 1024 * 1024
  return await new Promise((resolve, reject) => {
    scrypt(secret, salt, KEY_BYTES, { N, r, p, maxmem }, (error, key) => {
      if (error === null) resolve(key)
      else reject(error)
    })
  })
}

export type ReadSlot = KeyObject<Slot>

/** The slots that can be read, in the order of their ids, and why others cannot. */
export async function readSlots(
  storage: Storage,
  ids: readonly string[],
): Promise<{ slots: ReadSlot[]; damaged: Failure[] }> {
  const damaged: Failure[] = []
  const read = ids.map(async (id) => {
    try {
      return await findSlot(storage, id)
    } catch (error) {
      if (!isFailure(error, 'TM1606')) throw error
      damaged.push(error)
      return undefined
    }
  })
  const slots = (await Promise.all(read)).filter((slot) => slot !== undefined)
  return { slots, damaged }
}

/** TM1606 when it is damaged. */
export async function findSlot(storage: Storage, id: string): Promise<ReadSlot | undefined> {
  const key = slotKey(id)
  const bytes = await storage.read(key)
  if (bytes === undefined) return undefined
  const slot = parseKeyObject<Slot>(key, bytes)
  if (slot.content.id !== id) throw damagedKey(key, 'it is another slot')
  if (typeof slot.content.anchor?.fingerprint !== 'string') {
    throw damagedKey(key, 'it does not say which key it was made for')
  }
  if (!isPlausible(slot.content.kdf)) throw damagedKey(key, 'its costs are not plausible')
  return slot
}

function isPlausible(kdf: KeyDerivation): boolean {
  if (!/^[0-9a-f]{32}$/.test(kdf.salt)) return false
  if (kdf.name === 'hkdf') return true
  const { name, n, r, p } = kdf
  const isPower = Number.isInteger(Math.log2(n)) && n > 1
  const isCount = Number.isInteger(r) && r > 0 && Number.isInteger(p) && p > 0
  return name === 'scrypt' && isPower && isCount && p <= 16 && 128 * n * r <= MOST_SCRYPT_BYTES
}

/** The private key of the slot in hex, or undefined: it was made for another secret. */
export async function openSlot(
  repositoryId: string,
  { content: slot, text }: ReadSlot,
  secret: KeySecret,
  memory: SlotMemory | undefined,
): Promise<string | undefined> {
  const isScrypt = slot.kdf.name === 'scrypt'
  if (isScrypt !== (secret.kind === 'passphrase')) return undefined
  const useful = isScrypt ? memory : undefined
  const slotHash = hash('sha256', text)
  const known = useful?.recall(slotHash)
  const kept = known === undefined ? undefined : unwrapKept(secret, slotHash, known)
  const under = kept ?? (await deriveSlotKey(slot.kdf, secret.bytes))
  const wrapped = Buffer.from(slot.privateKey, 'hex')
  const privateKey = unwrapSecret(under, wrapped, associatedOf(repositoryId, slot))
  if (privateKey === undefined) return undefined
  if (kept === undefined) useful?.remember(slotHash, wrapKept(secret, slotHash, under))
  return privateKey.toString('hex')
}

/** Whether opening it would cost scrypt. */
export function isRemembered({ text }: ReadSlot, memory: SlotMemory | undefined): boolean {
  return memory?.recall(hash('sha256', text)) !== undefined
}

/** 16 bytes of salt, then the result of scrypt wrapped under the passphrase. */
const KEPT_SALT_BYTES = 16

function wrapKept({ bytes }: KeySecret, slotHash: string, under: Uint8Array): Buffer {
  const salt = randomOctets(KEPT_SALT_BYTES)
  return Buffer.concat([salt, wrapSecret(deriveKey(bytes, 'tidemark kept', salt), under, slotHash)])
}

function unwrapKept({ bytes }: KeySecret, slotHash: string, kept: Uint8Array): Buffer | undefined {
  const key = deriveKey(bytes, 'tidemark kept', kept.subarray(0, KEPT_SALT_BYTES))
  return unwrapSecret(key, kept.subarray(KEPT_SALT_BYTES), slotHash)
}
