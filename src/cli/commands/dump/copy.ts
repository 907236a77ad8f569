/** Options of `dump --format csv|text|binary`: rows of one table or query, by COPY. */
import { Failure } from '../../../base/failure.ts'
import type { TakeCopyOptions } from '../../../dump/take-copy.ts'
import type { CopyFormat, ToolFormat } from '../../../repository/dump-record.ts'
import type { DumpCommandOptions } from './read-options.ts'

type Asked = Omit<TakeCopyOptions, 'targets' | 'cluster' | 'connection' | 'labels'>

export function isCopyFormat(format: ToolFormat | CopyFormat): format is CopyFormat {
  return format === 'csv' || format === 'text' || format === 'binary'
}

/** TM2081 */
export function readCopyOptions(options: DumpCommandOptions, format: CopyFormat): Asked {
  const strange = listToolOptions(options)
  if (strange.length > 0) {
    throw wrong(
      `${strange.join(', ')} cannot be had with --format ${format}`,
      'rows of one table or query are dumped by COPY; the other formats are of pg_dump',
    )
  }
  const [table] = options.table
  return {
    database: options.database[0],
    source: {
      table,
      query: options.query,
      where: options.where,
      columns: options.columns === undefined ? [] : splitNames(options.columns),
    },
    copy: {
      format,
      header: options.header === true,
      delimiter: options.delimiter === '\\t' ? '\t' : options.delimiter,
      null: options.null,
      encoding: options.encoding,
      quote: options.quote,
      escape: options.escape,
      forceQuote: options.forceQuote === true,
    },
    rowSecurity: options.enableRowSecurity === true,
    rewrite: options.rewrite === true,
  }
}

function listToolOptions(options: DumpCommandOptions): string[] {
  const given: [string, boolean][] = [
    ['--all', options.all === true],
    ['more than one --database', options.database.length > 1],
    ['more than one --table', options.table.length > 1],
    ['--globals', options.globals === true],
    ['--role-passwords', options.rolePasswords === true],
    ['--jobs', options.jobs !== '1'],
    ['--schema', options.schema.length > 0],
    ['--exclude-schema', options.excludeSchema.length > 0],
    ['--exclude-table', options.excludeTable.length > 0],
    ['--exclude-table-data', options.excludeTableData.length > 0],
    ['--filter', options.filter.length > 0],
    ['--schema-only', options.schemaOnly === true],
    ['--section', options.section.length > 0],
    ['--large-objects', options.largeObjects === true],
    ['--create', options.create === true],
    ['--tools', options.tools !== undefined],
    ['--temporary-directory', options.temporaryDirectory !== undefined],
  ]
  return given.filter(([, isGiven]) => isGiven).map(([option]) => option)
}

/** TM2081: pg_dump knows none of them. */
export function refuseCopyOptions(options: DumpCommandOptions): void {
  const given: [string, boolean][] = [
    ['--query', options.query !== undefined],
    ['--where', options.where !== undefined],
    ['--columns', options.columns !== undefined],
    ['--header', options.header === true],
    ['--delimiter', options.delimiter !== undefined],
    ['--null', options.null !== undefined],
    ['--encoding', options.encoding !== undefined],
    ['--quote', options.quote !== undefined],
    ['--escape', options.escape !== undefined],
    ['--force-quote', options.forceQuote === true],
    ['--enable-row-security', options.enableRowSecurity === true],
  ]
  const first = given.find(([, isGiven]) => isGiven)
  if (first === undefined) return
  throw wrong(
    `${first[0]} is for rows by COPY, not for --format ${options.format}`,
    'add --format csv, text or binary',
  )
}

/** `a, "B,c"`: commas inside double quotes part nothing. */
function splitNames(text: string): string[] {
  const names = text.match(/(?:"(?:[^"]|"")*"|[^,"])+/g) ?? []
  const isWhole = names.length > 0 && names.join(',') === text
  if (isWhole && names.every((name) => name.trim() !== '')) return names
  throw wrong(`--columns cannot be '${text}'`, 'it is names with commas between them: a,b')
}

function wrong(message: string, fix: string): Failure {
  return new Failure('TM2081', { message, fix })
}
