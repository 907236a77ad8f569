/**
 * What of a dump is to be loaded: options for pg_restore, and whether the dump has it. Pure.
 *
 * Invariant: a name that the dump does not have is an error, and never an empty load.
 */
import { Failure } from '../base/failure.ts'
import type { DumpObject } from '../repository/dump-objects.ts'

export type LoadSection = 'pre-data' | 'data' | 'post-data'

export interface LoadSelection {
  readonly schemas: readonly string[]
  readonly tables: readonly string[]
  readonly sections: readonly LoadSection[]
  /** As `pg_restore --list` writes it. */
  readonly list: { readonly path: string; readonly text: string } | undefined
}

export interface ObjectChoices {
  readonly noOwner: boolean
  readonly noPrivileges: boolean
  readonly noTablespaces: boolean
}

export function selectsAll({ schemas, tables, sections, list }: LoadSelection): boolean {
  return schemas.length + tables.length + sections.length === 0 && list === undefined
}

/** For any run of pg_restore that shall see the same objects. */
export function formatSelection(selection: LoadSelection, choices: ObjectChoices): string[] {
  return [
    ...selection.schemas.map((one) => `--schema=${one}`),
    ...selection.tables.map((one) => `--table=${one}`),
    ...selection.sections.map((one) => `--section=${one}`),
    ...(selection.list === undefined ? [] : [`--use-list=${selection.list.path}`]),
    ...(choices.noOwner ? ['--no-owner'] : []),
    ...(choices.noPrivileges ? ['--no-privileges'] : []),
    ...(choices.noTablespaces ? ['--no-tablespaces'] : []),
  ]
}

/** `; did you mean 'x'?`, or nothing. */
export type Suggest = (word: string, candidates: Iterable<string>) => string

/** What --table of pg_restore looks at. */
const TABLE_KINDS = new Set([
  'TABLE',
  'TABLE DATA',
  'VIEW',
  'FOREIGN TABLE',
  'MATERIALIZED VIEW',
  'MATERIALIZED VIEW DATA',
  'SEQUENCE',
  'SEQUENCE SET',
])

/** TM2032: the selection names what the dump does not have. */
export function checkSelection(
  selection: LoadSelection,
  objects: readonly DumpObject[],
  suggest: Suggest,
): void {
  const schemas = new Set<string>()
  const tables = new Map<string, string>()
  for (const { kind, schema, name } of objects) {
    if (schema !== '' && schema !== '-') schemas.add(schema)
    if (TABLE_KINDS.has(kind)) tables.set(name, schema)
  }
  for (const schema of selection.schemas) {
    if (!schemas.has(schema)) throw absent('--schema', schema, suggest(schema, schemas))
  }
  for (const table of selection.tables) {
    if (tables.has(table)) continue
    const [schema = '', name = ''] = table.split(/\.(.*)/s)
    const isQualified = schemas.has(schema) && tables.has(name)
    const hint = isQualified
      ? `; say --schema ${schema} --table ${name}`
      : suggest(table, tables.keys())
    throw absent('--table', table, hint)
  }
  if (selection.list !== undefined) checkList(selection.list, objects)
}

function checkList(
  list: { readonly path: string; readonly text: string },
  objects: readonly DumpObject[],
): void {
  const known = new Set(objects.map(({ dumpId }) => dumpId))
  const numbers = parseListedIds(list.text)
  const strange = numbers.find((number) => !known.has(number))
  if (strange !== undefined) throw absent('--list', `${list.path}: ${strange}`, '')
  if (numbers.length > 0) return
  throw new Failure('TM2032', {
    message: `${list.path} names no object`,
    because: 'every line of it is empty or begins with a semicolon',
    fix: 'give --list lines as pg_restore --list writes them: they begin with the number of an object',
  })
}

function absent(option: string, value: string, hint: string): Failure {
  return new Failure('TM2032', {
    message: `the dump has nothing of ${option} ${value}${hint}`,
    because: 'names are taken as they are: capitals count, and patterns are not known here',
    fix: 'tidemark show DUMP says what is in it',
    details: { option, value },
  })
}

/** Numbers at the beginning of lines, as pg_restore reads them: behind `;` is a comment. */
export function parseListedIds(text: string): number[] {
  return text.split('\n').flatMap((line) => {
    const number = /^\s*(\d+)/.exec(line.split(';', 1)[0] ?? '')?.[1]
    return number === undefined ? [] : [Number(number)]
  })
}

/** TM2032: each name is there, and still nothing fits all of them. */
export function nothingSelected(options: readonly string[]): Failure {
  return new Failure('TM2032', {
    message: 'the selection takes nothing of the dump',
    because: `no object fits ${options.join(' ')}`,
    fix: 'leave one of the options out; names that are not ASCII, of a database that is not UTF8, are chosen with --list',
  })
}
