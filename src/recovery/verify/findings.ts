/**
 * What verify found, each damaged or missing object once, with all that it costs.
 */
import type { FailureMessage } from '../../base/failure.ts'
import type { FailureCode } from '../../base/failure-codes.ts'

export interface LostInterval {
  /** ISO 8601; undefined: not known. */
  readonly from: string | undefined
  /** undefined: to the end of the archive. */
  readonly to: string | undefined
  readonly fromLsn: string
  readonly toLsn: string | undefined
}

export interface Finding {
  readonly code: FailureCode
  /** The object. */
  readonly key: string
  /** Ordinal of the frame, of a pack. */
  readonly frame: number | undefined
  readonly message: string
  readonly because: string | undefined
  readonly fix: string
  /** Ids of backups that cannot be restored whole any more. */
  readonly backups: readonly string[]
  /** `database.schema.table`, or the path where the name is not known; and how many files. */
  readonly relations: readonly string[]
  /** All files concerned, of which `relations` names the first ones. */
  readonly files: number
  /** Undefined: what is lost cannot be told, because the backups cannot be read. */
  readonly intervals: readonly LostInterval[] | undefined
  /** Other repositories that have it whole; undefined: there is none to look at. */
  readonly healableFrom: readonly string[] | undefined
}

/** A finding while it grows. */
export interface OpenFinding {
  readonly failure: FailureMessage
  readonly key: string
  readonly frame: number | undefined
  readonly fix: string
  readonly backups: Set<string>
  /** By path; the backup whose names say what it is. */
  readonly paths: Map<string, string>
  files: number
  /** The name of a WAL segment, for the interval. */
  segment: { readonly systemIdentifier: string; readonly name: string } | undefined
  /** Moments that it costs besides those of its backups. */
  lost: LostInterval | undefined
}

/** Paths are kept for their names; beyond these they are counted. */
const NAMED_PATHS = 200

export class FindingBook {
  readonly #findings = new Map<string, OpenFinding>()

  get size(): number {
    return this.#findings.size
  }

  get all(): readonly OpenFinding[] {
    return [...this.#findings.values()]
  }

  /** The same object and frame again is the same finding: the first failure stays. */
  add(
    key: string,
    failure: FailureMessage,
    options: { readonly frame?: number | undefined; readonly fix?: string } = {},
  ): OpenFinding {
    const { frame, fix = failure.fix } = options
    const name = `${key}#${frame ?? ''}`
    let finding = this.#findings.get(name)
    if (finding === undefined) {
      const backups = new Set<string>()
      const costs = { backups, paths: new Map(), files: 0, segment: undefined, lost: undefined }
      finding = { failure, key, frame, fix, ...costs }
      this.#findings.set(name, finding)
    }
    return finding
  }

  /** What was seen wrong: it is as it should be after all. */
  remove(finding: OpenFinding): void {
    this.#findings.delete(`${finding.key}#${finding.frame ?? ''}`)
  }

  find(key: string, frame?: number): OpenFinding | undefined {
    return this.#findings.get(`${key}#${frame ?? ''}`)
  }
}

/** A file that the finding concerns, in these backups. */
export function costsFile(finding: OpenFinding, path: string, backups: Iterable<string>): void {
  let newest = ''
  for (const backup of backups) {
    finding.backups.add(backup)
    newest = backup
  }
  if (finding.paths.has(path)) return
  finding.files++
  if (finding.paths.size < NAMED_PATHS) finding.paths.set(path, newest)
}
