/**
 * The objects of a dump, as its table of contents lists them: JSON lines in frames of kind 9
 * (docs/design/dumps.md, section 1). Pure.
 */
import { damagedObject } from './envelope.ts'

/** One entry that a restore would make; names as they are, not quoted. */
export interface DumpObject {
  /** The archive's own number of it. */
  readonly dumpId: number
  /** PostgreSQL's word: `TABLE`, `TABLE DATA`, `FK CONSTRAINT`. */
  readonly kind: string
  /** Empty where it lies in no schema. */
  readonly schema: string
  readonly name: string
  /** Empty where it has none. */
  readonly owner: string
}

export const OBJECTS_PER_LIST = 4096

export function encodeObjectList(objects: readonly DumpObject[]): Uint8Array {
  const lines = objects.map(({ dumpId, kind, schema, name, owner }) => {
    return JSON.stringify({ dumpId, kind, schema, name, owner })
  })
  return Buffer.from(`${lines.join('\n')}\n`)
}

/** `raw` is frame `frame` of the pack `key`; TM1601 naming it where that is no object list. */
export function decodeObjectList(key: string, frame: number, raw: Uint8Array): DumpObject[] {
  const lines = Buffer.from(raw).toString('utf8').split('\n')
  if (lines.pop() !== '') throw noList(key, frame)
  return lines.map((line) => parseLine(key, frame, line))
}

function parseLine(key: string, frame: number, line: string): DumpObject {
  let fields: Partial<Record<keyof DumpObject, unknown>> | null
  try {
    fields = JSON.parse(line) as typeof fields
  } catch (cause) {
    throw noList(key, frame, cause)
  }
  const { dumpId, kind, schema, name, owner } = fields ?? {}
  const isWhole =
    Number.isSafeInteger(dumpId) &&
    [kind, schema, name, owner].every((text) => typeof text === 'string')
  if (!isWhole) throw noList(key, frame)
  return { dumpId, kind, schema, name, owner } as DumpObject
}

function noList(key: string, frame: number, cause?: unknown): Error {
  return damagedObject(key, `frame ${frame} is no list of objects`, cause)
}
