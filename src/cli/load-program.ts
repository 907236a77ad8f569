/** The command `load`. */
import type { Command } from 'commander'
import type { RunAction } from './program.ts'

const SELECT = '(repeatable)'

export function addLoad(program: Command, run: RunAction): void {
  const load = program
    .command('load')
    .summary('load a dump into a database, or write its files back')
    .description(
      'Loads a dump into a database, here or elsewhere, by pg_restore or psql. What stands against it is found and told before anything is changed: roles and tablespaces that are missing, a database that is not empty or is the very one that was dumped. The first error ends it. With --output it writes the files of the dump as pg_dump wrote them.',
    )
    .argument('[dump]', 'id of a dump, or latest; with --import left out')
    .argument('[cluster]', 'cluster of the configuration; may be left out when there is only one')
    .option('--into <where>', "a database of the cluster's server, or postgresql://host/database")
    .option('--output <path>', 'write the files of the dump there instead; never over a file')
    .option('--import <path>', 'load this file or directory of pg_dump instead; - : stdin')
    .option('--database <name>', 'which one of the dump, where it has several')
    .option('--schema <name>', `only this schema ${SELECT}`, collect, [])
    .option(
      '--table <name>',
      `only this table, without its schema ${SELECT}; of rows by COPY: into this one, as SQL writes it`,
      collect,
      [],
    )
    .option('--section <name>', `pre-data, data or post-data ${SELECT}`, collect, [])
    .option('--list <file>', 'only the objects of this list, in its order (pg_restore --list)')
  addChoices(load)
  load.action(
    async (dump: string | undefined, cluster: string | undefined, _: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runLoad } = await import('./commands/load.ts')
        return await runLoad(context, dump, cluster, command.opts())
      })
    },
  )
}

function addChoices(load: Command): void {
  load
    .option('--create', 'create the database, with the encoding and locale of the dumped one')
    .option('--clean', 'drop objects before they are made')
    .option('--if-exists', 'with --clean: an object that is not there is no error')
    .option('--single-transaction', 'all of it or nothing')
    .option('--jobs <count>', 'custom and directory: so many tables at once (default: 1)')
    .option('--no-owner', 'what is made belongs to the role that loads')
    .option('--no-privileges', 'no GRANT and REVOKE')
    .option('--no-tablespaces', 'everything into the default tablespace')
    .option('--role <name>', 'SET ROLE to it before anything is made')
    .option('--create-missing-roles', 'create roles that are needed and missing, without login')
    .option('--globals', 'load the roles and tablespaces of the dump first')
    .option('--continue-on-error', 'go on behind statements that fail; exit status 3')
    .option('--force', 'into a database that is not empty, or the very one that was dumped')
    .option('--append', 'COPY: add the rows to those that are in the table')
    .option('--truncate', 'COPY: empty the table first, in the same transaction')
    .option('--no-analyze', 'collect no statistics afterwards')
    .option('--tools <dir>', 'where pg_restore and psql are (default: PATH and the usual places)')
    .option('--repository <name>', 'only from this repository (default: the nearest that is whole)')
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value]
}
