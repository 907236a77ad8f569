/**
 * The repositories that a restore reads as one. Those that do not answer when it begins are left
 * out, and said: what only they have is not seen.
 */
import { Failure } from '../base/failure.ts'
import type { BackupRecord } from '../repository/backup-record.ts'
import { backupKey } from '../repository/keys.ts'
import { openRepository } from '../repository/repository.ts'
import { findSystemIdentity } from '../repository/system-identity.ts'
import {
  copiesOf,
  listenToFallback,
  openFallbackStorage,
  type PassedOver,
} from '../storage/fallback-storage.ts'
import { openStorage, type StorageSpecification } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'

export interface Sources {
  /** In the order in which they are asked. */
  readonly list: readonly Source[]
  /** All that answer, read as one. */
  readonly storage: Storage
  /** What worker threads open the same by, in the same order. */
  readonly specification: StorageSpecification
  /** What had to be taken from elsewhere, so far. */
  readonly passedOver: PassedOver[]
  /** Sentences on those that were left out. */
  readonly notes: readonly string[]
}

/** Nearest first; what the first failed with when none answers. */
export async function openSources(wanted: StorageSpecification): Promise<Sources> {
  const { fallbacks = [], ...nearest } = wanted
  const opened: Source[] = []
  const failures: Failure[] = []
  const notes: string[] = []
  for (const specification of [nearest, ...fallbacks]) {
    try {
      opened.push({ specification, storage: await openOne(specification) })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      failures.push(error)
      notes.push(describeLeftOut(specification.url, error))
    }
  }
  if (opened.length === 0) throw failures[0] as Failure
  return join(opened, [], notes)
}

/** What is said of a repository that could not be opened. */
export function describeLeftOut(name: string, { message, because }: Failure): string {
  const why = because === undefined ? message : `${message}: ${because}`
  return `${name} is left out, and what only it has is not seen: ${why}`
}

interface Source {
  readonly specification: StorageSpecification
  readonly storage: Storage
}

async function openOne(specification: StorageSpecification): Promise<Storage> {
  const storage = await openStorage(specification)
  try {
    await openRepository(storage)
    return storage
  } catch (error) {
    await storage.close()
    throw error
  }
}

function join(
  sources: readonly Source[],
  passedOver: PassedOver[],
  notes: readonly string[],
): Sources {
  const storage = openFallbackStorage(sources.map((source) => source.storage))
  listenToFallback(storage, (event) => void passedOver.push(event))
  const [first, ...others] = sources.map(({ specification }) => specification)
  if (first === undefined) throw new Error('no repository to restore from')
  const specification = others.length === 0 ? first : { ...first, fallbacks: others }
  return { list: sources, storage, specification, passedOver, notes }
}

/** Those that list the record come first: there all that it needs was kept. */
export async function preferHolders(sources: Sources, record: BackupRecord): Promise<Sources> {
  if (sources.list.length === 1) return sources
  const key = backupKey(record.cluster, record.id)
  const holding: Source[] = []
  const lacking: Source[] = []
  for (const source of sources.list) {
    const { storage } = source
    const isThere = await storage.size(key).then(
      (size) => size !== undefined,
      () => false,
    )
    const list = isThere ? holding : lacking
    list.push(source)
  }
  return join([...holding, ...lacking], sources.passedOver, sources.notes)
}

/** Those that know the server: a repository that is new says nothing about its WAL. */
export async function storagesOfServer(
  { storage }: Sources,
  cluster: string,
  systemIdentifier: string,
): Promise<readonly Storage[]> {
  const knowing: Storage[] = []
  for (const copy of copiesOf(storage)) {
    // One that cannot say now is asked for the WAL, and fails or not.
    const identity = await findSystemIdentity(copy, cluster, systemIdentifier).catch(() => true)
    if (identity !== undefined) knowing.push(copy)
  }
  return knowing.length === 0 ? copiesOf(storage) : knowing
}

/** Each object once for each repository that did not give it. */
export function withoutRepeats(events: readonly PassedOver[]): PassedOver[] {
  return [...new Map(events.map((event) => [`${event.url} ${event.key}`, event])).values()]
}

export function describePassedOver({ url, key, because, takenFrom }: PassedOver): string {
  return `${key} of ${url}: ${because}; taken from ${takenFrom}`
}
