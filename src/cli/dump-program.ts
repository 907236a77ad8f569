/** `dump` in the table of commands and options. */
import { type Command, Option } from 'commander'
import type { RunAction } from './program.ts'

const PATTERN = 'as psql takes it: *, ?, and double quotes around what is to be taken as it is'

export function addDump(program: Command, run: RunAction): void {
  const dump = program
    .command('dump')
    .summary('dump databases with pg_dump into the repository')
    .description(
      "Dumps one database, several or all of a server with PostgreSQL's own pg_dump, each from one moment, and keeps the dump beside the backups: in chunks, compressed once, encrypted where the repository is, and without what the dump before holds already. The client tools must be of the server's major version or later. Nothing is listed unless every tool has ended well. Exit status 3: it is not in every repository.",
    )
    .argument('[cluster]', 'cluster of the configuration; may be left out when there is only one')
    .option(
      '--database <name>',
      'this database (repeatable; default: that of the connection)',
      collect,
      [],
    )
    .option('--all', 'every database that allows connections, but template0')
    .option('--globals', 'roles, tablespaces and settings of roles too (with --all the default)')
    .option('--no-globals', 'without them')
    .option(
      '--role-passwords',
      'globals with the password hashes of roles (default: where all repositories are encrypted)',
    )
    .option('--no-role-passwords', 'globals without them')
    .addOption(
      new Option('--format <format>', 'what pg_dump writes; or rows alone, by COPY')
        .choices(['custom', 'plain', 'directory', 'tar', 'csv', 'text', 'binary'])
        .default('custom'),
    )
    .option('--jobs <count>', 'directory: tables dumped at once', '1')
    .option('--label <key=value>', 'note something down with the dump (repeatable)', collect, [])
    .option('--tools <dir>', 'where pg_dump and pg_dumpall are (default: PATH, usual places)')
    .option(
      '--temporary-directory <dir>',
      'directory: where pg_dump writes first (default: TMPDIR or /tmp)',
    )
    .option('--rewrite', 'store everything anew, so that it shares no copy with earlier dumps')
    .option('--repository <name>', 'only into this repository (default: all of the cluster)')
  addSelection(dump)
  addExport(dump)
  addToDatabase(dump)
  addCopy(dump)
  dump.action(async (cluster: string | undefined, _options: unknown, command: Command) => {
    await run(command.optsWithGlobals(), async (context) => {
      const { runDump } = await import('./commands/dump.ts')
      return await runDump(context, cluster, command.opts())
    })
  })
}

function addSelection(dump: Command): void {
  dump
    .option('--schema <pattern>', `only schemas that fit (repeatable), ${PATTERN}`, collect, [])
    .option('--exclude-schema <pattern>', 'no schemas that fit (repeatable)', collect, [])
    .option(
      '--table <pattern>',
      'only tables, views and sequences that fit (repeatable)',
      collect,
      [],
    )
    .option('--exclude-table <pattern>', 'no tables that fit (repeatable)', collect, [])
    .option(
      '--exclude-table-data <pattern>',
      'no rows of tables that fit (repeatable)',
      collect,
      [],
    )
    .option('--filter <file>', 'a filter file of pg_dump 17 or later (repeatable)', collect, [])
    .option('--schema-only', 'definitions, no rows')
    .option('--data-only', 'rows, no definitions')
    .option('--section <name>', 'pre-data, data or post-data (repeatable)', collect, [])
    .option('--no-owner', 'plain: nothing that sets owners')
    .option('--no-privileges', 'nothing that grants or revokes')
    .option('--large-objects', 'large objects too where schemas or tables are selected')
    .option('--no-large-objects', 'no large objects')
    .option(
      '--create',
      'plain: begin with CREATE DATABASE and its settings; --to-database: create the database',
    )
}

function addExport(dump: Command): void {
  dump
    .option('--export <path>', 'into a file or directory instead of a repository; - : stdout')
    .option('--split <size>', '--export: parts of this size, as 2G: FILE.000, FILE.001 …')
    .addOption(
      new Option('--compress <method>', '--export: by pg_dump, plain and tar by Tidemark').choices([
        'none',
        'gzip',
        'zstd',
      ]),
    )
    .option('--overwrite', '--export: replace a file that is there, when the new one is whole')
}

const COPY = '--to-database:'

function addToDatabase(dump: Command): void {
  dump
    .option('--to-database <url>', 'straight into a database of another server; nothing is stored')
    .option('--clean', `${COPY} drop objects before they are made`)
    .option('--if-exists', `${COPY} with --clean: an object that is not there is no error`)
    .option('--single-transaction', `${COPY} all of it or nothing`)
    .option('--no-tablespaces', `${COPY} everything into the default tablespace`)
    .option('--role <name>', `${COPY} SET ROLE to it before anything is made`)
    .option('--create-missing-roles', `${COPY} create roles that are missing, without login`)
    .option('--continue-on-error', `${COPY} go on behind statements that fail; exit status 3`)
    .option('--force', `${COPY} into a database that is not empty, or the very one`)
    .option('--no-analyze', `${COPY} collect no statistics afterwards`)
}

/** Of --format csv, text and binary. */
function addCopy(dump: Command): void {
  dump
    .option('--query <sql>', 'COPY: what this query gives')
    .option('--where <condition>', 'COPY: only rows of the table for which this holds')
    .option('--columns <names>', 'COPY: these columns, with commas between them')
    .option('--header', 'COPY: a first line with the names of columns')
    .option('--delimiter <character>', "COPY: between values (default: ',' in csv, tab in text)")
    .option('--null <text>', "COPY: stands for NULL (default: '' in csv, '\\N' in text)")
    .option('--encoding <name>', "COPY: of the file (default: the database's)")
    .option('--quote <character>', 'csv: around values (default: a double quote)')
    .option('--escape <character>', 'csv: before a quote in a value (default: the quote)')
    .option('--force-quote', 'csv: quotes around every value that is not NULL')
    .option('--enable-row-security', 'COPY: only rows that policies let the role see')
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value]
}
