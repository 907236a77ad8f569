/** What `load` tells at its end. */
import type { StatementError } from '../../../dump/load-failures.ts'
import { countStates } from '../../../dump/load-report.ts'
import type { GlobalsPlan } from '../../../dump/plan-globals.ts'
import type { PreparedLoad } from '../../../dump/prepare-load.ts'
import type { LoadResult } from '../../../dump/run-load.ts'
import type { CommandContext } from '../../command-context.ts'
import { formatCount, formatDuration } from '../../format-units.ts'

export interface Loaded {
  readonly prepared: PreparedLoad
  readonly result: LoadResult
  readonly globals: GlobalsPlan | undefined
  readonly milliseconds: number
}

export function resultJson({ prepared, result, globals, milliseconds }: Loaded) {
  const { request, database, target, judgement, tools } = prepared
  return {
    ...request.source.json,
    database: database.name,
    into: request.into,
    server: target.address,
    toolVersion: tools.version,
    createdDatabase: result.createdDatabase,
    createdRoles: result.createdRoles,
    globals:
      globals === undefined ? null : { roles: globals.roles, tablespaces: globals.tablespaces },
    counts: result.objects === undefined ? null : countStates(result.objects),
    objects: result.objects ?? null,
    errors: result.errors,
    analyzed: result.analyzed,
    notes: [...judgement.cautions, ...result.notes],
    seconds: Math.round(milliseconds / 100) / 10,
  }
}

export function printLoaded({ terminal }: CommandContext, loaded: Loaded): void {
  const { prepared, result, globals, milliseconds } = loaded
  const { request, database, target } = prepared
  const { bold, yellow } = terminal.colours
  terminal.print(
    `loaded ${database.name} of ${request.source.label} into ${bold(request.into)} at ` +
      `${target.address} in ${formatDuration(milliseconds)}`,
  )
  if (globals !== undefined) {
    const { roles } = globals
    terminal.print(`  globals   ${roles.created.length} roles created, ${roles.kept.length} kept`)
  }
  if (result.createdRoles.length > 0) {
    terminal.print(`  roles     created without login: ${result.createdRoles.join(', ')}`)
  }
  if (result.objects !== undefined) {
    const counts = Object.entries(countStates(result.objects)).filter(([, count]) => count > 0)
    const words = counts.map(([state, count]) => `${formatCount(count, 'object')} ${state}`)
    terminal.print(`  objects   ${words.join(', ')}`)
  }
  for (const error of result.errors) terminal.print(yellow(`  failed    ${describeError(error)}`))
  for (const note of result.notes) terminal.print(yellow(`  note: ${note}`))
  if (result.analyzed) terminal.print('  statistics were collected')
}

function describeError({ object, message }: StatementError): string {
  const [first = ''] = message.split('\n', 1)
  return object === undefined ? first : `${object}: ${first}`
}
