/**
 * What each finding costs, in the words of the database: backups, relations by their names
 * as of the backup, and the moments that can no longer be recovered.
 */
import {
  type DatabaseNames,
  findRelationName,
  parseRelationNames,
} from '../../repository/relation-names.ts'
import { parseRelationPath } from '../../postgres/relation-path.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import { openPack } from '../../repository/pack-reader.ts'
import type { Storage } from '../../storage/storage.ts'
import type { Finding, LostInterval, OpenFinding } from './findings.ts'
import { judgeLostBackups, judgeLostSegment } from './judge-loss.ts'
import { isDamage } from './prove-pack.ts'
import type { VerifiedWal } from './verify-wal.ts'

/** Names of relations in one finding; the rest is counted. */
const NAMED_RELATIONS = 50

export async function tellCosts(
  storage: Storage,
  findings: readonly OpenFinding[],
  backups: readonly BackupRecord[],
  wal: readonly VerifiedWal[],
): Promise<Finding[]> {
  const names = new NameBook(storage, backups)
  const told: Finding[] = []
  for (const finding of findings) {
    const canBeRead = [...finding.backups].every((id) => backups.some((one) => one.id === id))
    const intervals = canBeRead ? judgeIntervals(finding, wal) : undefined
    const relations = new Set<string>()
    for (const [path, backup] of finding.paths) {
      if (relations.size >= NAMED_RELATIONS) break
      relations.add(await names.nameOf(path, backup))
    }
    const { failure, key, frame, fix, files } = finding
    told.push({
      code: failure.code,
      key,
      frame,
      message: failure.message,
      because: failure.because,
      fix,
      backups: [...finding.backups].sort(),
      relations: [...relations],
      files,
      intervals,
      healableFrom: undefined,
    })
  }
  return told
}

/** Adds the backups that a segment takes with it. */
function judgeIntervals(finding: OpenFinding, wal: readonly VerifiedWal[]): LostInterval[] {
  const { segment } = finding
  if (segment === undefined) {
    const byBackups = wal.flatMap(({ plan }) => judgeLostBackups(plan.intervals, finding.backups))
    return finding.lost === undefined ? byBackups : [...byBackups, finding.lost]
  }
  const server = wal.find(({ systemIdentifier }) => systemIdentifier === segment.systemIdentifier)
  if (server === undefined) return []
  const { plan, backups, times } = server
  const before = times
    .filter(({ first }) => first.slice(8) <= segment.name.slice(8))
    .map(({ time }) => time)
    .sort((a, b) => Date.parse(a) - Date.parse(b))
    .at(-1)
  const loss = judgeLostSegment(plan.intervals, backups, segment.name, before)
  for (const id of loss.backups) finding.backups.add(id)
  return loss.interval === undefined ? [] : [loss.interval]
}

/** Names as of the backup; what cannot be read or is not named goes by its path. */
class NameBook {
  readonly #storage: Storage
  readonly #backups: ReadonlyMap<string, BackupRecord>
  readonly #names = new Map<string, Promise<readonly DatabaseNames[]>>()

  constructor(storage: Storage, backups: readonly BackupRecord[]) {
    this.#storage = storage
    this.#backups = new Map(backups.map((backup) => [backup.id, backup]))
  }

  async nameOf(path: string, backupId: string): Promise<string> {
    const relation = parseRelationPath(path)
    const backup = this.#backups.get(backupId)
    if (relation === undefined || backup === undefined) return path
    const names = await this.#namesOf(backup)
    const name = findRelationName(names, relation.databaseOid, relation.filenode)
    return name ?? path
  }

  async #namesOf({ relationNames, cluster }: BackupRecord): Promise<readonly DatabaseNames[]> {
    if (relationNames === undefined) return []
    const { pack, frame } = relationNames
    const key = `${pack}/${frame}`
    let names = this.#names.get(key)
    if (names === undefined) {
      names = this.#read(cluster, pack, frame)
      this.#names.set(key, names)
    }
    return await names
  }

  async #read(cluster: string, pack: string, frame: number): Promise<readonly DatabaseNames[]> {
    try {
      const reader = await openPack(this.#storage, cluster, pack)
      const raw = await reader.readFrame(frame)
      return parseRelationNames(raw)
    } catch (error) {
      if (isDamage(error) || error instanceof SyntaxError) return []
      throw error
    }
  }
}
