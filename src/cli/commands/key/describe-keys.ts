/** What `key list` shows: slots, data keys, and what each of these protects. */
import { isFailure } from '../../../base/failure.ts'
import type { Progress } from '../../../base/progress.ts'
import type { RepositoryConfiguration } from '../../../config/configuration.ts'
import type { KeyState } from '../../../repository/change-keys.ts'
import type { ReadSlot } from '../../../repository/key-slots.ts'
import { listKeyUse } from '../../../repository/rewrite-objects.ts'
import { findGeneration, type Sealing } from '../../../storage/data-keys.ts'
import { isSealedKey, openSealedStorage } from '../../../storage/sealed-storage.ts'
import type { Storage } from '../../../storage/storage.ts'
import { formatTable } from '../../format-table.ts'
import { formatBytes, formatCount, formatTime } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

export interface KeyUses {
  /** By key id. */
  readonly uses: ReadonlyMap<string, { objects: number; bytes: number }>
  /** Objects whose seal has no header that can be read. */
  readonly unreadable: number
}

/** With one data key, a listing tells; else the header of every object is read. */
export async function measureKeys(
  storage: Storage,
  sealing: Sealing,
  { keys }: KeyState,
  progress: Progress,
): Promise<KeyUses> {
  const sealed = openSealedStorage(storage, { ...sealing, keys })
  const uses = new Map(keys.map(({ id }) => [id, { objects: 0, bytes: 0 }]))
  let unreadable = 0
  const count = (id: string | undefined, sizeBytes: number): void => {
    if (id === undefined) {
      unreadable += 1
      return
    }
    const use = uses.get(id) ?? { objects: 0, bytes: 0 }
    use.objects += 1
    use.bytes += sizeBytes
    uses.set(id, use)
  }
  const [only, other] = keys
  if (only !== undefined && other === undefined) {
    for await (const { key, sizeBytes } of sealed.list('')) {
      if (isSealedKey(key)) count(only.id, sizeBytes)
    }
    return { uses, unreadable }
  }
  progress.phase('looking at what each key protects', undefined, 'files')
  for await (const { keyId, sizeBytes } of listKeyUse(sealed, '')) {
    count(keyId, sizeBytes)
    progress.advance(1)
  }
  return { uses, unreadable }
}

interface Described {
  readonly repository: RepositoryConfiguration
  readonly state: KeyState
  readonly uses: KeyUses
  /** The slot that opened this run. */
  readonly own: string
}

export async function keysJson(storage: Storage, { repository, state, uses, own }: Described) {
  const slotJson = ({ content }: ReadSlot) => ({
    id: content.id,
    kind: content.kind,
    label: content.label,
    createdAt: content.createdAt,
    opensNewest: state.members.some((slot) => slot.content.id === content.id),
    opensThisRun: content.id === own,
  })
  return {
    repository: repository.name,
    url: repository.url,
    slots: [...state.members, ...state.strangers].map(slotJson),
    damaged: state.damaged.map(({ code, message, because }) => ({ code, message, because })),
    generations: await describeGenerations(storage, state, uses),
    unreadableObjects: uses.unreadable,
  }
}

async function describeGenerations(storage: Storage, { keys }: KeyState, { uses }: KeyUses) {
  const described = []
  for (const { generation, id } of keys) {
    const { objects, bytes } = uses.get(id) ?? { objects: 0, bytes: 0 }
    const createdAt = await findCreation(storage, generation)
    described.push({ generation, keyId: id, createdAt, objects, bytes })
  }
  const known = new Set(keys.map(({ id }) => id))
  const lost = [...uses].filter(([id]) => !known.has(id))
  return [
    ...described,
    ...lost.map(([keyId, use]) => ({ generation: null, keyId, createdAt: null, ...use })),
  ]
}

async function findCreation(storage: Storage, generation: number): Promise<string | null> {
  try {
    return (await findGeneration(storage, generation))?.content.createdAt ?? null
  } catch (error) {
    if (isFailure(error, 'TM1606')) return null
    throw error
  }
}

/** Whoever can write to the repository can write a slot: no control characters for terminals. */
export function shownLabel(label: string): string {
  return label.replace(/\p{Cc}/gu, '\u{fffd}')
}

export async function formatKeys(
  storage: Storage,
  described: Described,
  colours: Colours,
): Promise<string[]> {
  const { slots, generations, damaged, unreadableObjects } = await keysJson(storage, described)
  const slotRows = slots.map(({ id, kind, label, createdAt, opensNewest, opensThisRun }) => [
    id,
    kind,
    formatTime(createdAt),
    shownLabel(label),
    opensNewest ? (opensThisRun ? 'opened this run' : '') : colours.yellow('opens nothing new'),
  ])
  const rows = generations.map(({ generation, keyId, createdAt, objects, bytes }) => [
    generation === null ? colours.red('lost') : String(generation),
    keyId,
    createdAt === null ? '?' : formatTime(createdAt),
    String(objects),
    formatBytes(bytes),
  ])
  const broken = damaged.map(({ message, because }) => colours.red(`${message}: ${because ?? ''}`))
  const unreadable =
    unreadableObjects === 0
      ? []
      : [colours.red(`${formatCount(unreadableObjects, 'object')} without a seal: tidemark verify`)]
  return [
    ...formatTable(
      ['SLOT', 'KIND', 'CREATED (UTC)', 'LABEL', ''].map((title) => ({ title })),
      slotRows,
    ),
    '',
    ...formatTable(
      [
        { title: 'GENERATION', align: 'right' },
        { title: 'KEY' },
        { title: 'CREATED (UTC)' },
        { title: 'OBJECTS', align: 'right' },
        { title: 'SIZE', align: 'right' },
      ],
      rows,
    ),
    ...broken,
    ...unreadable,
  ]
}
