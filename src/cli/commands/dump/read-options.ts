/** Options of `dump`, read. */
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { Failure } from '../../../base/failure.ts'
import type { TakeDumpOptions } from '../../../dump/dump-context.ts'
import type { DumpSelection } from '../../../dump/selection.ts'
import type { CopyFormat, ToolFormat } from '../../../repository/dump-record.ts'
import type { CommandContext } from '../../command-context.ts'
import { parseLabels } from '../backup.ts'

export interface DumpCommandOptions {
  readonly database: readonly string[]
  readonly all?: boolean
  readonly globals?: boolean
  readonly rolePasswords?: boolean
  readonly format: ToolFormat | CopyFormat
  readonly jobs: string
  readonly label: readonly string[]
  readonly tools?: string
  readonly temporaryDirectory?: string
  readonly repository?: string
  readonly rewrite?: boolean
  readonly schema: readonly string[]
  readonly excludeSchema: readonly string[]
  readonly table: readonly string[]
  readonly excludeTable: readonly string[]
  readonly excludeTableData: readonly string[]
  readonly filter: readonly string[]
  readonly schemaOnly?: boolean
  readonly dataOnly?: boolean
  readonly section: readonly string[]
  readonly owner: boolean
  readonly privileges: boolean
  readonly largeObjects?: boolean
  readonly create?: boolean
  readonly query?: string
  readonly where?: string
  readonly columns?: string
  readonly header?: boolean
  readonly delimiter?: string
  readonly null?: string
  readonly encoding?: string
  readonly quote?: string
  readonly escape?: string
  readonly forceQuote?: boolean
  readonly enableRowSecurity?: boolean
  readonly toDatabase?: string
  readonly clean?: boolean
  readonly ifExists?: boolean
  readonly singleTransaction?: boolean
  readonly tablespaces: boolean
  readonly role?: string
  readonly createMissingRoles?: boolean
  readonly continueOnError?: boolean
  readonly force?: boolean
  readonly analyze: boolean
  readonly export?: string
  readonly split?: string
  readonly compress?: string
  readonly overwrite?: boolean
}

type Asked = Omit<TakeDumpOptions, 'targets' | 'cluster' | 'connection'>

export function readOptions(
  { env }: CommandContext,
  options: DumpCommandOptions,
  format: ToolFormat,
): Asked {
  const { database, all, tools, temporaryDirectory } = options
  if (all === true && database.length > 0) {
    throw wrongUsage('--all and --database exclude each other', 'give one of them')
  }
  const one = database.length === 0 ? 'one' : database
  return {
    databases: all === true ? 'all' : one,
    globals: options.globals ?? all === true,
    rolePasswords: options.rolePasswords,
    format,
    jobs: parseJobs(options.jobs),
    selection: readSelection(options),
    toolDirectory: tools === undefined ? undefined : resolve(tools),
    environment: env,
    temporaryDirectory: resolve(temporaryDirectory ?? tmpdir()),
    labels: parseLabels(options.label),
    rewrite: options.rewrite === true,
  }
}

function readSelection(options: DumpCommandOptions): DumpSelection {
  return {
    schemas: options.schema,
    excludedSchemas: options.excludeSchema,
    tables: options.table,
    excludedTables: options.excludeTable,
    excludedTableData: options.excludeTableData,
    schemaOnly: options.schemaOnly === true,
    dataOnly: options.dataOnly === true,
    sections: options.section,
    noOwner: !options.owner,
    noPrivileges: !options.privileges,
    largeObjects: options.largeObjects,
    filters: options.filter.map((path) => (path === '-' ? path : resolve(path))),
    create: options.create === true,
  }
}

const MAX_JOBS = 64

function parseJobs(text: string): number {
  const count = /^\d{1,2}$/.test(text) ? Number(text) : 0
  if (count >= 1 && count <= MAX_JOBS) return count
  throw wrongUsage(`--jobs cannot be '${text}'`, `it is a number from 1 to ${MAX_JOBS}`)
}

function wrongUsage(message: string, fix: string): Failure {
  return new Failure('TM1001', { message, fix })
}
