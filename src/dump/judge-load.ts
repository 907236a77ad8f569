/**
 * Judges a load before anything is written: what stands against it, all at once, and what the
 * user should know. Pure.
 *
 * Invariant: what is not a problem here changes nothing that was in the target before, unless
 * --clean or --force asks for it.
 */
import { Failure } from '../base/failure.ts'
import type { LoadNeeds } from './read-needs.ts'

export interface LoadTarget {
  /** For people: a socket or a host and port. */
  readonly address: string
  readonly database: string
  /** Undefined: it is not there. */
  readonly found: FoundDatabase | undefined
  readonly systemIdentifier: string
  readonly startedAt: Date
  readonly major: number
  readonly isInRecovery: boolean
  readonly roles: ReadonlySet<string>
  readonly tablespaces: ReadonlySet<string>
}

export interface FoundDatabase {
  readonly oid: number
  readonly encoding: string
  /** Does the server convert the dumped encoding into that of the database? */
  readonly converts: boolean
  /** What users have made in it: `table` and how many. */
  readonly objects: ReadonlyMap<string, number>
}

export interface DumpedSource {
  readonly name: string
  /** Undefined: nobody knows; as with the system identifier. */
  readonly oid: number | undefined
  readonly encoding: string
  readonly systemIdentifier: string | undefined
  readonly major: number
  /** A plain script that creates its database by itself and goes there. */
  readonly createsItself: boolean
}

export interface LoadChoices {
  readonly create: boolean
  readonly clean: boolean
  readonly force: boolean
  /** Only rows are loaded: the tables have to be there. */
  readonly dataOnly: boolean
  readonly singleTransaction: boolean
  readonly createMissingRoles: boolean
}

export interface LoadProblem {
  readonly message: string
  readonly fix: string
}

export interface LoadJudgement {
  readonly problems: readonly LoadProblem[]
  readonly cautions: readonly string[]
  /** To be created before anything else. */
  readonly rolesToCreate: readonly string[]
}

/** `needs` undefined: a plain script, of which only the server can say what it needs. */
export function judgeLoad(
  source: DumpedSource,
  target: LoadTarget,
  needs: LoadNeeds | undefined,
  choices: LoadChoices,
): LoadJudgement {
  const missing = [...(needs?.roles ?? [])].filter(([role]) => !target.roles.has(role))
  const problems = [
    ...judgePlace(source, target, choices),
    ...judgeScript(source, target, choices),
    ...judgeContents(target, choices),
    ...judgeEncoding(source, target),
    ...(choices.createMissingRoles ? [] : judgeRoles(missing)),
    ...judgeTablespaces(target, needs),
  ]
  return {
    problems,
    cautions: listCautions(source, target, needs),
    rolesToCreate: choices.createMissingRoles ? missing.map(([role]) => role) : [],
  }
}

function judgePlace(
  source: DumpedSource,
  target: LoadTarget,
  { create, force }: LoadChoices,
): LoadProblem[] {
  const { database, found } = target
  const problems: LoadProblem[] = []
  if (target.isInRecovery) {
    const message = `the server at ${target.address} is a standby, which takes no changes`
    problems.push({ message, fix: 'name the primary with --into' })
  }
  if (create && found !== undefined) {
    const message = `database ${database} is there already, so it cannot be created`
    problems.push({ message, fix: 'leave out --create, or name another database with --into' })
  }
  if (!create && found === undefined) {
    const message = `the server at ${target.address} has no database ${database}`
    problems.push({ message, fix: '--create makes it' })
  }
  if (isSame(source, target) && !force) {
    const message = `${database} is the very database that was dumped`
    problems.push({ message, fix: 'name another one with --into, or say --force' })
  }
  return problems
}

/**
 * A file does not tell the server that it comes from: name and OID alone are taken for it, unless
 * the database is empty.
 */
function isSame(source: DumpedSource, { systemIdentifier, database, found }: LoadTarget): boolean {
  if (found === undefined || source.oid !== found.oid) return false
  if (source.systemIdentifier !== undefined) return source.systemIdentifier === systemIdentifier
  return source.name === database && found.objects.size > 0
}

