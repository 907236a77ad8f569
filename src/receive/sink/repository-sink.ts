/**
 * One repository of a sink: its completed segments, the tail of the current one, and what
 * earlier openings have left.
 *
 * Invariant: a tail is removed only when the archive of this repository holds its segment whole
 * and agrees with it, or a tail of this opening covers it and agrees.
 */
import { examineJoin, findContentHash } from '../../archive/claim-timeline.ts'
import { findArchivedHistory } from '../../archive/find-history.ts'
import { findWalFile } from '../../archive/fetch-wal.ts'
import { findRecordEnd } from '../../archive/find-record-end.ts'
import { judgeSegment, parseFirstPage } from '../../archive/judge-segment.ts'
import { firstDifference, type ReadTail, readTailsOf } from '../../archive/read-tail.ts'
import {
  quarantineWal,
  type StoreOutcome,
  storeWal,
  type WalToStore,
} from '../../archive/store-wal.ts'
import { judgeSuperseded } from '../../archive/superseded-tail.ts'
import { isDamage } from '../../archive/tail-format.ts'
import { listTails, type TailPlace } from '../../archive/tail-keys.ts'
import { nameHash, walKey } from '../../archive/wal-file-name.ts'
import { settleTail } from '../../archive/write-tail.ts'
import { Failure, isFailure } from '../../base/failure.ts'
import { formatLsn, formatSegmentName, lsn } from '../../postgres/lsn.ts'
import type { SystemIdentity } from '../../repository/system-identity.ts'
import type { Storage } from '../../storage/storage.ts'
import type { SinkEvent } from '../wal-sink.ts'
import type { SegmentBuffer } from './segment-buffer.ts'
import { describeTail, judgeWriter, openTailWriter, type TailWriter } from './tail-writer.ts'

export interface RepositorySinkOptions extends TailPlace {
  readonly storage: Storage
  readonly identity: SystemIdentity
  readonly onEvent: (event: SinkEvent) => void
}

export class RepositorySink {
  readonly storage: Storage
  readonly #options: RepositorySinkOptions
  #writer: TailWriter | undefined
  /** Of earlier openings, of the segment that they end in; compared with what is streamed. */
  #priors: readonly ReadTail[]
  /** How many bytes of the current segment have been compared with them. */
  #compared = 0
  /** The last segment that the archive here holds whole by our doing. */
  #finished = { name: '', contentHash: '' }
  #busy: Promise<unknown> = Promise.resolve()
  /** That have the turn, or wait for it. */
  #waiting = 0

  constructor(options: RepositorySinkOptions, priors: readonly ReadTail[]) {
    this.storage = options.storage
    this.#options = options
    this.#priors = priors
  }

  get canAppend(): boolean {
    return this.storage.openJournal !== undefined
  }

