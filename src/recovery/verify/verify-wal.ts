/**
 * The phase of the WAL: what the listing says (gaps within a promise, backups without their
 * own WAL, histories), then the records from each backup to the end of its promise, then the
 * hashes and headers of every other segment, and the files beside the segments.
 */
import { isLetGo } from '../../archive/expired-wal.ts'
import { type SegmentRange, timelineOfSegment } from '../../archive/find-gaps.ts'
import { listWal, type WalListing } from '../../archive/list-wal.ts'
import { parseSegmentKey } from '../../archive/list-segments.ts'
import { parseTailKey } from '../../archive/tail-keys.ts'
import { segmentKey, walPrefix } from '../../archive/wal-file-name.ts'
import { Failure, fromFailureMessage, toFailureMessage } from '../../base/failure.ts'
import {
  historyFileName,
  NO_ANCESTORS,
  pathOf,
  type TimelineHistory,
} from '../../postgres/history-file.ts'
import {
  formatLsn,
  formatSegmentName,
  parseSegmentName,
  segmentNumber,
  segmentStart,
} from '../../postgres/lsn.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import type { SystemIdentity } from '../../repository/system-identity.ts'
import { findPath, recordLsn } from '../choose-timeline.ts'
import { type PlannedInterval, type PlannedWindow, planWindow } from '../window.ts'
import { orderByAge } from './budget.ts'
import { judgeHistories } from './judge-histories.ts'
import type { CheckAnswer, CheckTask, ObjectTask, ScanAnswer, ScanTask } from './messages.ts'
import { isDamage } from './prove-pack.ts'
import { runAll } from './verify-pool.ts'
import {
  addFailure,
  countObject,
  countUnremembered,
  isDue,
  type VerifyState,
} from './verify-state.ts'

/** Segments of one task. */
const CHUNK = 16n

/** What the costs of findings are judged by. */
export interface VerifiedWal {
  readonly systemIdentifier: string
  readonly plan: PlannedWindow
  readonly backups: readonly BackupRecord[]
  readonly times: readonly ChunkTime[]
}

interface ChunkTime {
  readonly first: string
  /** The latest moment in the chunk. */
  readonly time: string
}

export async function verifyWal(
  state: VerifyState,
  identity: SystemIdentity,
): Promise<VerifiedWal | undefined> {
  const { storage, cluster } = state
  const { systemIdentifier } = identity
  try {
    const archive = await listWal(storage, cluster, systemIdentifier)
    return await new WalPhase(state, archive).run()
  } catch (error) {
    // The identity went away or rotted since it was proved.
    if (!isDamage(error)) throw error
    addFailure(state, walPrefix(cluster, systemIdentifier), error)
    return undefined
  }
}

class WalPhase {
  readonly #state: VerifyState
  readonly #archive: WalListing
  readonly #backups: readonly BackupRecord[]
  readonly #plan: PlannedWindow
  readonly #times: ChunkTime[] = []
  /** Names of segments that this run has proved. */
  readonly #proved = new Set<string>()

