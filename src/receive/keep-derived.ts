/**
 * What a receiver writes beside the WAL: the event index of each segment that is complete, and
 * now and then which file node is which relation.
 *
 * Invariant: nothing here holds up the stream or ends it. What is left out is computed by
 * `wal index`; a name that was not read is shown as a number.
 */
import { sleep } from '../base/clock.ts'
import { type Failure, isFailure } from '../base/failure.ts'
import { indexSegment } from '../events/index-segment.ts'
import { IndexPool } from '../events/index-pool.ts'
import {
  type CatalogueNames,
  findNamesSnapshot,
  isWorthWriting,
  listNamesSnapshots,
  writeNamesSnapshot,
} from '../events/names-snapshot.ts'
import { readCatalogueNames } from '../events/read-catalogue-names.ts'
import type { ConnectionDefaults } from '../postgres/connection-url.ts'
import { openServerSession } from '../postgres/server-session.ts'
import type { Storage } from '../storage/storage.ts'

/** Segments that wait for their index; of more, the newest are left to `wal index`. */
const MOST_WAITING = 4
/** Larger ones would fill the memory. */
const LARGEST_BYTES = 256 * 1024 * 1024
/** A receiver that ends at once has no use for names. */
const FIRST_NAMES_MS = 10_000
const NAMES_EVERY_MS = 600_000

export interface KeptArchive {
  readonly cluster: string
  readonly storages: readonly Storage[]
  /** Said once. */
  readonly onWarning: (failure: Failure) => void
  /** When names are read first. */
  readonly firstNamesMs?: number
}

export interface NamedServer {
  readonly connection: string
  readonly defaults: ConnectionDefaults | undefined
  readonly systemIdentifier: string
}

export class DerivedKeeper {
  readonly #archive: KeptArchive
  readonly #stop = new AbortController()
  #pool: IndexPool | undefined
  #waiting = 0
  #hasWarned = false
  #indexing: Promise<void> = Promise.resolve()
  #names: CatalogueNames | undefined

  constructor(archive: KeptArchive) {
    this.#archive = archive
  }

  /** `content` must stay as it is until this is fulfilled. */
  async archived(systemIdentifier: string, name: string, content: Uint8Array): Promise<void> {
    const isTooMuch = this.#waiting >= MOST_WAITING || content.length > LARGEST_BYTES
    if (isTooMuch || this.#stop.signal.aborted) return
    this.#waiting += 1
    this.#indexing = this.#indexing.then(async () => {
      // indexSegment() tells what went wrong, and throws nothing.
      await this.#index(systemIdentifier, name, content)
      this.#waiting -= 1
    })
    await this.#indexing
  }

  async #index(systemIdentifier: string, name: string, bytes: Uint8Array): Promise<void> {
    if (this.#stop.signal.aborted) return
    const { cluster, storages } = this.#archive
    this.#pool ??= new IndexPool(1, true)
    const pool = this.#pool
    const { failures } = await indexSegment({
      storages,
      cluster,
      systemIdentifier,
      name,
      bytes,
      pool,
    })
    for (const { failure } of failures) this.#warn(failure)
  }

  #warn(failure: Failure): void {
    if (!this.#hasWarned && !this.#stop.signal.aborted) this.#archive.onWarning(failure)
    this.#hasWarned = true
  }

  /** Reads names now and then until the signal of what is returned is aborted. */
  keepNames(server: NamedServer): AbortController {
    const stop = new AbortController()
    const loop = async (): Promise<void> => {
      await sleep(this.#archive.firstNamesMs ?? FIRST_NAMES_MS, stop.signal)
      for (;;) {
        await this.#readNames(server).catch((error: unknown) => {
          if (isFailure(error)) this.#warn(error)
        })
        await sleep(NAMES_EVERY_MS, stop.signal)
      }
    }
    // It ends by being stopped.
    loop().catch(() => undefined)
    return stop
  }

  async #readNames({ connection, defaults, systemIdentifier }: NamedServer): Promise<void> {
    const { cluster, storages } = this.#archive
    const access = defaults === undefined ? {} : { defaults }
    const applicationName = 'tidemark names'
    const session = await openServerSession({ connection, applicationName, ...access })
    try {
      if (session.facts.systemIdentifier.toString() !== systemIdentifier) return
      const names = await readCatalogueNames({ session, connection, ...access })
      const archive = { cluster, systemIdentifier }
      this.#names ??= await findNewest(storages[0] as Storage, archive)
      if (!isWorthWriting(names, this.#names)) return
      const failures = await writeNamesSnapshot(storages, archive, names)
      if (failures.length === 0) this.#names = names
    } finally {
      await session.close()
    }
  }

  /** An index that is under way is given up. */
  async close(): Promise<void> {
    this.#stop.abort()
    const pool = this.#pool
    this.#pool = undefined
    await pool?.close()
    await this.#indexing
  }
}

/** Of what an earlier receiver has written; undefined: none that can be read. */
async function findNewest(
  storage: Storage,
  archive: { readonly cluster: string; readonly systemIdentifier: string },
): Promise<CatalogueNames | undefined> {
  try {
    const newest = (await listNamesSnapshots(storage, archive)).at(-1)
    return newest === undefined ? undefined : await findNamesSnapshot(storage, newest.key)
  } catch (error) {
    if (isFailure(error)) return undefined
    throw error
  }
}