  /** One thing at a time: a tail that is begun while its segment is finished would stay. */
  async #exclusively<T>(act: () => Promise<T>): Promise<T> {
    const before = this.#busy
    this.#waiting += 1
    const turn = before.then(act, act).finally(() => {
      this.#waiting -= 1
    })
    this.#busy = turn.then(
      () => undefined,
      () => undefined,
    )
    return await turn
  }

  /** Its tail is begun, nobody else's is to be compared with, and nothing else is under way. */
  canWriteNow(segment: SegmentBuffer): boolean {
    const isFree = this.#waiting === 0 && this.#finished.name !== segment.name
    if (!isFree || this.#priors.some((prior) => prior.segment === segment.name)) return false
    return this.#writer?.segment === segment && this.#writer.canWriteNow
  }

  /** As writeTail(), where canWriteNow(). */
  writeTailNow(upTo: number): void {
    this.#compared = upTo
    this.#writer?.writeNow(upTo)
  }

  /** Durable up to there when fulfilled. TM1442 when an older tail says otherwise. */
  async writeTail(segment: SegmentBuffer, upTo: number): Promise<void> {
    await this.#exclusively(async () => await this.#writeTail(segment, upTo))
  }

  async #writeTail(segment: SegmentBuffer, upTo: number): Promise<void> {
    if (this.#finished.name === segment.name) return
    this.#compare(segment, upTo)
    const writer = await this.#writerOf(segment)
    try {
      await writer.write(upTo)
    } catch (error) {
      // Nothing was acknowledged since it went: all of the segment is written anew.
      if (!isFailure(error, 'TM1440')) throw error
      await writer.write(upTo)
    }
    await this.#removeCovered(segment, upTo)
  }

  async #writerOf(segment: SegmentBuffer): Promise<TailWriter> {
    const known = this.#writer
    if (known?.segment === segment) return known
    this.#compared = 0
    // Of a segment that was passed over: what is written of it stays.
    if (known !== undefined) await known.close()
    const writer = openTailWriter(this.#options, segment)
    this.#writer = writer
    return writer
  }

  #compare(segment: SegmentBuffer, upTo: number): void {
    const from = this.#writer?.segment === segment ? this.#compared : 0
    for (const prior of this.#priors) {
      if (prior.segment !== segment.name) continue
      const until = Math.min(upTo, prior.bytes.length)
      if (until <= from) continue
      const stored = prior.bytes.subarray(from, until)
      if (stored.equals(segment.view(from, until))) continue
      const differsAt = from + firstDifference(stored, segment.view(from, until))
      if (differsAt >= findRecordEnd(this.#options, prior.segment, prior.bytes)) continue
      throw divergent(prior, segment, differsAt)
    }
    this.#compared = upTo
  }

  /** Only of dead processes: a living one would have acknowledged what nobody finds. */
  async #removeCovered(segment: SegmentBuffer, upTo: number): Promise<void> {
    const covered = this.#priors.filter((prior) => {
      const isHere = prior.segment === segment.name && prior.bytes.length <= upTo
      return isHere && prior.ending !== 'damaged' && judgeWriter(prior) === 'dead'
    })
    if (covered.length === 0) return
    this.#priors = this.#priors.filter((prior) => !covered.includes(prior))
    await this.storage.removeMany(covered.flatMap(({ keys }) => keys))
  }

  /** Judged as `wal push` does, stored once, its tails removed. */
  async archive(segment: SegmentBuffer, wal: WalToStore): Promise<StoreOutcome> {
    return await this.#exclusively(async () => await this.#archive(segment, wal))
  }

  async #archive(segment: SegmentBuffer, wal: WalToStore): Promise<StoreOutcome> {
    const content = segment.view(0, segment.sizeBytes)
    this.#compare(segment, segment.sizeBytes)
    const refusal = (await this.#judge(segment, content)) ?? (await this.#judgeJoin(segment, wal))
    if (refusal !== undefined) {
      await quarantineWal(this.storage, wal)
      throw refusal
    }
    const outcome = await storeWal(this.storage, wal)
    this.#finished = { name: segment.name, contentHash: wal.contentHash }
    await this.finishTails(segment.name, content)
    return outcome
  }

  async #judge(segment: SegmentBuffer, content: Buffer): Promise<Failure | undefined> {
    const { cluster, systemIdentifier, identity } = this.#options
    const page = parseFirstPage(content)
    let because: string | undefined = 'it does not begin with a WAL page of PostgreSQL 13 to 18'
    if (page !== undefined) {
      const isOwn = page.timeline === segment.timeline
      const history = isOwn
        ? undefined
        : await findArchivedHistory(this.storage, cluster, systemIdentifier, segment.timeline)
      const isOfServer = page.long.systemIdentifier.toString() === systemIdentifier
      because = isOfServer
        ? judgeSegment(segment.name, content, page, identity, history)
        : `it was written by another server (${page.long.systemIdentifier})`
    }
    if (because === undefined) return undefined
    return new Failure('TM1404', {
      message: `the streamed WAL segment ${segment.name} is refused`,
      because,
      fix: `check which server is streamed from; the bytes are in quarantine in ${this.storage.url}`,
      details: { name: segment.name, url: this.storage.url },
    })
  }

  /**
   * While it streams, a person may have decided for another server, whose WAL is the archive's now
   * (docs/design/lineage.md, section 2). One small read where nobody has.
   */
  async #judgeJoin(segment: SegmentBuffer, wal: WalToStore): Promise<Failure | undefined> {
    const { storage } = this
    const { cluster, systemIdentifier, file, contentHash } = wal
    const { sizeBytes: walSegmentSizeBytes, timeline } = segment
    const before = formatSegmentName(timeline, segment.segment - 1n, walSegmentSizeBytes)
    const isOurs = this.#finished.name === before
    const archived = isOurs ? await findContentHash(storage, wal, before) : undefined
    if (isOurs && archived === this.#finished.contentHash) return undefined
    const key = walKey(cluster, systemIdentifier, file, nameHash(contentHash))
    // What is there is compared by whoever stores.
    if ((await storage.size(key)) !== undefined) return undefined
    const content = async (): Promise<Buffer> => segment.view(0, walSegmentSizeBytes)
    const place = { cluster, systemIdentifier, directory: undefined, walSegmentSizeBytes }
    const join = await examineJoin(storage, { ...place, file, content })
    if (join.kind !== 'contradicts') return undefined
    return new Failure('TM1460', {
      message: `${file.name} does not continue timeline ${timeline} of ${cluster} as it is archived`,
      because: `the server that is streamed from went its own way: ${join.because}`,
      fix:
        'receive from the server that was chosen for this timeline; if this one is: tidemark wal ' +
        `adopt ${cluster} --timeline ${timeline} --from DIRECTORY. Its bytes are in quarantine`,
      details: { name: file.name, timeline, url: storage.url },
    })
  }

  /** The archive holds the segment: its tails are needed no more. */
  async finishTails(segment: string, content: Buffer): Promise<void> {
    const own = this.#writer?.segment.name === segment ? this.#writer : undefined
    if (own !== undefined) {
      this.#writer = undefined
      await own.close()
    }
    this.#priors = this.#priors.filter((prior) => prior.segment !== segment)
    const ownKeys = new Set(own?.keys)
    const gone = [...ownKeys]
    for (const tail of await this.#readForeign(segment, ownKeys)) {
      if (tail.keys.every((key) => ownKeys.has(key)) || judgeWriter(tail) === 'alive') continue
      if (this.#agrees(tail, content)) gone.push(...tail.keys)
    }
    if (gone.length > 0) await this.storage.removeMany(gone)
  }

  /** Commits wait for this: what this opening has written itself is not read again. */
  async #readForeign(segment: string, ownKeys: ReadonlySet<string>): Promise<readonly ReadTail[]> {
    const { cluster, systemIdentifier } = this.#options
    const listed = await listTails(this.storage, cluster, systemIdentifier, segment)
    const isOwn = listed.every(({ parts }) => parts.every(({ key }) => ownKeys.has(key)))
    return isOwn ? [] : await readTailsOf(this.storage, this.#options, segment)
  }

  #agrees(tail: ReadTail, content: Buffer): boolean {
    const because = judgeSuperseded(this.#options, tail, content)
    if (because === undefined) return true
    const { url } = this.storage
    const key = tail.keys[0] ?? tail.segment
    this.#options.onEvent({ kind: 'tail-kept', url, key, because })
    return false
  }

  /** The segment will not be completed: its tail stays, as pieces that nobody writes to. */
  async endSegment(segment: SegmentBuffer): Promise<void> {
    await this.#exclusively(async () => await this.#endSegment(segment))
  }

  async #endSegment(segment: SegmentBuffer): Promise<void> {
    const writer = this.#writer?.segment === segment ? this.#writer : undefined
    if (writer === undefined || segment.length === 0) return
    if (this.canAppend) {
      const head = describeTail(this.#options, segment)
      await settleTail(this.#options, head, segment.view(0, segment.length))
      await writer.close()
      await this.storage.removeMany(writer.keys)
    }
    this.#writer = undefined
  }

  async close(): Promise<void> {
    await this.#exclusively(async () => {
      await this.#writer?.close()
      this.#writer = undefined
    })
  }
}