  constructor(state: VerifyState, archive: WalListing) {
    this.#state = state
    this.#archive = archive
    const { systemIdentifier } = archive
    this.#backups = state.backups.filter((one) => one.systemIdentifier === systemIdentifier)
    const plan = planWindow(this.#backups, archive)
    this.#plan = state.isOneBackup ? onlyFor(plan, state.chosen) : plan
  }

  async run(): Promise<VerifiedWal> {
    const { systemIdentifier } = this.#archive
    this.#judgeListing()
    await this.#proveFiles()
    await this.#scan()
    if (!this.#state.isOneBackup) await this.#check()
    await this.#forgetArrived()
    const times = this.#times
    return { systemIdentifier, plan: this.#plan, backups: this.#backups, times }
  }

  #judgeListing(): void {
    const state = this.#state
    const { intervals, unusable } = this.#plan
    for (const { backup, missing } of unusable) {
      this.#misses(missing, `backup ${backup.id} needs it to be consistent`).backups.add(backup.id)
    }
    for (const { gap } of intervals) {
      if (gap === undefined) continue
      const several = gap.segments === 1 ? '' : ` (${gap.segments} segments, up to ${gap.last})`
      this.#misses(gap.first, `later segments of timeline ${gap.timeline} are there${several}`)
    }
    if (!state.isOneBackup) this.#judgeVanished()
    this.#judgeHistories()
  }

  #judgeHistories(): void {
    const { cluster, isOneBackup, chosen } = this.#state
    const backups = isOneBackup ? chosen : this.#backups
    const problems = judgeHistories(this.#archive, backups, this.#plan, cluster)
    for (const { key, failure, backups, from } of problems) {
      if (isOneBackup && backups.length === 0) continue
      const finding = addFailure(this.#state, key, failure)
      for (const id of backups) finding.backups.add(id)
      if (from === undefined) continue
      finding.lost = { from: undefined, fromLsn: formatLsn(from), to: undefined, toLsn: undefined }
    }
  }

  #misses(name: string, because: string) {
    const { cluster, storage, book } = this.#state
    const { systemIdentifier } = this.#archive
    const key = segmentKey(cluster, systemIdentifier, name)
    const failure = new Failure('TM1408', {
      message: `the WAL segment ${name} is missing (${key})`,
      because: `${storage.url} does not hold it, and ${because}`,
      fix:
        'if the archiver has a backlog (tidemark status), wait for it; else bring it from the ' +
        'pg_wal of the server or of a standby: tidemark wal push FILE; where that is not ' +
        'possible, take a new backup now',
      details: { key, name },
    })
    const finding = book.add(key, toFailureMessage(failure))
    finding.segment = { systemIdentifier, name }
    return finding
  }

  /**
   * A backup archives its own segments, ahead of an archiver that has a backlog: what was
   * missing between may have come meanwhile, in order, so that the first one tells.
   */
  async #forgetArrived(): Promise<void> {
    const { book, storage, notes } = this.#state
    for (const finding of book.all) {
      const { segment, failure, key } = finding
      if (segment === undefined || failure.code !== 'TM1408') continue
      if ((await storage.size(key)) === undefined) continue
      book.remove(finding)
      notes.push(`${segment.name} was not there at first and is now: the next run proves it`)
    }
  }

  /** The end of an archive shows in no listing: only who saw it can miss it. */
  #judgeVanished(): void {
    const { memory, cluster } = this.#state
    const { systemIdentifier, timelines, walSegmentSizeBytes: size } = this.#archive
    const lasts = new Map(timelines.map((one) => [one.timeline, one.ranges.at(-1)?.last ?? -1n]))
    const prefix = walPrefix(cluster, systemIdentifier)
    for (const [key, at] of memory.objects) {
      if (!key.startsWith(prefix)) continue
      const name = parseSegmentKey(key)
      const segment = name === undefined ? undefined : parseSegmentName(name, size)
      if (name === undefined || segment === undefined) continue
      const { timeline } = segment
      if (segment.segment <= (lasts.get(timeline) ?? -1n)) continue
      if (isLetGo(this.#archive.expired, timeline, segment.segment)) continue
      this.#misses(name, `it was there on ${new Date(at * 1000).toISOString().slice(0, 10)}`)
    }
  }

  /** Histories, labels, partials, quarantine and tails. */
  async #proveFiles(): Promise<void> {
    const state = this.#state
    const { systemIdentifier } = this.#archive
    const keys = state.inventory.walFiles.get(systemIdentifier) ?? []
    const tasks = keys
      .filter((key) => this.#isWanted(key))
      .map((key): ObjectTask => ({ kind: 'object', key, systemIdentifier }))
    await runAll(
      state.pool,
      tasks,
      ({ key }, { failure }) => {
        const size = state.inventory.sizes.get(key) ?? 0
        if (failure === undefined && parseTailKey(key) !== undefined) countUnremembered(state, size)
        else if (failure === undefined) countObject(state, key, size)
        else addFailure(state, key, fromFailureMessage(failure))
      },
      state.signal,
    )
  }

  #isWanted(key: string): boolean {
    const isHistory = key.endsWith('.history')
    // What grows is proved every time.
    const isSmall = isHistory || parseTailKey(key) !== undefined
    if (!this.#state.isOneBackup) return isSmall || isDue(this.#state, key)
    const timelines = this.#plan.intervals.flatMap(({ path }) => pathOf(path))
    return timelines.some((timeline) => key.endsWith(`/${historyFileName(timeline)}`))
  }

  async #scan(): Promise<void> {
    const state = this.#state
    const chunks = this.#chunks().filter((chunk) => this.#isDue(chunk))
    const due = orderByAge(chunks, (chunk) => this.#oldest(chunk))
    const segments = due.reduce((sum, { first, last }) => sum + Number(last - first + 1n), 0)
    if (due.length > 0) state.progress.phase('reading WAL', segments, 'segments')
    await runAll(
      state.pool,
      this.#withinBudget(due),
      (task, answer) => {
        state.progress.advance(Number(task.last - task.first + 1n))
        this.#takeScan(task, answer)
      },
      state.signal,
    )
  }

  *#withinBudget<T extends ScanTask | CheckTask>(tasks: readonly T[]): Generator<T> {
    const { budget, left } = this.#state
    for (const [number, task] of tasks.entries()) {
      if (budget.isSpent) {
        for (const { first, last } of tasks.slice(number))
          left.segments += Number(last - first + 1n)
        return
      }
      for (const name of this.#namesOf(task)) budget.spend(this.#sizeOf(name))
      yield task
    }
  }

  /** Along every promise, from its first backup's redo; what two share is read once. */
  #chunks(): ScanTask[] {
    const { systemIdentifier, walSegmentSizeBytes: size } = this.#archive
    const claimed = new Set<string>()
    const chunks: ScanTask[] = []
    for (const interval of this.#plan.intervals) {
      const { path, lastSegment } = interval
      const startLsn = startOf(interval)
      const begin = segmentNumber(startLsn, size)
      for (let first = begin; first <= lastSegment; first += CHUNK) {
        const last = first + CHUNK - 1n < lastSegment ? first + CHUNK - 1n : lastSegment
        const start = first === begin ? { at: startLsn } : { from: segmentStart(first, size) }
        const range = { systemIdentifier, walSegmentSizeBytes: size, path, first, last }
        const task: ScanTask = { kind: 'scan', start, ...range }
        const names = this.#namesOf(task)
        if (names.every((name) => claimed.has(name))) continue
        for (const name of names) claimed.add(name)
        chunks.push(task)
      }
    }
    return chunks
  }

  #namesOf({ path, first, last }: ScanTask | CheckTask): string[] {
    const names: string[] = []
    const size = this.#archive.walSegmentSizeBytes
    for (let segment = first; segment <= last; segment += 1n) {
      names.push(formatSegmentName(timelineOfSegment(path, segment, size), segment, size))
    }
    return names
  }

