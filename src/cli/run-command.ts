/**
 * Runs any command line: reads it, gives the command its context, and turns how it ends
 * into text and an exit status (0; 1 failed; 2 usage or configuration; 3 a check found a
 * problem; 130 interrupted).
 */
import { readFileSync } from 'node:fs'
import { CommanderError } from 'commander'
import { type CommandContext, createContext, type GlobalOptions } from './command-context.ts'
import { type Action, buildProgram, wrongUsage } from './program.ts'
import { reportFailure } from './report-failure.ts'

const EXIT_INTERRUPTED = 130
const EXIT_GET_FAILED = 255
const EXIT_FAILED = 1

export async function runCommand(argv: readonly string[]): Promise<number> {
  let status = 0
  const program = buildProgram(readVersion(), async (globals, action) => {
    status = await runAction(globals, action)
  })
  program.exitOverride()
  program.configureOutput({ outputError() {} })
  for (const command of allCommands(program)) {
    command.exitOverride().configureOutput({ outputError() {} })
  }
  // Asked for help, commander ends with the status that is set already: 0 unless it failed.
  if (!isWalGet(argv)) process.exitCode = 0
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return status
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0
    const told = reportFailure(translateUsage(error), {
      json: argv.includes('--json'),
      verbose: argv.includes('--verbose') || argv.includes('-v'),
    })
    return isWalGet(argv) ? EXIT_GET_FAILED : told
  }
}

function allCommands(program: ReturnType<typeof buildProgram>) {
  return program.commands.flatMap((command) => [command, ...command.commands])
}

function isWalGet(argv: readonly string[]): boolean {
  return argv.some((word, at) => word === 'wal' && argv[at + 1] === 'get')
}

async function runAction(globals: GlobalOptions, action: Action): Promise<number> {
  // A promise that never settles ends Node.js: that must not look like success.
  process.exitCode ||= EXIT_FAILED
  const interruption = new AbortController()
  const interrupt = (): void => {
    if (interruption.signal.aborted) process.exit(EXIT_INTERRUPTED)
    interruption.abort()
  }
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt)
  let context: CommandContext | undefined
  try {
    context = createContext(globals, interruption.signal)
    return await action(context)
  } catch (error) {
    context?.close()
    if (interruption.signal.aborted) {
      if (globals.quiet !== true) process.stderr.write('interrupted\n')
      return EXIT_INTERRUPTED
    }
    return reportFailure(error, { json: globals.json === true, verbose: globals.verbose === true })
  } finally {
    context?.close()
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  }
}

/** The parser's own complaints as failures; without a command it has shown the help. */
function translateUsage(error: unknown): unknown {
  if (!(error instanceof CommanderError)) return error
  if (error.code === 'commander.help') {
    return wrongUsage('no command given', undefined, 'name one of the commands above')
  }
  const message = error.message.replace(/^error: /, '').replace(/\.$/, '')
  return wrongUsage(message, undefined, 'tidemark COMMAND --help explains a command')
}

/** Of package.json, which lies two folders above in sources and in the package alike. */
export function readVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { version: string }).version)
}
