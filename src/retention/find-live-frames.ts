/**
 * Finds which frames of some packs are needed by the backups that are there
 * (docs/design/repacking.md).
 *
 * Invariant: what cannot be read keeps everything. A frame is called dead only when every list
 * and map of every backup was read, or when no backup whose lists and maps could not be read
 * names its pack.
 *
 * In memory: a bit for each frame of the packs in question and for each leaf that was read, and
 * the frames read last. Every distinct piece and leaf is read once, leaves only of files that
 * have pages in these packs.
 */
import { isFailure } from '../base/failure.ts'
import type {
  BackupRecord,
  FileEntry,
  FrameReference,
  PagesEntry,
} from '../repository/backup-record.ts'
import { decodePiece } from '../repository/file-list.ts'
import { packKey } from '../repository/keys.ts'
import { PAGES_PER_FRAME } from '../repository/pack-format.ts'
import { decodeLeaf, leafInFrame, type PageRun, ZERO_RUN } from '../repository/page-map.ts'
import type { Storage } from '../storage/storage.ts'
import { FrameMarks, LeafMarks } from './frames/frame-marks.ts'
import { FrameReader } from './frames/frame-reader.ts'

/** Frames that are read at the same time: they wait more than they work. */
const READ_AT_ONCE = 8

export interface LiveFrames {
  isLive(pack: string, frame: number): boolean
  /** Nothing is known of this pack but that it is needed: all of it is alive. */
  isKeptWhole(pack: string): boolean
  /** Backups whose lists or maps could not be read. */
  readonly unreadable: ReadonlySet<string>
}

export interface LiveFramesOptions {
  readonly storage: Storage
  readonly cluster: string
  /** Every backup that is there. */
  readonly backups: readonly BackupRecord[]
  /** Packs that are asked for. */
  readonly packs: ReadonlySet<string>
  readonly signal?: AbortSignal
  readonly onPiece?: (entries: number) => void
}

export async function findLiveFrames(options: LiveFramesOptions): Promise<LiveFrames> {
  const search = new Search(options)
  for (const backup of options.backups) {
    const { relationNames } = backup
    if (relationNames !== undefined) search.mark(relationNames.pack, relationNames.frame)
  }
  for (const piece of distinctPieces(options.backups)) {
    options.signal?.throwIfAborted()
    options.onPiece?.(await search.readPiece(piece))
  }
  return search
}

interface Piece extends FrameReference {
  readonly owners: BackupRecord[]
}

/** In the order of packs and frames: neighbours share packs. */
function distinctPieces(backups: readonly BackupRecord[]): Piece[] {
  const pieces = new Map<string, Piece>()
  for (const backup of backups) {
    for (const { pack, frame } of backup.files.pieces) {
      const name = `${pack}/${frame}`
      const known = pieces.get(name)
      if (known === undefined) pieces.set(name, { pack, frame, owners: [backup] })
      else known.owners.push(backup)
    }
  }
  return [...pieces.values()].sort((a, b) =>
    a.pack === b.pack ? a.frame - b.frame : a.pack < b.pack ? -1 : 1,
  )
}

interface WantedLeaves extends FrameReference {
  readonly slots: number[]
}

class Search implements LiveFrames {
  readonly unreadable = new Set<string>()
  readonly #cluster: string
  readonly #packs: ReadonlySet<string>
  readonly #reader: FrameReader
  readonly #live = new FrameMarks()
  readonly #whole = new Set<string>()
  readonly #seen = new LeafMarks()
  /** Frames of leaves that could not be read. */
  readonly #lost = new Set<string>()

  constructor({ storage, cluster, packs }: LiveFramesOptions) {
    this.#cluster = cluster
    this.#packs = packs
    this.#reader = new FrameReader(storage, cluster)
  }

  isLive(pack: string, frame: number): boolean {
    return this.isKeptWhole(pack) || this.#live.has(pack, frame)
  }

  isKeptWhole(pack: string): boolean {
    return !this.#packs.has(pack) || this.#whole.has(pack)
  }

  mark(pack: string, frame: number): void {
    if (this.#packs.has(pack)) this.#live.add(pack, frame)
  }

  /** Returns how many entries it has. */
  async readPiece({ pack, frame, owners }: Piece): Promise<number> {
    this.mark(pack, frame)
    let entries: readonly FileEntry[]
    try {
      entries = decodePiece(packKey(this.#cluster, pack), await this.#reader.read(pack, frame))
    } catch (error) {
      this.#keepAll(owners, error)
      return 0
    }
    const leaves = new Map<string, WantedLeaves>()
    for (const entry of entries) {
      if (entry.kind === 'content')
        for (const chunk of entry.chunks) this.mark(chunk.pack, chunk.frame)
      if (entry.kind === 'pages') this.#collectLeaves(entry, leaves)
    }
    await this.#readLeaves([...leaves.values()], owners)
    return entries.length
  }

  /** A leaf that was read for another piece was marked then, or lost then. */
  #collectLeaves({ leaves, packs }: PagesEntry, wanted: Map<string, WantedLeaves>): void {
    for (const { pack, frame } of leaves) this.mark(pack, frame)
    if (!packs.some((pack) => this.#packs.has(pack))) return
    for (const { pack, frame, slot } of leaves) {
      const name = `${pack}/${frame}`
      if (!this.#seen.add(pack, frame, slot) && !this.#lost.has(name)) continue
      const known = wanted.get(name)
      if (known === undefined) wanted.set(name, { pack, frame, slots: [slot] })
      else known.slots.push(slot)
    }
  }

  async #readLeaves(
    wanted: readonly WantedLeaves[],
    owners: readonly BackupRecord[],
  ): Promise<void> {
    for (let first = 0; first < wanted.length; first += READ_AT_ONCE) {
      const some = wanted.slice(first, first + READ_AT_ONCE)
      await Promise.all(some.map(async (leaves) => await this.#readFrame(leaves, owners)))
    }
  }

  async #readFrame(
    { pack, frame, slots }: WantedLeaves,
    owners: readonly BackupRecord[],
  ): Promise<void> {
    const key = packKey(this.#cluster, pack)
    try {
      const bytes = await this.#reader.read(pack, frame)
      for (const slot of slots) {
        const { packs, runs } = decodeLeaf(key, leafInFrame(key, bytes, slot))
        for (const run of runs) this.#markRun(packs, run)
      }
    } catch (error) {
      this.#lost.add(`${pack}/${frame}`)
      this.#keepAll(owners, error)
    }
  }

  #markRun(packs: readonly string[], { pack, frame, slot, count }: PageRun): void {
    if (pack === ZERO_RUN) return
    const id = packs[pack] as string
    const last = frame + Math.floor((slot + count - 1) / PAGES_PER_FRAME)
    for (let ordinal = frame; ordinal <= last; ordinal++) this.mark(id, ordinal)
  }

  /** Only for damage and absence: whoever could not look must not go on. */
  #keepAll(owners: readonly BackupRecord[], error: unknown): void {
    const isLost = isFailure(error, 'TM1601') || isFailure(error, 'TM1602')
    if (!isLost && !isFailure(error, 'TM1504')) throw error
    for (const { id, packs } of owners) {
      if (this.unreadable.has(id)) continue
      this.unreadable.add(id)
      for (const pack of packs) this.#whole.add(pack.id)
    }
  }
}
