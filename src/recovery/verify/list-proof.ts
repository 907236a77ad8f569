/**
 * Proves file lists as a whole while they are walked: that a backup has as many entries and
 * bytes as its record says, that they make its content hash, and that the record names every
 * pack that they need.
 */
import { createHash, type Hash } from 'node:crypto'
import { Failure, toFailureMessage } from '../../base/failure.ts'
import { describeContent, packsOf } from '../../backup/write-metadata.ts'
import type { BackupRecord } from '../../repository/backup-record.ts'
import { backupKey } from '../../repository/keys.ts'
import { addFault, type VerifyState } from './verify-state.ts'
import type { LostPiece, PathVersions } from './walk-lists.ts'

interface ListState {
  readonly backup: BackupRecord
  readonly content: Hash
  readonly named: ReadonlySet<string>
  entries: number
  bytes: number
  isWhole: boolean
}

export class ListProof {
  readonly #state: VerifyState
  readonly #lists: ReadonlyMap<BackupRecord, ListState>

  constructor(state: VerifyState, due: readonly BackupRecord[]) {
    this.#state = state
    this.#lists = new Map(due.map((backup) => [backup, openList(backup)]))
    for (const backup of due) {
      const { pieces } = backup.files
      for (const { pack, firstPath } of pieces) this.requireNamed(firstPath, pack, [backup])
      if (backup.relationNames === undefined) continue
      this.requireNamed('the relation names', backup.relationNames.pack, [backup])
    }
  }

  add({ path, versions }: PathVersions): void {
    for (const { entry, owners } of versions) {
      const line = describeContent(entry)
      const size = entry.kind === 'pages' || entry.kind === 'content' ? entry.size : 0
      for (const owner of owners) {
        const list = this.#lists.get(owner)
        if (list === undefined) continue
        list.content.update(line)
        list.entries++
        list.bytes += size
      }
      for (const pack of new Set(packsOf(entry))) this.requireNamed(path, pack, owners)
    }
  }

  losesPiece({ piece, owners, failure }: LostPiece): void {
    const fault = { pack: piece.pack, frame: piece.frame, failure: toFailureMessage(failure) }
    const finding = addFault(this.#state, fault)
    finding.files += piece.entries
    for (const owner of owners) {
      finding.backups.add(owner.id)
      const list = this.#lists.get(owner)
      if (list !== undefined) list.isWhole = false
    }
  }

  /** Expiry removes what no record names. */
  requireNamed(path: string, pack: string, owners: readonly BackupRecord[]): void {
    for (const owner of owners) {
      const list = this.#lists.get(owner)
      if (list === undefined || list.named.has(pack)) continue
      this.#isWrong(owner, `${path} lies in pack ${pack}, which the record does not name`)
    }
  }

  /** After the last path. */
  finish(): void {
    for (const { backup, content, entries, bytes, isWhole } of this.#lists.values()) {
      if (!isWhole) continue
      const { files } = backup
      if (entries !== files.entries || bytes !== files.bytes) {
        const said = `${files.entries} entries of ${files.bytes} bytes`
        this.#isWrong(backup, `its lists have ${entries} entries of ${bytes} bytes, not ${said}`)
      } else if (content.digest('hex') !== files.contentHash) {
        this.#isWrong(backup, 'its lists do not make its content hash')
      }
    }
  }

  #isWrong(backup: BackupRecord, because: string): void {
    const key = backupKey(this.#state.cluster, backup.id)
    const failure = new Failure('TM1603', {
      message: `the record of backup ${backup.id} does not fit its file list (${key})`,
      because,
      fix: `do not rely on this backup; take a new one: tidemark backup ${backup.cluster}`,
      details: { key },
    })
    this.#state.book.add(key, toFailureMessage(failure)).backups.add(backup.id)
  }
}

function openList(backup: BackupRecord): ListState {
  return {
    backup,
    content: createHash('sha256'),
    named: new Set(backup.packs.map(({ id }) => id)),
    entries: 0,
    bytes: 0,
    isWhole: true,
  }
}
