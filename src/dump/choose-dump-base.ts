/** Chooses the dump whose chunks are looked for. Pure. */
import type { DumpFormat, DumpRecord } from '../repository/dump-record.ts'

export interface DumpBaseCriteria {
  readonly databases: readonly string[]
  readonly format: DumpFormat
  /** Where given: only one of the same selection. */
  readonly selection?: readonly string[]
  /** Ids of dumps that must not be used. */
  readonly without: ReadonlySet<string>
}

/**
 * The newest of the same databases in the same format that all members have. `lists`: of each
 * member, oldest first.
 */
export function chooseDumpBase(
  lists: readonly (readonly DumpRecord[])[],
  { databases, format, selection, without }: DumpBaseCriteria,
): DumpRecord | undefined {
  const [first = [], ...others] = lists
  const known = others.map((list) => new Set(list.map(({ id }) => id)))
  const wanted = namesOf(databases)
  const selected = selection === undefined ? undefined : JSON.stringify(selection)
  return first.findLast((dump) => {
    if (dump.format !== format || without.has(dump.id)) return false
    if (namesOf(dump.databases.map(({ name }) => name)) !== wanted) return false
    if (selected !== undefined && JSON.stringify(dump.selection) !== selected) return false
    return known.every((ids) => ids.has(dump.id))
  })
}

function namesOf(databases: readonly string[]): string {
  return JSON.stringify(databases.toSorted())
}
