/**
 * Everything of a load that comes before the first change: which tools, what the selection takes
 * and needs, what the target is, and whether all of that goes together.
 *
 * Invariant: nothing is written to the target here.
 */
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import type { DumpObject } from '../repository/dump-objects.ts'
import { type ClientTools, findTools } from './find-tools.ts'
import {
  judgeLoad,
  type LoadChoices,
  type LoadJudgement,
  type LoadTarget,
  refuseLoad,
} from './judge-load.ts'
import {
  checkSelection,
  formatSelection,
  type LoadSelection,
  nothingSelected,
  type ObjectChoices,
  selectsAll,
  type Suggest,
} from './load-selection.ts'
import type { LoadSource, SourceDatabase } from './load-source.ts'
import type { OpenArchive } from './open-archive.ts'
import { readLoadTarget } from './read-load-facts.ts'
import { type LoadNeeds, readNeeds } from './read-needs.ts'
import { type ArchiveTool, listSelected, readSchemaScript } from './run-archive-tool.ts'
import { toolEnvironment, type Variables } from './tool-environment.ts'

export interface LoadRequest {
  readonly source: LoadSource
  /** URL of the server; its database is not looked at. May hold a password. */
  readonly connection: string
  /** To load into. */
  readonly into: string
  readonly selection: LoadSelection
  readonly choices: LoadOptions
  readonly suggest: Suggest
  /** What globals make before: it counts as there. */
  readonly expected: { readonly roles: readonly string[]; readonly tablespaces: readonly string[] }
  readonly tools: { readonly directory?: string | undefined; readonly searchPath: string }
  /** Our own environment. */
  readonly variables: Variables
}

export interface LoadOptions extends Omit<LoadChoices, 'dataOnly'>, ObjectChoices {
  readonly ifExists: boolean
  readonly singleTransaction: boolean
  readonly jobs: number
  /** SET ROLE before anything is made. */
  readonly role: string | undefined
  readonly continueOnError: boolean
  readonly analyze: boolean
}

export interface PreparedLoad {
  readonly request: LoadRequest
  readonly database: SourceDatabase
  readonly tools: ClientTools
  readonly env: Readonly<Record<string, string>>
  readonly target: LoadTarget
  readonly judgement: LoadJudgement
  /** Undefined: a plain script. */
  readonly archive: PreparedArchive | undefined
  close(): Promise<void>
}

export interface PreparedArchive {
  readonly open: OpenArchive
  readonly objects: readonly DumpObject[]
  readonly selected: ReadonlySet<number>
  readonly needs: LoadNeeds
  /** The script that makes the database and its settings; empty unless it is to be made. */
  readonly script: string
}

/** TM2030 with all that stands against it, TM2032, TM2001. */
export async function prepareLoad(
  request: LoadRequest,
  signal: AbortSignal,
): Promise<PreparedLoad> {
  const { source, into, choices } = request
  const { database } = source
  const target = await readLoadTarget(request.connection, into, database.encoding)
  const tools = await findTools({
    names: ['pg_restore', 'psql'],
    major: Math.max(target.major, majorOf(source.toolVersion)),
    ...request.tools,
  })
  const env = toolEnvironment(parseConnectionUrl(request.connection), into, request.variables)
  const tool = { path: tools.path('pg_restore'), env, signal, encoding: database.encoding }
  const archive = source.format === 'plain' ? undefined : await readArchive(request, tool)
  try {
    const needs = withRole(archive?.needs, choices.role)
    const dataOnly = source.holdsOnlyRows || request.selection.sections.join() === 'data'
    const { createsItself } = source
    const dumped = { ...database, ...source.server, createsItself }
    const judgement = judgeLoad(dumped, withExpected(target, request), needs, {
      ...choices,
      dataOnly,
    })
    const room = await archive?.open.findProblem()
    const problems = [...judgement.problems, ...(room === undefined ? [] : [room])]
    if (problems.length > 0) throw refuseLoad(target, problems)
    const close = async (): Promise<void> => await archive?.open.close()
    return { request, database, tools, env, target, judgement, archive, close }
  } catch (error) {
    await archive?.open.close()
    throw error
  }
}

export function majorOf(version: string): number {
  return Number.parseInt(version, 10)
}

function withExpected(target: LoadTarget, { expected }: LoadRequest): LoadTarget {
  return {
    ...target,
    roles: new Set([...target.roles, ...expected.roles]),
    tablespaces: new Set([...target.tablespaces, ...expected.tablespaces]),
  }
}

/** `--role` has to be there as well. */
function withRole(needs: LoadNeeds | undefined, role: string | undefined): LoadNeeds | undefined {
  if (needs === undefined || role === undefined || needs.roles.has(role)) return needs
  return { ...needs, roles: new Map([...needs.roles, [role, ['--role']]]) }
}

async function readArchive(request: LoadRequest, tool: ArchiveTool): Promise<PreparedArchive> {
  const { source, selection, choices } = request
  const objects: DumpObject[] = []
  for await (const object of source.objects()) {
    if (choices.create || !isOfDatabaseItself(object)) objects.push(object)
  }
  checkSelection(selection, objects, request.suggest)
  const seeks = choices.jobs > 1 || selection.list !== undefined
  const open = await source.openArchive(seeks)
  try {
    const options = formatSelection(selection, choices)
    const selected = new Set(await listSelected(tool, await open.head(), options))
    if (selected.size === 0 && !selectsAll(selection)) throw nothingSelected(options)
    for (const number of listDatabaseObjects(objects, request)) selected.add(number)
    const script = await readSchemaScript(tool, await open.head(), options, choices)
    return { open, objects, selected, needs: readNeeds(script), script }
  } catch (error) {
    await open.close()
    throw error
  }
}

/** Made with the database, and so only with --create; pg_restore sees it in the same way. */
function isOfDatabaseItself({ kind, name }: DumpObject): boolean {
  const isAttached = /^(ACL|COMMENT|SECURITY LABEL)$/.test(kind) && name.startsWith('DATABASE ')
  return kind === 'DATABASE' || kind === 'DATABASE PROPERTIES' || isAttached
}

/** Its settings name it: under another name only the database itself is made. */
function listDatabaseObjects(objects: readonly DumpObject[], request: LoadRequest): number[] {
  if (!request.choices.create) return []
  const keepsItsName = request.into === request.source.database.name
  const made = objects.filter((one) => {
    return one.kind === 'DATABASE' || (keepsItsName && isOfDatabaseItself(one))
  })
  return made.map(({ dumpId }) => dumpId)
}
