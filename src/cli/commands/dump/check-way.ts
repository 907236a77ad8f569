/** Where a dump goes, and which options have a meaning there. */
import { Failure } from '../../../base/failure.ts'
import { isCopyFormat } from './copy.ts'
import type { DumpCommandOptions } from './read-options.ts'

export type DumpWay = 'repository' | 'copy' | 'export'

/** TM2100 */
export function checkWay(options: DumpCommandOptions): DumpWay {
  const way = wayOf(options)
  if (way !== 'copy') refuse(COPY_ONLY, options, 'without --to-database')
  if (way !== 'export') refuse(EXPORT_ONLY, options, 'without --export')
  if (way === 'repository') return way
  refuse(REPOSITORY_ONLY, options, way === 'copy' ? 'with --to-database' : 'with --export')
  if (isCopyFormat(options.format)) {
    throw wrong(
      `--format ${options.format} goes into a repository`,
      'dump it there; tidemark load ID --output FILE writes the file',
    )
  }
  if (way === 'copy') checkCopy(options)
  return way
}

function wayOf({ toDatabase, export: output }: DumpCommandOptions): DumpWay {
  if (toDatabase !== undefined && output !== undefined) {
    throw wrong('--to-database and --export exclude each other', 'give one of them')
  }
  if (toDatabase !== undefined) return 'copy'
  return output === undefined ? 'repository' : 'export'
}

type Given = readonly [option: string, isGiven: (options: DumpCommandOptions) => boolean]

const REPOSITORY_ONLY: readonly Given[] = [
  ['--label', ({ label }) => label.length > 0],
  ['--rewrite', ({ rewrite }) => rewrite === true],
  ['--repository', ({ repository }) => repository !== undefined],
]

const COPY_ONLY: readonly Given[] = [
  ['--clean', ({ clean }) => clean === true],
  ['--if-exists', ({ ifExists }) => ifExists === true],
  ['--single-transaction', ({ singleTransaction }) => singleTransaction === true],
  ['--no-tablespaces', ({ tablespaces }) => !tablespaces],
  ['--role', ({ role }) => role !== undefined],
  ['--create-missing-roles', ({ createMissingRoles }) => createMissingRoles === true],
  ['--continue-on-error', ({ continueOnError }) => continueOnError === true],
  ['--force', ({ force }) => force === true],
  ['--no-analyze', ({ analyze }) => !analyze],
]

const EXPORT_ONLY: readonly Given[] = [
  ['--split', ({ split }) => split !== undefined],
  ['--compress', ({ compress }) => compress !== undefined],
  ['--overwrite', ({ overwrite }) => overwrite === true],
]

function refuse(given: readonly Given[], options: DumpCommandOptions, where: string): void {
  const found = given.find(([, isGiven]) => isGiven(options))
  if (found !== undefined) throw wrong(`${found[0]} has no meaning ${where}`, 'leave it out')
}

function checkCopy(options: DumpCommandOptions): void {
  const { all, database, format, jobs } = options
  if (all === true || database.length > 1) {
    throw wrong('--to-database copies one database', 'name it with --database; copy one by one')
  }
  if (format !== 'custom') {
    throw wrong(`--format ${format} has no meaning with --to-database`, 'leave it out')
  }
  if (jobs !== '1') {
    throw wrong(
      '--jobs has no meaning with --to-database',
      'leave it out; several jobs need a dump in the repository or in a directory',
    )
  }
  if (options.create === true && options.clean === true) {
    throw wrong('--create and --clean exclude each other', 'a new database has nothing to drop')
  }
  if (options.ifExists === true && options.clean !== true) {
    throw wrong('--if-exists is for --clean', 'say --clean as well, or leave it out')
  }
  if (options.singleTransaction === true && options.continueOnError === true) {
    throw wrong(
      '--single-transaction and --continue-on-error exclude each other',
      'the first error ends a transaction',
    )
  }
}

function wrong(message: string, fix: string): Failure {
  return new Failure('TM2100', { message, fix })
}
