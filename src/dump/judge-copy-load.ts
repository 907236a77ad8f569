/**
 * Judges whether the rows of a dump fit a table, before any is sent. Pure.
 *
 * Invariant: what is not a problem here adds rows to a table that was empty, or that the user
 * told to add to or to empty.
 */
import { Failure } from '../base/failure.ts'
import type { DumpedCopy, DumpRecord } from '../repository/dump-record.ts'
import { type FoundTable, formatTable } from './copy-source.ts'
import { quoteName } from './sql-text.ts'

export interface CopyTarget {
  /** For people: a socket or a host and port. */
  readonly address: string
  readonly database: string
  readonly databaseOid: number
  readonly systemIdentifier: string
  readonly major: number
  readonly isInRecovery: boolean
  /** Undefined: there is none of that name. */
  readonly table: FoundTable | undefined
  /** Not looked at where rows are added or taken out first. */
  readonly isEmpty: boolean
}

export interface CopyLoadChoices {
  readonly append: boolean
  readonly truncate: boolean
  /** Into the very database that was dumped. */
  readonly force: boolean
}

export interface CopyProblem {
  readonly message: string
  readonly fix: string
}

export function judgeCopyLoad(
  record: DumpRecord,
  copy: DumpedCopy,
  target: CopyTarget,
  { wanted, choices }: { readonly wanted: string; readonly choices: CopyLoadChoices },
): CopyProblem[] {
  const problems: CopyProblem[] = []
  const { address, database, table } = target
  if (target.isInRecovery) {
    const message = `the server at ${address} is a standby, which takes no changes`
    problems.push({ message, fix: 'name the primary with --into' })
  }
  const isSame =
    record.server.systemIdentifier === target.systemIdentifier &&
    record.databases[0]?.oid === target.databaseOid
  if (isSame && !choices.force) {
    const message = `${database} is the very database that was dumped`
    problems.push({ message, fix: 'name another one with --into, or say --force' })
  }
  if (copy.header && copy.format === 'text' && target.major < 15) {
    const message = `PostgreSQL ${target.major} reads no text format with a header`
    problems.push({ message, fix: 'load it into 15 or later, or write the file with --output' })
  }
  if (table === undefined) {
    const message = `there is no table ${wanted} in ${database}`
    return [...problems, { message, fix: 'create it first, or name another with --table' }]
  }
  return [...problems, ...judgeTable(copy, table), ...judgeRows(target, table, choices)]
}

const TAKES_ROWS = new Set(['r', 'p', 'f'])

function judgeTable(copy: DumpedCopy, table: FoundTable): CopyProblem[] {
  const name = formatTable(table)
  if (!TAKES_ROWS.has(table.kind)) {
    return [{ message: `${name} is no table`, fix: 'name a table with --table' }]
  }
  const there = new Map(table.columns.map((column) => [column.name, column]))
  const dumped = new Set(copy.columns.map((column) => column.name))
  const problems: CopyProblem[] = []
  for (const { name: column, type } of copy.columns) {
    const found = there.get(column)
    const quoted = quoteName(column)
    if (found === undefined) {
      const message = `${name} has no column ${quoted}, which the dump has`
      problems.push({ message, fix: 'add it, or dump with --columns' })
    } else if (found.isGenerated) {
      const message = `column ${quoted} of ${name} is generated and takes no values`
      problems.push({ message, fix: 'dump without it (--columns)' })
    } else if (copy.format === 'binary' && found.type !== type) {
      const message = `column ${quoted} of ${name} is ${found.type}, that of the dump ${type}`
      problems.push({ message, fix: 'binary needs the very type: dump with --format csv' })
    }
  }
  const required = table.columns.filter((one) => one.isRequired && !dumped.has(one.name))
  for (const column of required) {
    const quoted = quoteName(column.name)
    const message = `column ${quoted} of ${name} must have a value, and the dump has none`
    problems.push({ message, fix: 'give it a default, or dump it as well' })
  }
  return problems
}

function judgeRows(
  { isEmpty }: CopyTarget,
  table: FoundTable,
  { append, truncate }: CopyLoadChoices,
): CopyProblem[] {
  if (isEmpty || append || truncate) return []
  const message = `${formatTable(table)} has rows already`
  return [{ message, fix: '--append adds to them, --truncate takes them out first' }]
}

/** TM2083 */
export function refuseCopyLoad(problems: readonly CopyProblem[]): Failure {
  const [first, ...others] = problems
  return new Failure('TM2083', {
    message: 'the rows of the dump cannot be loaded there',
    because: problems.map(({ message }) => message).join('; '),
    fix: [...new Set([first, ...others].map((problem) => problem?.fix))].join('; '),
    details: { problems },
  })
}
