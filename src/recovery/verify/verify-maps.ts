/**
 * The phase of the maps: the file lists of the backups are walked path by path, and every
 * distinct leaf and content file of the due ones is proved once, for all backups that have
 * it so.
 */
import { hash } from 'node:crypto'
import { Failure, toFailureMessage } from '../../base/failure.ts'
import { parseLsn } from '../../postgres/lsn.ts'
import { parseRelationPath } from '../../postgres/relation-path.ts'
import type { BackupRecord, LeafReference, PagesEntry } from '../../repository/backup-record.ts'
import { packKey } from '../../repository/keys.ts'
import { PAGE_BYTES } from '../../repository/pack-format.ts'
import { LEAF_PAGES } from '../../repository/page-map.ts'
import { costsFile } from './findings.ts'
import { ListProof } from './list-proof.ts'
import type {
  Answer,
  BadPage,
  ContentAnswer,
  ContentTask,
  LeafAnswer,
  LeafToProve,
  LeavesTask,
} from './messages.ts'
import { runAll } from './verify-pool.ts'
import { addFault, losesFile, mendPack, type VerifyState } from './verify-state.ts'
import { type EntryVersion, type PathVersions, walkLists } from './walk-lists.ts'

const TASK_PAGES = 16_384
const TASK_LEAVES = 128
const TASK_CONTENT_BYTES = 8 * 1024 * 1024
const TASK_FILES = 64

type ContentVersion = Extract<EntryVersion['entry'], { kind: 'content' }>

interface LeafWork {
  readonly path: string
  readonly owners: readonly BackupRecord[]
  readonly toProve: LeafToProve
  readonly index: number
  /** Files that the leaf is part of: their digests are made of those of their leaves. */
  readonly files: readonly FileProof[]
}

interface FileProof {
  readonly entry: PagesEntry
  readonly path: string
  readonly owners: readonly BackupRecord[]
  readonly digests: (string | undefined)[]
  left: number
}

interface ContentWork {
  readonly path: string
  readonly entry: ContentVersion
  readonly owners: readonly BackupRecord[]
}

type MapTask = LeavesTask | ContentTask

export async function verifyMaps(state: VerifyState, due: readonly BackupRecord[]): Promise<void> {
  if (due.length > 0) await new MapWalk(state, due).run()
}

class MapWalk {
  readonly #state: VerifyState
  readonly #due: ReadonlySet<BackupRecord>
  readonly #lists: ListProof
  readonly #work = new Map<MapTask, readonly LeafWork[] | readonly ContentWork[]>()
  #leaves: LeafWork[] = []
  #leafPages = 0
  #contents: ContentWork[] = []
  #contentBytes = 0
  /** Where a budget stopped. */
  #stoppedBefore: string | undefined

  constructor(state: VerifyState, due: readonly BackupRecord[]) {
    this.#state = state
    this.#due = new Set(due)
    this.#lists = new ListProof(state, due)
  }

