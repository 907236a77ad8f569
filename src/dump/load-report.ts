/** What became of each object of a dump in a load. Pure. */
import type { DumpObject } from '../repository/dump-objects.ts'
import type { StatementError } from './load-failures.ts'
import type { RestoreMessages } from './restore-messages.ts'

/** `undone`: it was made in the transaction that was rolled back. */
export type ObjectState = 'restored' | 'skipped' | 'failed' | 'not reached' | 'undone'

export interface LoadedObject extends DumpObject {
  readonly state: ObjectState
}

/** What a tool left, before it is judged. */
export interface LoadedContents {
  readonly objects: readonly LoadedObject[] | undefined
  readonly isWhole: boolean
  /** `SIGKILL`, `status 1`. */
  readonly endedBy: string
  readonly errors: readonly StatementError[]
  readonly lastLines: readonly string[]
}

export interface LoadEnding {
  /** Numbers of what the selection takes. */
  readonly selected: ReadonlySet<number>
  readonly messages: RestoreMessages
  /** The tool ended with status 0. */
  readonly isWhole: boolean
  readonly isOneTransaction: boolean
}

export function reportObjects(objects: readonly DumpObject[], ending: LoadEnding): LoadedObject[] {
  const failed = new Set(ending.messages.errors.map(({ dumpId }) => dumpId))
  const begun = new Map(ending.messages.begun)
  return objects.map((object) => ({ ...object, state: judge(object) }))

  function judge(object: DumpObject): ObjectState {
    if (!ending.selected.has(object.dumpId)) return 'skipped'
    if (ending.isWhole) return 'restored'
    if (failed.has(object.dumpId)) return 'failed'
    const key = keyOf(object)
    const times = begun.get(key) ?? 0
    if (times === 0) return 'not reached'
    begun.set(key, times - 1)
    return ending.isOneTransaction ? 'undone' : 'restored'
  }
}

/** As MessageReader has it. */
function keyOf({ kind, schema, name }: DumpObject): string {
  if (kind === 'BLOBS') return kind
  const hasNoSchema = schema === '' || schema === '-' || UNQUALIFIED.has(kind)
  return `${kind} ${hasNoSchema ? name : `${schema}.${name}`}`
}

/** These are told by their own name alone. */
const UNQUALIFIED = new Set(['BLOB', 'SEQUENCE SET'])

export function countStates(objects: readonly LoadedObject[]): Record<ObjectState, number> {
  const counts = { restored: 0, skipped: 0, failed: 0, 'not reached': 0, undone: 0 }
  for (const { state } of objects) counts[state]++
  return counts
}