  #keyOf(name: string): string {
    return segmentKey(this.#state.cluster, this.#archive.systemIdentifier, name)
  }

  #sizeOf(name: string): number {
    return this.#state.inventory.sizes.get(this.#keyOf(name)) ?? 0
  }

  #isDue(task: ScanTask | CheckTask): boolean {
    return this.#namesOf(task).some((name) => isDue(this.#state, this.#keyOf(name)))
  }

  #oldest(task: ScanTask | CheckTask): number | undefined {
    const { objects } = this.#state.memory
    const ages = this.#namesOf(task).map((name) => objects.get(this.#keyOf(name)) ?? 0)
    return Math.min(...ages)
  }

  #takeScan(task: ScanTask, { segments, fault, lastTime }: ScanAnswer): void {
    const wanted = new Set(this.#namesOf(task))
    for (const name of segments) {
      if (!wanted.has(name) || this.#proved.has(name)) continue
      this.#state.proved.segmentsScanned++
      if (name !== fault?.first) this.#holds(name)
      else this.#proved.add(name)
    }
    if (lastTime !== undefined) this.#times.push({ first: [...wanted][0] ?? '', time: lastTime })
    if (fault === undefined || this.#hasExpired(fault)) return
    this.#fails(fault.first, fromFailureMessage(fault.failure))
  }

  /** A hole that an expiry has made: nothing promises what lay in it. */
  #hasExpired({ first, last, failure }: NonNullable<ScanAnswer['fault']>): boolean {
    const { expired, walSegmentSizeBytes } = this.#archive
    if (failure.code !== 'TM1408') return false
    return [first, last].every((name) => {
      const segment = parseSegmentName(name, walSegmentSizeBytes)
      return segment !== undefined && isLetGo(expired, segment.timeline, segment.segment)
    })
  }

  #holds(name: string): void {
    const key = this.#keyOf(name)
    const size = this.#state.inventory.sizes.get(key)
    this.#proved.add(name)
    this.#state.proved.segments++
    // Archived since the listing: the next run counts it.
    if (size !== undefined) countObject(this.#state, key, size)
  }

  #fails(name: string, failure: Failure): void {
    const finding = addFailure(this.#state, this.#keyOf(name), failure)
    finding.segment = { systemIdentifier: this.#archive.systemIdentifier, name }
  }

  /** All segments that no scan has proved: after a fault, or outside of every promise. */
  async #check(): Promise<void> {
    const state = this.#state
    const due = orderByAge(this.#rest(), (task) => this.#oldest(task))
    const segments = due.reduce((sum, { first, last }) => sum + Number(last - first + 1n), 0)
    if (due.length > 0) state.progress.phase('checking WAL', segments, 'segments')
    await runAll(
      state.pool,
      this.#withinBudget(due),
      (task, answer) => {
        state.progress.advance(Number(task.last - task.first + 1n))
        this.#takeCheck(task, answer)
      },
      state.signal,
    )
  }

  #rest(): CheckTask[] {
    const { systemIdentifier, walSegmentSizeBytes, timelines } = this.#archive
    const tasks: CheckTask[] = []
    for (const { timeline, ranges } of timelines) {
      const path = findPath(this.#archive, timeline) ?? alone(timeline)
      for (const { first, last } of this.#unproved(timeline, ranges)) {
        for (let at = first; at <= last; at += CHUNK) {
          const end = at + CHUNK - 1n < last ? at + CHUNK - 1n : last
          const base = { kind: 'check', systemIdentifier, walSegmentSizeBytes } as const
          // Before its fork the path would take another timeline's file.
          const isOwn = timelineOfSegment(path, at, walSegmentSizeBytes) === timeline
          tasks.push({ ...base, path: isOwn ? path : alone(timeline), first: at, last: end })
        }
      }
    }
    return tasks
  }

  *#unproved(timeline: number, ranges: readonly SegmentRange[]): Generator<SegmentRange> {
    const size = this.#archive.walSegmentSizeBytes
    for (const range of ranges) {
      let first: bigint | undefined
      for (let segment = range.first; segment <= range.last; segment += 1n) {
        const name = formatSegmentName(timeline, segment, size)
        const isWanted = !this.#proved.has(name) && isDue(this.#state, this.#keyOf(name))
        if (isWanted) first ??= segment
        else if (first !== undefined) {
          yield { first, last: segment - 1n }
          first = undefined
        }
      }
      if (first !== undefined) yield { first, last: range.last }
    }
  }

  #takeCheck(task: CheckTask, { problems }: CheckAnswer): void {
    const bad = new Map(problems.map(({ name, failure }) => [name, failure]))
    for (const name of this.#namesOf(task)) {
      const failure = bad.get(name)
      if (failure === undefined) this.#holds(name)
      else this.#fails(name, fromFailureMessage(failure))
    }
  }
}

function alone(timeline: number): TimelineHistory {
  return { timeline, ancestors: NO_ANCESTORS }
}

function startOf({ backups }: PlannedInterval) {
  return recordLsn((backups[0] as BackupRecord).startLsn)
}

/** The promise of these backups only: from their own redo on. */
function onlyFor(plan: PlannedWindow, chosen: readonly BackupRecord[]): PlannedWindow {
  const isChosen = (backup: BackupRecord): boolean => chosen.some(({ id }) => id === backup.id)
  const intervals = plan.intervals
    .map((interval) => ({ ...interval, backups: interval.backups.filter(isChosen) }))
    .filter(({ backups }) => backups.length > 0)
  return { intervals, unusable: plan.unusable.filter(({ backup }) => isChosen(backup)) }
}