  async run(): Promise<void> {
    const state = this.#state
    const entries = Math.max(...[...this.#due].map(({ files }) => files.entries))
    state.progress.phase('proving page maps', entries, 'files')
    await runAll<MapTask>(
      state.pool,
      this.#tasks(),
      (task, answer) => this.#take(task, answer),
      state.signal,
    )
    if (this.#stoppedBefore === undefined) this.#lists.finish()
    this.#remember()
  }

  #remember(): void {
    const { memory, proved, left, startedAt } = this.#state
    const backups = [...this.#due]
    if (this.#stoppedBefore !== undefined) {
      memory.sweep = { backups: backups.map(({ id }) => id), nextPath: this.#stoppedBefore }
      left.backups += backups.length
      return
    }
    memory.sweep = undefined
    proved.backups += backups.length
    const damaged = new Set(this.#state.book.all.flatMap((finding) => [...finding.backups]))
    for (const { id, packs } of backups) {
      const at = damaged.has(id) ? 0 : startedAt
      const recordPack = memory.backups.get(id)?.recordPack ?? packs.find(hasNoSize)?.id ?? ''
      memory.backups.set(id, { at, recordPack })
    }
  }

  async *#tasks(): AsyncGenerator<MapTask> {
    const state = this.#state
    const backups = state.isOneBackup ? state.chosen : state.backups
    const from = state.memory.sweep?.nextPath ?? ''
    const lists = walkLists(state.storage, backups, (lost) => this.#lists.losesPiece(lost))
    for await (const versions of lists) {
      this.#lists.add(versions)
      if (versions.path < from) continue
      if (state.budget.isSpent) {
        this.#stoppedBefore = versions.path
        break
      }
      this.#addPath(versions)
      yield* this.#full()
    }
    yield* this.#rest()
  }

  #addPath({ path, versions }: PathVersions): void {
    const due = versions.filter(({ owners }) => owners.some((one) => this.#due.has(one)))
    if (due.length === 0) return
    this.#state.progress.advance(1)
    this.#state.proved.files++
    const known = versions.filter((version) => !due.includes(version))
    this.#addPages(path, due, known)
    this.#addContents(path, due, known)
  }

  #addPages(path: string, due: readonly EntryVersion[], known: readonly EntryVersion[]): void {
    const files = due.flatMap(({ entry, owners }) =>
      entry.kind === 'pages'
        ? [{ entry, path, owners, digests: [], left: entry.leaves.length } as FileProof]
        : [],
    )
    const before = known.flatMap(({ entry }) => (entry.kind === 'pages' ? [entry] : []))
    const most = Math.max(0, ...files.map(({ entry }) => entry.leaves.length))
    for (let index = 0; index < most; index++) {
      const proved = before.map(({ leaves }) => leaves[index]).filter((one) => one !== undefined)
      for (const sharing of groupByLeaf(files, index).values()) {
        const own = nameOf(sharing[0]?.entry.leaves[index] as LeafReference)
        if (proved.some((one) => nameOf(one) === own)) continue
        this.#addLeaf(path, index, sharing, proved.at(-1))
      }
    }
  }

  #addLeaf(
    path: string,
    index: number,
    files: readonly FileProof[],
    proved: LeafReference | undefined,
  ): void {
    const [{ entry }] = files as [FileProof]
    const firstPage = index * LEAF_PAGES
    const pages = Math.min(LEAF_PAGES, entry.size / PAGE_BYTES - firstPage)
    const reference = entry.leaves[index] as LeafReference
    const owners = [...new Set(files.flatMap((file) => file.owners))]
    this.#leaves.push({
      path,
      owners,
      files,
      index,
      toProve: { reference, firstPage, pages, proved },
    })
    this.#leafPages += pages
  }

  #addContents(path: string, due: readonly EntryVersion[], known: readonly EntryVersion[]): void {
    const proved = new Set(known.map(({ entry }) => contentName(entry)))
    const distinct = new Map<string, { entry: ContentVersion; owners: BackupRecord[] }>()
    for (const { entry, owners } of due) {
      const name = contentName(entry)
      if (entry.kind !== 'content' || name === undefined || proved.has(name)) continue
      const same = distinct.get(name)
      if (same === undefined) distinct.set(name, { entry, owners: [...owners] })
      else same.owners.push(...owners)
    }
    for (const { entry, owners } of distinct.values()) {
      this.#contents.push({ path, entry, owners })
      this.#contentBytes += entry.size
    }
  }

  *#full(): Generator<MapTask> {
    if (this.#leafPages >= TASK_PAGES || this.#leaves.length >= TASK_LEAVES)
      yield this.#takeLeaves()
    const isLarge = this.#contentBytes >= TASK_CONTENT_BYTES
    if (isLarge || this.#contents.length >= TASK_FILES) yield this.#takeContents()
  }

  *#rest(): Generator<MapTask> {
    if (this.#leaves.length > 0) yield this.#takeLeaves()
    if (this.#contents.length > 0) yield this.#takeContents()
  }

  #takeLeaves(): LeavesTask {
    const work = this.#leaves
    const checksums = work.some(({ owners }) => owners.some(hasChecksums))
    const task = { kind: 'leaves', checksums, leaves: work.map(({ toProve }) => toProve) } as const
    this.#work.set(task, work)
    this.#leaves = []
    this.#leafPages = 0
    return task
  }

  #takeContents(): ContentTask {
    const work = this.#contents
    const files = work.map(({ entry: { size, chunks, sha256 } }) => ({ size, chunks, sha256 }))
    const task = { kind: 'content', files } as const
    this.#work.set(task, work)
    this.#contents = []
    this.#contentBytes = 0
    return task
  }

  #take(task: MapTask, answer: Answer<MapTask>): void {
    const work = this.#work.get(task) ?? []
    this.#work.delete(task)
    for (const [number, one] of work.entries()) {
      if ('toProve' in one) this.#takeLeaf(one, answer[number] as LeafAnswer)
      else this.#takeContent(one, answer[number] as ContentAnswer)
    }
  }

