/**
 * What of a database is dumped: options of pg_dump, judged before anything is written and
 * handed through. Pure.
 *
 * PostgreSQL: main() of bin/pg_dump/pg_dump.c for what excludes what.
 */
import { Failure } from '../base/failure.ts'
import type { DumpFormat } from '../repository/dump-record.ts'

export type DumpSection = 'pre-data' | 'data' | 'post-data'

export const DUMP_SECTIONS: readonly DumpSection[] = ['pre-data', 'data', 'post-data']

export interface DumpSelection {
  /** Patterns as psql's \d takes them. */
  readonly schemas: readonly string[]
  readonly excludedSchemas: readonly string[]
  readonly tables: readonly string[]
  readonly excludedTables: readonly string[]
  readonly excludedTableData: readonly string[]
  readonly schemaOnly: boolean
  readonly dataOnly: boolean
  readonly sections: readonly string[]
  readonly noOwner: boolean
  readonly noPrivileges: boolean
  /** Undefined: as pg_dump decides, with them unless schemas or tables are selected. */
  readonly largeObjects: boolean | undefined
  /** Absolute paths of filter files. */
  readonly filters: readonly string[]
  /** Plain: with CREATE DATABASE and the settings of the database. */
  readonly create: boolean
}

export const WHOLE_DATABASE: DumpSelection = {
  schemas: [],
  excludedSchemas: [],
  tables: [],
  excludedTables: [],
  excludedTableData: [],
  schemaOnly: false,
  dataOnly: false,
  sections: [],
  noOwner: false,
  noPrivileges: false,
  largeObjects: undefined,
  filters: [],
  create: false,
}

/** TM2006 for what pg_dump would refuse, or would pass over in silence. */
export function judgeSelection(selection: DumpSelection, format: DumpFormat): void {
  const { schemaOnly, dataOnly, sections, create } = selection
  if (schemaOnly && dataOnly) {
    throw contradiction('--schema-only and --data-only exclude each other', 'give one of them')
  }
  if (create && format !== 'plain') {
    throw contradiction(
      `--create is for --format plain, not for ${format}`,
      'leave it out: such a dump has what it needs, and a load decides whether to create',
    )
  }
  if (create && dataOnly) {
    throw contradiction('--create and --data-only exclude each other', 'give one of them')
  }
  const unknown = sections.find((section) => !(DUMP_SECTIONS as string[]).includes(section))
  if (unknown !== undefined) {
    throw contradiction(
      `--section cannot be '${unknown}'`,
      `it is one of ${DUMP_SECTIONS.join(', ')}, and may be given more than once`,
    )
  }
  judgeNothingLeft(selection)
  judgePatterns(selection)
}

/** pg_dump would write an archive with nothing in it, and say nothing. */
function judgeNothingLeft({ schemaOnly, dataOnly, sections }: DumpSelection): void {
  if (sections.length === 0) return
  if (schemaOnly && sections.every((section) => section === 'data')) {
    throw contradiction('--schema-only leaves nothing of --section data', 'give one of them')
  }
  if (dataOnly && !sections.includes('data')) {
    const given = sections.join(' and ')
    throw contradiction(`--data-only leaves nothing of --section ${given}`, 'give one of them')
  }
}

function judgePatterns(selection: DumpSelection): void {
  for (const [option, key] of PATTERNS) {
    if (!selection[key].some((pattern) => pattern.trim() === '')) continue
    throw contradiction(`${option} has an empty pattern`, 'name what is meant, or leave it out')
  }
  if (selection.filters.includes('-')) {
    throw contradiction(
      '--filter cannot be read from standard input',
      'name a file: it is read once for each database',
    )
  }
}

const PATTERNS = [
  ['--schema', 'schemas'],
  ['--exclude-schema', 'excludedSchemas'],
  ['--table', 'tables'],
  ['--exclude-table', 'excludedTables'],
  ['--exclude-table-data', 'excludedTableData'],
] as const

const FIRST_WITH_FILTER = 17
const FIRST_WITH_LARGE_OBJECTS = 16

/**
 * Arguments for pg_dump of a major. Every value is joined to its option, so that none is ever
 * read as an option. TM2006 when the tool has no such option.
 */
export function formatSelection(selection: DumpSelection, toolMajor: number): string[] {
  const { largeObjects, filters } = selection
  if (filters.length > 0 && toolMajor < FIRST_WITH_FILTER) {
    throw contradiction(
      `--filter needs pg_dump ${FIRST_WITH_FILTER} or later; the one that fits is ${toolMajor}`,
      `name the directory of pg_dump ${FIRST_WITH_FILTER} with --tools, or select with --table and --schema`,
    )
  }
  const large = toolMajor < FIRST_WITH_LARGE_OBJECTS ? 'blobs' : 'large-objects'
  return [
    ...PATTERNS.flatMap(([option, key]) => selection[key].map((value) => `${option}=${value}`)),
    ...filters.map((path) => `--filter=${path}`),
    ...(selection.schemaOnly ? ['--schema-only'] : []),
    ...(selection.dataOnly ? ['--data-only'] : []),
    ...selection.sections.map((section) => `--section=${section}`),
    ...(selection.noOwner ? ['--no-owner'] : []),
    ...(selection.noPrivileges ? ['--no-privileges'] : []),
    ...(largeObjects === undefined ? [] : [largeObjects ? `--${large}` : `--no-${large}`]),
    ...(selection.create ? ['--create'] : []),
  ]
}

function contradiction(message: string, fix: string): Failure {
  return new Failure('TM2006', { message, fix })
}