/** It would go to the database that it names, whichever was meant. */
function judgeScript(
  { name, createsItself }: DumpedSource,
  { database }: LoadTarget,
  { create, singleTransaction }: LoadChoices,
): LoadProblem[] {
  if (!createsItself) return []
  const problems: LoadProblem[] = []
  if (!create || database !== name) {
    const message = `the dump is a script that creates database ${name} itself and connects to it`
    const fix = `say --into ${name} --create, or take the script with --output`
    problems.push({ message, fix })
  }
  if (singleTransaction) {
    const message = 'the script creates a database, which no transaction can'
    problems.push({ message, fix: 'leave out --single-transaction' })
  }
  return problems
}

function judgeContents(
  { database, found }: LoadTarget,
  { create, clean, force, dataOnly }: LoadChoices,
): LoadProblem[] {
  const isEmpty = found === undefined || found.objects.size === 0
  if (isEmpty || create || clean || force || dataOnly) return []
  const held = [...found.objects].map(([kind, count]) => `${count} ${kind}${count > 1 ? 's' : ''}`)
  return [
    {
      message: `${database} is not empty: it holds ${held.join(', ')}`,
      fix: 'name an empty database, make a new one with --create, replace objects with --clean, or add to them with --force',
    },
  ]
}

function judgeEncoding(source: DumpedSource, { database, found }: LoadTarget): LoadProblem[] {
  if (found === undefined || found.converts) return []
  return [
    {
      message: `the server cannot convert ${source.encoding} into ${found.encoding}, the encoding of ${database}`,
      fix: `load into a database with the encoding ${source.encoding} or UTF8; --create makes one as it was`,
    },
  ]
}

function judgeRoles(missing: readonly (readonly [string, readonly string[]])[]): LoadProblem[] {
  if (missing.length === 0) return []
  const named = missing.map(([role, uses]) => `${role} (${uses.join(', ')})`)
  return [
    {
      message: `the server has not the ${missing.length === 1 ? 'role' : 'roles'} ${named.join(', ')}`,
      fix: '--create-missing-roles makes them without login, --globals loads those that the dump has; without them: --no-owner and --no-privileges',
    },
  ]
}

function judgeTablespaces(target: LoadTarget, needs: LoadNeeds | undefined): LoadProblem[] {
  const missing = [...(needs?.tablespaces ?? [])].filter((one) => !target.tablespaces.has(one))
  if (missing.length === 0) return []
  return [
    {
      message: `the server has not the ${missing.length === 1 ? 'tablespace' : 'tablespaces'} ${missing.join(', ')}`,
      fix: 'create them (CREATE TABLESPACE … LOCATION …), or say --no-tablespaces',
    },
  ]
}

function listCautions(
  source: DumpedSource,
  target: LoadTarget,
  needs: LoadNeeds | undefined,
): string[] {
  const cautions: string[] = []
  if (target.major < source.major) {
    cautions.push(
      `PostgreSQL ${target.major} is older than the ${source.major} that was dumped: it may not know all of it`,
    )
  }
  const encoding = target.found?.encoding
  if (encoding !== undefined && encoding !== source.encoding && encoding !== 'UTF8') {
    cautions.push(
      `${target.database} has the encoding ${encoding}, the dump ${source.encoding}: characters that ${encoding} lacks make the load fail`,
    )
  }
  if (needs === undefined) {
    cautions.push('of a plain dump the roles and tablespaces that it needs are not known before')
  }
  return cautions
}

/** TM2030 with all problems in one. */
export function refuseLoad(target: LoadTarget, problems: readonly LoadProblem[]): Failure {
  const count = problems.length === 1 ? '' : `${problems.length} things stand against it: `
  return new Failure('TM2030', {
    message: `nothing was loaded into ${target.database}`,
    because: `${count}${problems.map(({ message }) => message).join('; ')}`,
    fix: problems.map(({ fix }) => fix).join('; '),
    details: { database: target.database, problems },
  })
}