  #takeLeaf(work: LeafWork, answer: LeafAnswer): void {
    const state = this.#state
    const { path, owners, files, index } = work
    state.proved.pagesCompared += answer.compared
    if (answer.read > 0) state.budget.spend(answer.read)
    for (const lost of answer.lost) losesFile(state, lost, path, owners)
    for (const { page, because } of answer.wrong) this.#isWrong(work, `page ${page}: ${because}`)
    this.#judgeChecksums(work, answer.badChecksums)
    for (const file of files) {
      this.#requireNamed(work, file, answer.packs)
      file.digests[index] = answer.digest
      file.left--
      if (file.left === 0) this.#judgeDigest(work, file)
    }
  }

  #isWrong({ path, owners, toProve: { reference } }: LeafWork, because: string): void {
    addUnfit(this.#state, path, reference.pack, reference.frame, owners, because)
  }

  /** Expiry goes by what records and entries name: a pack that they do not name would go. */
  #requireNamed(work: LeafWork, { entry, owners }: FileProof, packs: readonly string[]): void {
    for (const pack of packs) {
      if (!entry.packs.includes(pack)) {
        this.#isWrong(work, `pages lie in pack ${pack}, which the file list does not name`)
      }
      this.#lists.requireNamed(work.path, pack, owners)
    }
  }

  #judgeDigest(work: LeafWork, { digests, entry }: FileProof): void {
    const known = digests.filter((digest) => digest !== undefined)
    if (known.length < entry.leaves.length) return
    const digest = hash('sha256', Buffer.from(known.join(''), 'hex'))
    if (digest !== entry.digest) this.#isWrong(work, 'its leaves do not make its digest')
  }

  /** Damage of the cluster that the backup recorded is no finding; nor is what replay mends. */
  #judgeChecksums({ path, owners }: LeafWork, bad: readonly BadPage[]): void {
    const state = this.#state
    for (const page of bad) {
      const judged = owners.filter(hasChecksums).map((owner) => judgeBadPage(owner, path, page))
      if (judged.includes('known')) state.proved.knownDamage++
      const surprised = owners.filter((owner) => judgeBadPage(owner, path, page) === 'unknown')
      if (surprised.length === 0) continue
      const { pack, frame } = page
      const failure = badChecksum(path, page, packKey(state.cluster, pack), frame)
      const finding = addFault(state, { pack, frame, failure: toFailureMessage(failure) })
      costsFile(
        finding,
        path,
        surprised.map(({ id }) => id),
      )
    }
  }

  #takeContent({ path, entry, owners }: ContentWork, { lost, wrong }: ContentAnswer): void {
    const state = this.#state
    state.budget.spend(entry.size)
    for (const fault of lost) losesFile(state, fault, path, owners)
    for (const { pack } of entry.chunks) this.#lists.requireNamed(path, pack, owners)
    const chunk = entry.chunks[0]
    if (wrong === undefined) return
    addUnfit(state, path, chunk?.pack ?? '', chunk?.frame ?? 0, owners, wrong)
  }
}

/** The objects are as they were written and do not fit together. */
export function addUnfit(
  state: VerifyState,
  path: string,
  pack: string,
  frame: number,
  owners: readonly BackupRecord[],
  because: string,
): void {
  const key = packKey(state.cluster, pack)
  const failure = new Failure('TM1603', {
    message: `what backups say of ${path} does not fit what is stored (${key}, frame ${frame})`,
    because,
    fix: mendPack(state.cluster, key),
    details: { key, frame, path },
  })
  const fault = { pack, frame, failure: toFailureMessage(failure) }
  costsFile(
    addFault(state, fault),
    path,
    owners.map(({ id }) => id),
  )
}

function badChecksum(path: string, { page, lsn }: BadPage, key: string, frame: number): Failure {
  return new Failure('TM1604', {
    message: `page ${page} of ${path} has a wrong checksum (${key}, frame ${frame})`,
    because:
      'it is stored as it was read, and the backup does not list it as damaged ' +
      `(its LSN is ${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)})`,
    fix: 'check the page in the server (pg_amcheck, pg_checksums), and take a new backup',
    details: { key, frame, path, page },
  })
}

function judgeBadPage(
  owner: BackupRecord,
  path: string,
  { page, lsn }: BadPage,
): 'known' | 'mended' | 'unknown' {
  if (!hasChecksums(owner)) return 'mended'
  const segment = parseRelationPath(path)?.segment ?? 0
  const block = segment * owner.sizes.relationSegmentBlocks + page
  const isKnown = owner.damage.some((one) => one.path === path && one.blocks.includes(block))
  if (isKnown) return 'known'
  // Written while it was read: its full image is in the backup's WAL.
  const start = parseLsn(owner.startLsn) ?? 0n
  const stop = parseLsn(owner.stopLsn) ?? 0n
  return lsn >= start && lsn <= stop ? 'mended' : 'unknown'
}

function hasChecksums({ dataChecksumVersion }: BackupRecord): boolean {
  return dataChecksumVersion !== 0
}

/** Only the pack that the record itself lies in. */
function hasNoSize({ bytes }: BackupRecord['packs'][number]): boolean {
  return bytes === undefined
}

function nameOf({ pack, frame, slot }: LeafReference): string {
  return `${pack}/${frame}/${slot}`
}

function contentName(entry: EntryVersion['entry']): string | undefined {
  if (entry.kind !== 'content') return undefined
  return `${entry.sha256}/${entry.chunks.map(({ pack, frame }) => `${pack}.${frame}`).join(',')}`
}

function groupByLeaf(files: readonly FileProof[], index: number): Map<string, FileProof[]> {
  const present = files.filter(({ entry }) => entry.leaves[index] !== undefined)
  return Map.groupBy(present, ({ entry }) => {
    const pages = Math.min(LEAF_PAGES, entry.size / PAGE_BYTES - index * LEAF_PAGES)
    return `${nameOf(entry.leaves[index] as LeafReference)}:${pages}`
  })
}
