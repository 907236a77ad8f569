/** Options of `load`, and which of them go together. */
import { Failure } from '../../../base/failure.ts'
import type { DumpFormat } from '../../../repository/dump-record.ts'

export interface LoadCommandOptions {
  readonly into?: string
  readonly output?: string
  readonly import?: string
  readonly database?: string
  readonly schema?: readonly string[]
  readonly table?: readonly string[]
  readonly section?: readonly string[]
  readonly list?: string
  readonly create?: boolean
  readonly clean?: boolean
  readonly ifExists?: boolean
  readonly singleTransaction?: boolean
  readonly jobs?: string
  readonly owner?: boolean
  readonly privileges?: boolean
  readonly tablespaces?: boolean
  readonly role?: string
  readonly createMissingRoles?: boolean
  readonly globals?: boolean
  readonly continueOnError?: boolean
  readonly force?: boolean
  readonly analyze?: boolean
  readonly append?: boolean
  readonly truncate?: boolean
  readonly tools?: string
  readonly repository?: string
}

const SECTIONS = ['pre-data', 'data', 'post-data']

/** TM1001 */
export function checkOptions(options: LoadCommandOptions): void {
  if ((options.into === undefined) === (options.output === undefined)) {
    throw wrong(
      options.into === undefined ? '--into is missing' : '--into and --output exclude each other',
      '--into DATABASE loads the dump, --output FILE writes its files',
    )
  }
  if (options.into === '') throw wrong('--into names no database', 'name one, or a URL')
  for (const section of options.section ?? []) {
    if (SECTIONS.includes(section)) continue
    throw wrong(`--section cannot be '${section}'`, `it is one of ${SECTIONS.join(', ')}`)
  }
  if (options.ifExists === true && options.clean !== true) {
    throw wrong('--if-exists is for --clean', 'say --clean as well, or leave it out')
  }
  if (options.append === true && options.truncate === true) {
    throw wrong('--append and --truncate exclude each other', 'give one of them')
  }
  if (options.create === true && options.clean === true) {
    throw wrong('--create and --clean exclude each other', 'a new database has nothing to drop')
  }
  checkTransaction(options)
  checkOutput(options)
}

/** Files are written as they are. */
function checkOutput(options: LoadCommandOptions): void {
  const { output, database, globals, repository, ...rest } = options
  if (output === undefined) return
  const given = Object.entries(rest).filter(([name, value]) => {
    return Array.isArray(value) ? value.length > 0 : value !== DEFAULTS[name]
  })
  const [first] = given
  if (first === undefined) return
  const option = first[0].replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  throw wrong(
    `--${first[1] === false ? 'no-' : ''}${option} has no meaning with --output`,
    'files are written as they are, whole; --database chooses those of one database',
  )
}

/** What commander gives where an option is not said. */
const DEFAULTS: Readonly<Record<string, unknown>> = {
  owner: true,
  privileges: true,
  tablespaces: true,
  analyze: true,
}

function checkTransaction(options: LoadCommandOptions): void {
  if (options.singleTransaction !== true) return
  if (parseJobs(options.jobs) > 1) {
    throw wrong('--single-transaction is for one job', 'leave out --jobs')
  }
  if (options.continueOnError === true) {
    throw wrong(
      '--single-transaction and --continue-on-error exclude each other',
      'the first error ends a transaction',
    )
  }
}

/** What psql cannot do with a script, and tar not in parallel: TM1001. */
export function checkFormat(format: DumpFormat, options: LoadCommandOptions): void {
  if (format === 'tar' && parseJobs(options.jobs) > 1) {
    throw wrong('a dump in the tar format is loaded by one job', 'leave out --jobs')
  }
  if (format === 'copy') {
    checkCopy(options)
    return
  }
  const ofCopy = [
    ['--append', options.append],
    ['--truncate', options.truncate],
  ].find(([, isGiven]) => isGiven === true)
  if (ofCopy !== undefined) {
    throw wrong(
      `${ofCopy[0]} is for dumps of rows by COPY, and this one is ${format}`,
      'leave it out; --clean drops what is there first',
    )
  }
  if (format !== 'plain') return
  const given = listArchiveOptions(options)
  if (given.length === 0) return
  throw wrong(
    `a plain dump is loaded as it is: ${given.join(', ')} cannot be had`,
    'leave that out, or load a dump in the custom, directory or tar format',
  )
}

/** Rows go into one table that is there, in one transaction. */
function checkCopy(options: LoadCommandOptions): void {
  const archive = listArchiveOptions(options).filter(
    (name) => !['--table', '--role'].includes(name),
  )
  const others: [string, boolean][] = [
    ['--create', options.create === true],
    ['--if-exists', options.ifExists === true],
    ['--globals', options.globals === true],
    ['--continue-on-error', options.continueOnError === true],
  ]
  const given = [...archive, ...others.filter(([, isGiven]) => isGiven).map(([name]) => name)]
  if (given.length > 0) {
    throw wrong(
      `a dump of rows goes into one table that is there: ${given.join(', ')} cannot be had`,
      'leave that out; --table names the table, --append and --truncate say what to do with its rows',
    )
  }
  if ((options.table ?? []).length <= 1) return
  throw wrong('--table is given twice', 'a dump of rows goes into one table')
}

function listArchiveOptions(options: LoadCommandOptions): string[] {
  const given: [string, boolean][] = [
    ['--schema', (options.schema ?? []).length > 0],
    ['--table', (options.table ?? []).length > 0],
    ['--section', (options.section ?? []).length > 0],
    ['--list', options.list !== undefined],
    ['--clean', options.clean === true],
    ['--jobs', parseJobs(options.jobs) > 1],
    ['--no-owner', options.owner === false],
    ['--no-privileges', options.privileges === false],
    ['--no-tablespaces', options.tablespaces === false],
    ['--role', options.role !== undefined],
    ['--create-missing-roles', options.createMissingRoles === true],
  ]
  return given.filter(([, isGiven]) => isGiven).map(([name]) => name)
}

const MOST_JOBS = 256

export function parseJobs(text: string | undefined): number {
  const jobs = text === undefined ? 1 : /^\d{1,3}$/.test(text) ? Number(text) : 0
  if (jobs >= 1 && jobs <= MOST_JOBS) return jobs
  throw wrong(`--jobs cannot be '${text}'`, `it is a number from 1 to ${MOST_JOBS}`)
}

function wrong(message: string, fix: string): Failure {
  return new Failure('TM1001', { message, fix })
}