function divergent(prior: ReadTail, segment: SegmentBuffer, at: number): Failure {
  const where = formatLsn(lsn(segment.start + BigInt(at)))
  return new Failure('TM1442', {
    message: `the server sends other WAL than what is stored of segment ${segment.name}`,
    because: `it differs from ${prior.keys[0]} in ${prior.url} at ${where}, within valid records`,
    fix:
      'find out whether the server lost WAL that it had flushed (fsync = off, a snapshot put ' +
      'back), or whether another one has its address; take a backup before you go on',
    details: { segment: segment.name, lsn: where, key: prior.keys[0] ?? '', url: prior.url },
  })
}

/**
 * What a crash between the archiving of a segment and the removal of its tail has left.
 * `archived`: names of segments that have tails here and are in the archive of this repository.
 */
export async function clearLeftTails(
  options: RepositorySinkOptions,
  archived: ReadonlySet<string>,
): Promise<void> {
  const { storage, cluster, systemIdentifier } = options
  const sink = new RepositorySink(options, [])
  for (const name of archived) {
    const request = { storages: [storage], cluster, systemIdentifier, name }
    try {
      const whole = await findWalFile({ ...request, holes: 'absent' })
      if (whole !== undefined) await sink.finishTails(name, whole.content)
    } catch (error) {
      // The tail may be what is left of it: it stays, and receiving goes on.
      if (!isDamage(error)) throw error
      const because = error.because ?? error.message
      options.onEvent({ kind: 'tail-kept', url: storage.url, key: name, because })
    }
  }
}
