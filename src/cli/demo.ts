/**
 * `tidemark demo`: the whole story on a throw-away PostgreSQL in less than a minute.
 *
 * Invariant: it uses only what a user could run (every command is shown and run as it is
 * shown), claims only what it has checked, and leaves neither process nor file behind,
 * however it ends; only --keep leaves the directory with its servers.
 */
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { monotonicMs } from '../base/clock.ts'
import { Failure } from '../base/failure.ts'
import type { CommandContext } from './command-context.ts'
import { findServerPrograms, findServerUser, type ServerPrograms } from './demo/find-server.ts'
import { formatFigures } from './demo/figures.ts'
import { createNarrator, type Narrator } from './demo/narrator.ts'
import { requireProgram } from './demo/require-program.ts'
import { createRunner } from './demo/runner.ts'
import { type DemoOutcome, tellStory } from './demo/story.ts'
import { createWorkspace, type Workspace } from './demo/workspace.ts'

export interface DemoOptions {
  /** Leave the servers running and the directory in place. */
  readonly keep?: boolean
  /** Directory with postgres, initdb and pg_ctl. */
  readonly serverPrograms?: string
}

/** Directory of the npm package, or of the checkout. */
const PACKAGE_ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

export async function runDemo(context: CommandContext, options: DemoOptions = {}): Promise<number> {
  const started = monotonicMs()
  const { signal, terminal } = context
  const user = findServerUser()
  const path = context.env['PATH'] ?? ''
  const programs = await findServerPrograms(PACKAGE_ROOT, path, options.serverPrograms)
  const silent = context.json || context.quiet
  const narrator = createNarrator(silent ? () => undefined : terminal.print, terminal.colours)
  const workspace = createWorkspace(user)
  let kept = false
  try {
    const env = { ...context.env, TMPDIR: workspace.directory }
    const tidemark = await requireProgram(PACKAGE_ROOT, user, env)
    const runner = createRunner({
      narrator,
      tidemark,
      serverPrograms: programs.directory,
      directory: workspace.directory,
      user,
      env,
      signal,
    })
    introduce(narrator, workspace, tidemark, programs, user?.name)
    const outcome = await tellStory({ workspace, programs, narrator, runner, signal })
    const figures = { ...outcome.figures, totalMs: Math.round(monotonicMs() - started) }
    narrator.step('The figures')
    narrator.pairs(formatFigures(figures))
    requireClaims(outcome)
    kept = options.keep === true
    conclude(narrator, workspace, kept, outcome)
    if (context.json) {
      terminal.printJson(kept ? { ...figures, keptDirectory: workspace.directory } : figures)
    }
    return 0
  } finally {
    // Also after a failure: it is then that somebody wants to look.
    if (options.keep === true && !signal.aborted) {
      if (!kept) terminal.remark(`${workspace.directory} is left as it is`)
      workspace.keep()
    } else {
      await workspace.cleanUp()
    }
  }
}

function introduce(
  narrator: Narrator,
  workspace: Workspace,
  tidemark: string,
  programs: ServerPrograms,
  user: string | undefined,
): void {
  narrator.title('A running PostgreSQL, an accident, and the way back to just before it', [
    `Everything happens in ${workspace.directory}, and is removed at the end.`,
    ...(user === undefined ? [] : [`It runs as ${user}: PostgreSQL does not run as root.`]),
    'You could type every command that is shown with a $ yourself:',
    '',
    `   $ cd ${workspace.directory}`,
    `   $ PATH=${dirname(tidemark)}:${programs.directory}:$PATH`,
    `   $ export PGHOST=${workspace.directory} PGUSER=postgres`,
  ])
}

function conclude(
  narrator: Narrator,
  workspace: Workspace,
  kept: boolean,
  { addresses }: DemoOutcome,
): void {
  narrator.step(kept ? 'Everything is left as it is' : 'Cleaning up')
  if (!kept) {
    narrator.say(`Both servers are stopped and ${workspace.directory} is removed.`)
    narrator.say('To protect a server of your own: tidemark init')
    return
  }
  const psql = ({ host, port }: { host: string; port: number }) =>
    `psql -h ${host} -p ${port} -U postgres`
  narrator.say(`The living server:   ${psql(addresses.living)}`)
  narrator.say(`The recovered copy:  ${psql(addresses.copy)}`)
  narrator.say('When you are done:')
  narrator.command('pg_ctl -D copy stop; pg_ctl -D server stop')
  narrator.command(`rm -r ${workspace.directory}`)
}

function requireClaims({ claims }: DemoOutcome): void {
  const broken = claims.filter(({ holds }) => !holds)
  if (broken.length === 0) return
  throw new Failure('TM1814', {
    message: 'the demo did not prove what it promised',
    because: broken.map(({ text }) => text).join('\n'),
    fix: 'please report this, with the output of: tidemark demo --keep',
    details: { claims: broken.map(({ name }) => name) },
  })
}
