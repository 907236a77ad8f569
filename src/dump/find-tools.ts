/**
 * Finds PostgreSQL's client tools of a fitting major version: the lowest that is at least
 * the one that is needed, since a newer tool writes what an older server may not take.
 *
 * Invariant: the version is what the tool says of itself, never what its path says; all
 * tools that are asked for come out of one directory.
 */
import { execFile } from 'node:child_process'
import { realpath } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { describeSystemError, Failure } from '../base/failure.ts'
import { isProgramThere, listProgramDirectories } from '../postgres/program-directories.ts'

export type ToolName = 'pg_dump' | 'pg_dumpall' | 'pg_restore' | 'psql'

export interface ToolRequest {
  /** The first is asked for its version. */
  readonly names: readonly [ToolName, ...ToolName[]]
  /** Lowest major that will do. */
  readonly major: number
  /** Configured: nothing else is looked at. */
  readonly directory?: string | undefined
  /** What PATH says. */
  readonly searchPath: string
}

export interface ClientTools {
  readonly directory: string
  readonly major: number
  /** `17.6`. */
  readonly version: string
  path(name: ToolName): string
}

/** What was found in a directory. */
export interface FoundTools {
  readonly directory: string
  readonly major: number
  readonly version: string
}

/** TM2001 when there are none, or only older ones. */
export async function findTools(request: ToolRequest): Promise<ClientTools> {
  const found: FoundTools[] = []
  for (const directory of await listCandidates(request)) {
    const tools = await askVersion(directory, request.names)
    if (tools !== undefined) found.push(tools)
  }
  const chosen = chooseTools(found, request.major)
  if (chosen === undefined) throw refuse(request, found)
  return { ...chosen, path: (name) => join(chosen.directory, name) }
}

/** The lowest major that is high enough; of equal ones the first. */
export function chooseTools(found: readonly FoundTools[], major: number): FoundTools | undefined {
  return found
    .filter((tools) => tools.major >= major)
    .reduce<FoundTools | undefined>((best, tools) => {
      return best === undefined || tools.major < best.major ? tools : best
    }, undefined)
}

/** `pg_dump (PostgreSQL) 17.6 (Debian 17.6-1)`, `psql (PostgreSQL) 19devel`. */
export function parseToolVersion(text: string): { major: number; version: string } | undefined {
  const match = /^\S+ \(PostgreSQL\) ((\d+)[^\s]*)/.exec(text)
  if (match === null) return undefined
  return { major: Number(match[2]), version: match[1] as string }
}

async function listCandidates({ directory, searchPath, names }: ToolRequest): Promise<string[]> {
  if (directory !== undefined) return [directory]
  const path = searchPath.split(':').filter((one) => one.startsWith('/'))
  const usual = await listProgramDirectories()
  const candidates: string[] = []
  for (const one of new Set([...path, ...usual])) {
    if (!(await isWrapper(join(one, names[0])))) candidates.push(one)
  }
  return candidates
}

/** Debian's /usr/bin/pg_dump chooses a version by itself, for another server than ours. */
async function isWrapper(path: string): Promise<boolean> {
  const target = await realpath(path).catch(() => path)
  return basename(target) === 'pg_wrapper'
}

const ASK_LIMIT_MS = 20_000

async function askVersion(
  directory: string,
  names: ToolRequest['names'],
): Promise<FoundTools | undefined> {
  const paths = names.map((name) => join(directory, name))
  if (!(await Promise.all(paths.map(isProgramThere))).every(Boolean)) return undefined
  try {
    const ask = promisify(execFile)
    const options = { timeout: ASK_LIMIT_MS, env: { LC_ALL: 'C' } }
    const { stdout } = await ask(paths[0] as string, ['--version'], options)
    const parsed = parseToolVersion(stdout)
    return parsed === undefined ? undefined : { directory, ...parsed }
  } catch (error) {
    // One that does not run (another architecture, a library that is missing) is none.
    if (error instanceof Error) return undefined
    throw error
  }
}

function refuse(request: ToolRequest, found: readonly FoundTools[]): Failure {
  const { names, major, directory } = request
  const where = directory ?? 'PATH and the usual directories'
  const versions = found.map((tools) => `${tools.version} in ${tools.directory}`)
  const isMissing = found.length === 0
  return new Failure('TM2001', {
    message: isMissing
      ? `${names.join(' and ')} of PostgreSQL ${major} or later are not there`
      : `${names[0]} is older than PostgreSQL ${major}, which needs ${major} or later`,
    because: isMissing
      ? `nothing that runs was found in ${where}`
      : `found: ${versions.join(', ')}`,
    fix:
      `install the package postgresql-client-${major} (Debian, Ubuntu) or postgresql${major} ` +
      '(RPM), or name the directory that has the tools with --tools',
    details: { major, found: found.map((tools) => ({ ...tools })) },
  })
}

/** For messages of who has to run one. */
export function describeStartError(program: string, error: unknown): Failure {
  return new Failure('TM2003', {
    message: `${program} could not be started`,
    because: describeSystemError(error),
    fix: 'see that it is there and may be run by this user, then try again',
    cause: error,
  })
}
