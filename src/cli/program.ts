/**
 * The table of commands and options. Help, manual and the reading of the command line are
 * made from it; what a command does is in commands/, loaded when it runs.
 */
import { Command, Option } from 'commander'
import { didYouMean } from '../config/nearest-name.ts'
import { Failure } from '../base/failure.ts'
import type { CommandContext, GlobalOptions } from './command-context.ts'
import { addWalAdopt } from './adopt-program.ts'
import { addDump } from './dump-program.ts'
import { addLoad } from './load-program.ts'
import { addKeyCommands, KEY_COMMAND, KEY_FILE, PASSPHRASE } from './key-program.ts'
import { addReceive } from './receive-program.ts'
import { addRetentionCommands } from './retention-commands.ts'
import { addEvents, addMetrics, addWalStatus } from './wal-program.ts'

/** An action of a command: gives the exit status. */
export type Action = (context: CommandContext) => Promise<number>

/** Runs an action with the global options that stand anywhere on the command line. */
export type RunAction = (globals: GlobalOptions, action: Action) => Promise<void>

/** Commander with our failures in place of its own messages. */
class CommandWithFailures extends Command {
  override createCommand(name?: string): CommandWithFailures {
    return new CommandWithFailures(name)
  }

  /** Called by commander for `--opton`. */
  unknownOption(flag: string): never {
    const known = this.#knownFlags()
    throw wrongUsage(
      `unknown option '${flag}'${didYouMean(flag, known)}`,
      `${this.#path()} has the options ${known.join(', ')}`,
      `${this.#path()} --help`,
    )
  }

  /** Called by commander for `bakup`. */
  unknownCommand(): never {
    const word = this.args[0] ?? ''
    const known = this.commands.map((command) => command.name())
    throw wrongUsage(
      `unknown command '${word}'${didYouMean(word, known)}`,
      `${this.#path()} has the commands ${known.join(', ')}`,
      `${this.#path()} --help`,
    )
  }

  #knownFlags(): string[] {
    const options = [...this.options]
    for (let at = this.parent; at !== null; at = at.parent) options.push(...at.options)
    return options.map((option) => option.long ?? option.short ?? '')
  }

  #path(): string {
    const names = [this.name()]
    for (let at = this.parent; at !== null; at = at.parent) names.unshift(at.name())
    return names.join(' ')
  }
}

export function wrongUsage(message: string, because: string | undefined, fix: string): Failure {
  return new Failure('TM1001', { message, ...(because === undefined ? {} : { because }), fix })
}

export function buildProgram(version: string, run: RunAction): CommandWithFailures {
  const program = new CommandWithFailures('tidemark')
  program
    .description('PostgreSQL backup, point-in-time recovery and disaster recovery, with proof.')
    .version(version, '-V, --version', 'print the version')
    .option(
      '--config <file>',
      'the configuration (default: TIDEMARK_CONFIG, ./tidemark.yaml, /etc/tidemark/tidemark.yaml)',
    )
    .option('--json', 'print one JSON document on standard output')
    .option('-q, --quiet', 'no remarks and no progress')
    .option('-v, --verbose', 'more detail; stack traces of failures')
    .addOption(new Option('--progress', 'show progress where there is no terminal too'))
    .addOption(new Option('--no-progress', 'show no progress'))
    .helpOption('-h, --help', 'explain a command')
    .configureHelp({ showGlobalOptions: true })
  addSetUpCommands(program, run)
  addBackupCommands(program, run)
  addWalCommands(program, run)
  addRecoveryCommands(program, run)
  addMetrics(program, run)
  addEvents(program, run)
  addVerify(program, run)
  addKeyCommands(program, run)
  addRetentionCommands(program, run)
  addSync(program, run)
  addDump(program, run)
  addLoad(program, run)
  return program
}

const CLUSTER = 'cluster of the configuration; may be left out when there is only one'
const REPOSITORY = 'repository of the cluster (default: its first)'

function addSetUpCommands(program: Command, run: RunAction): void {
  program
    .command('demo')
    .summary('the whole story on a throw-away PostgreSQL in one minute')
    .description(
      'Starts a throw-away PostgreSQL, protects it, drops a table by accident while load goes on, recovers to the moment before, proves it, and cleans up.',
    )
    .option('--keep', 'leave the servers running and the directory in place')
    .option('--server-programs <dir>', 'directory with postgres, initdb and pg_ctl')
    .action(async (_options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runDemo } = await import('./demo.ts')
        return await runDemo(context, command.opts())
      })
    })
  program
    .command('init')
    .summary('detect the server, write tidemark.yaml, create the repository')
    .description(
      'Detects the server, writes tidemark.yaml and creates the repository. Server settings are only changed with --configure; without it, the statements to run are printed. Run again, it changes nothing.',
    )
    .option('--connection <url>', 'how to reach the server')
    .option(
      '--repository <url>',
      'where backups and WAL shall be kept: file:///path or s3://bucket/prefix',
    )
    .option('--region <name>', 's3: the region of the bucket')
    .option('--endpoint <url>', 's3: the store, where it is not Amazon: https://host:port')
    .option('--path-style', 's3: the bucket stands in the path of requests')
    .option('--access-key-id <reference>', 's3: the key of access, best as file:/path or ${NAME}')
    .option('--secret-access-key <reference>', 's3: its secret, as file:/path or ${NAME}')
    .option('--passphrase <reference>', `encrypt the repository: ${PASSPHRASE}`)
    .option('--key-file <file>', `encrypt the repository: ${KEY_FILE}`)
    .option('--key-command <command>', `encrypt the repository: ${KEY_COMMAND}`)
    .option('--name <name>', 'name of the cluster (default: main)')
    .option('--configure', 'set the server up for archiving (ALTER SYSTEM, reload)')
    .option('-y, --yes', 'ask nothing')
    .action(async (_options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runInit } = await import('./commands/init.ts')
        return await runInit(context, command.opts())
      })
    })
  program
    .command('doctor')
    .summary('check server, archiving and repository, end to end')
    .description(
      'Checks server settings, permissions, archiving, repository, clock and archive, says how to mend what is wrong, and ends with a proof: a segment switch, and the segment read back from the repository. Exit status 3 when a check found a problem.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--fix', 'mend what can be mended')
    .option('--no-proof', 'leave out the segment switch at the end')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runDoctor } = await import('./commands/doctor.ts')
        return await runDoctor(context, cluster, command.opts())
      })
    })
}

function addBackupCommands(program: Command, run: RunAction): void {
  program
    .command('backup')
    .summary('take a physical backup')
    .description(
      'Takes a physical backup. The first one stores everything, later ones only pages that changed; every one is complete in itself.',
    )
    .argument('[cluster]', CLUSTER)
    .addOption(
      new Option('--source <source>', 'how the files are read')
        .choices(['auto', 'local'])
        .default('auto'),
    )
    .option('--full', 'read every page, whatever the state of its file')
    .option(
      '--rewrite',
      'with --full: compare with nothing and store everything anew, so that it shares no copy with earlier backups',
    )
    .option('--label <key=value>', 'note something down with the backup (repeatable)', collect, [])
    .option('--pin', 'keep this backup until it is unpinned')
    .option('--repository <name>', 'only into this repository (default: all of the cluster)')
    .option('--workers <count>', 'files read at once (default: one per processor, at most 4)')
    .option('--no-archive-check', 'accept that it can only be restored to its own end')
    .option('--force-version', 'accept a PostgreSQL version that this Tidemark does not know')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runBackup } = await import('./commands/backup.ts')
        return await runBackup(context, cluster, command.opts())
      })
    })
  program
    .command('list')
    .summary('list backups')
    .description('Lists the backups of a cluster, oldest first by the time of the server.')
    .argument('[cluster]', CLUSTER)
    .option('--repository <name>', REPOSITORY)
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runList } = await import('./commands/list.ts')
        return await runList(context, cluster, command.opts())
      })
    })
  program
    .command('show')
    .summary('show one backup in detail')
    .description('Shows one backup in detail: server, WAL range, tablespaces, sizes, damage.')
    .argument('<backup>', 'id of a backup, or latest')
    .option('--cluster <name>', CLUSTER)
    .option('--repository <name>', REPOSITORY)
    .action(async (backup: string, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runShow } = await import('./commands/show.ts')
        return await runShow(context, backup, command.opts())
      })
    })
}

function addWalCommands(program: Command, run: RunAction): void {
  const wal = program
    .command('wal')
    .summary('the WAL archive: receive, push, get, status, list')
    .description('The WAL archive. push and get are what PostgreSQL calls.')
  addPushAndGet(wal, run)
  addReceive(wal, run)
  addWalStatus(wal, run)
  wal
    .command('list')
    .summary('list what is archived')
    .description('Lists what is archived, by timeline, with the gaps.')
    .argument('[cluster]', CLUSTER)
    .option('--repository <name>', REPOSITORY)
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runWalList } = await import('./commands/wal-list.ts')
        return await runWalList(context, cluster, command.opts())
      })
    })
  wal
    .command('index')
    .summary('index what the archived WAL did, for events')
    .description(
      'Computes the event index of archived segments that have none: what events reads. Indexes are written while WAL is archived, and computed while reading where they are missing, so this is needed for WAL of before, after a repair, or to make events quick. Exit status 3: a segment could not be indexed.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--rebuild', 'also those that are there')
    .option('--newest <count>', 'at most so many, the newest')
    .option('--repository <name>', 'only in this one (default: all)')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runWalIndex } = await import('./commands/wal-index.ts')
        return await runWalIndex(context, cluster, command.opts())
      })
    })
  addWalAdopt(wal, run)
}

const SYSTEM = 'system identifier of the server, where the files do not tell'

function addPushAndGet(wal: Command, run: RunAction): void {
  wal
    .command('push')
    .summary('archive a WAL file (archive_command)')
    .description(
      'Takes one WAL file into every repository of the cluster: archive_command = \'… wal push "%p"\'. Returns when it is durable in all required ones; another one is given five seconds, and left out with a warning. The same file again is fine; other content under the same name goes to quarantine and fails.',
    )
    .argument('<path>', 'the file (%p)')
    .option('--ahead', 'archive what else is ready, too, and acknowledge it in tidemark.acks')
    .option('--cluster <name>', CLUSTER)
    .option('--system-identifier <number>', SYSTEM)
    .action(async (path: string, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runWalCommand } = await import('./run-wal-command.ts')
        return await runWalCommand(walArguments(context, 'push', [path], command.opts()))
      })
    })
  wal
    .command('get')
    .summary('bring a WAL file back (restore_command)')
    .description(
      'Brings one WAL file out of the archive, from the nearest repository that has it whole. Exit status 0: fetched; 44: proved absent in every repository; 255: anything else. PostgreSQL takes 1 to 125 for the end of WAL, so the restore_command that Tidemark writes maps 44 to 1 and everything else to 255.',
    )
    .argument('<name>', 'the file that is wanted (%f)')
    .argument('<path>', 'where to write it (%p)')
    .option('--cluster <name>', CLUSTER)
    .option('--system-identifier <number>', SYSTEM)
    .option('--repository <names>', 'ask only these, separated by commas (default: all)')
    .option('--ahead', 'leave a process behind that fetches what follows into a spool in pg_wal')
    .option('--timeline <number>', 'with --ahead: the timeline that recovery goes to')
    .addOption(
      new Option('--holes <answer>', 'a segment that is missing while later ones are there')
        .choices(['fail', 'absent'])
        .default('fail'),
    )
    .action(async (name: string, path: string, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runWalCommand } = await import('./run-wal-command.ts')
        return await runWalCommand(walArguments(context, 'get', [name, path], command.opts()))
      })
    })
}

function walArguments(
  context: CommandContext,
  command: 'push' | 'get',
  words: readonly string[],
  options: {
    cluster?: string
    systemIdentifier?: string
    repository?: string
    holes?: 'fail' | 'absent'
    ahead?: boolean
    timeline?: string
  },
) {
  return {
    command,
    words,
    config: context.configOption,
    cluster: options.cluster,
    systemIdentifier: options.systemIdentifier,
    repositories: options.repository?.split(','),
    holes: options.holes ?? 'fail',
    ahead: options.ahead === true,
    indexNoted: false,
    fill: false,
    timeline: parseTimeline(options.timeline),
    json: context.json,
    quiet: context.quiet,
    verbose: context.verbose,
  } as const
}

function parseTimeline(text: string | undefined): number | undefined {
  if (text === undefined || /^[1-9]\d{0,9}$/.test(text))
    return text === undefined ? undefined : Number(text)
  throw wrongUsage(`--timeline cannot be '${text}'`, undefined, 'it is a number from 1')
}

const TARGET =
  'latest, immediate, end-of:gap, an ISO 8601 time with its zone, lsn:X/Y, xid:N, name:NAME, backup:ID, before:xid:N or before:lsn:X/Y (default: latest)'

function addRestore(program: Command, run: RunAction): void {
  program
    .command('restore')
    .summary('recover to a target into a directory')
    .description(
      'Recovers a cluster to a target into an empty directory. The target, all WAL up to it and all packs are checked before a byte is written. What comes out is a copy that harms nobody: it does not archive, and has a configuration of its own; --take-over keeps those of the original.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--into <dir>', 'the directory to restore into: absent or empty')
    .option('--to <target>', TARGET)
    .addOption(
      new Option('--action <action>', 'at the target')
        .choices(['promote', 'pause', 'shutdown'])
        .default('promote'),
    )
    .option(
      '--tablespace <old=new>',
      'another place for a tablespace, named by location, OID or name (repeatable)',
      collect,
      [],
    )
    .option('--plan', 'only show what would be done, and how long it would take')
    .option('--start', 'start the server and wait until it has reached the target')
    .option('--take-over', 'this replaces the original: keep its configuration and archiving')
    .option(
      '--timeline <number>',
      'follow this timeline (default: the newest that descends from the newest backup)',
    )
    .option(
      '--backup <id>',
      'start from this backup (default: the newest that can reach the target)',
    )
    .option('--port <number>', 'port of a copy; it names its socket (default: 5432)')
    .option('--pg-bin <dir>', 'where the PostgreSQL programs are, for --start')
    .option('--owner <user>', 'who the files shall belong to, when run by root')
    .option('--preload <libraries>', 'shared_preload_libraries that replay needs, in a copy')
    .option('--repository <name>', 'only from this repository (default: the nearest that is whole)')
    .option('--workers <count>', 'writers (default: one more than processors, at most 4)')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runRestore } = await import('./commands/restore.ts')
        return await runRestore(context, cluster, command.opts())
      })
    })
}

function addRecoveryCommands(program: Command, run: RunAction): void {
  addRestore(program, run)
  program
    .command('window')
    .summary('the moments that can be recovered')
    .description(
      'Shows the intervals in which every moment can be recovered and what ends each: holes with the segments that are missing and since when, damage, wal_level=minimal, WAL that no backup leads into. A bar on a terminal.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--repository <name>', REPOSITORY)
    .option('--check', 'exit status 3 when something ends it, or nothing can be recovered')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runWindow } = await import('./commands/window.ts')
        return await runWindow(context, cluster, command.opts())
      })
    })
  program
    .command('status')
    .summary('how well the cluster is protected now')
    .description(
      'Shows what would be lost now (RPO), the last backup, the window, gaps, and failures of the archiver. Works without the server too.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--check', 'exit status 3 when something is wrong')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runStatus } = await import('./commands/status.ts')
        return await runStatus(context, cluster, command.opts())
      })
    })
}

function addVerify(program: Command, run: RunAction): void {
  program
    .command('verify')
    .summary('prove what is stored, and that it can be recovered')
    .description(
      'Proves what is in the repository: the bytes of every object, every page map against its pages, page checksums, and the WAL from each backup to the end of what it promises. Without options, what is new or was not proved for a while. Each finding names the object and what it costs: backups, relations, moments. Exit status 3 when there is one.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--full', 'prove everything, whenever it was proved last')
    .option('--backup <id>', 'prove all that this backup needs (an id, or latest)')
    .option('--budget <limit>', 'begin nothing new after so much: 50GiB, 30min; the oldest first')
    .option('--days <count>', 'prove again what was not proved for so many days', '30')
    .option('--rebuild-catalogue', 'first write missing or damaged backup records from the packs')
    .option('--repository <name>', 'only this repository (default: all of the cluster)')
    .option('--workers <count>', 'objects proved at once (default: one per processor, at most 4)')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runVerify } = await import('./commands/verify.ts')
        return await runVerify(context, cluster, command.opts())
      })
    })
}

function addSync(program: Command, run: RunAction): void {
  program
    .command('sync')
    .summary('bring what one repository lacks from another, and heal it')
    .description(
      'Brings backups, packs and WAL that the one repository has and the other lacks, each object proved on the way, and records last, so that every backup that is listed restores from that repository alone. Damaged and missing objects are healed frame by frame. What the retention of the one that receives would remove at once is not brought. Exit status 3 when something could not be brought or healed; the rest was.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--from <name>', 'the repository that has it')
    .option('--to <name>', 'the repository that gets it')
    .option('--heal', 'prove all that both have by reading it, and mend what is damaged')
    .option('--object <key>', 'mend this object and nothing else (repeatable)', collect, [])
    .option('--dry-run', 'only show what would be done')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runSync } = await import('./commands/sync.ts')
        return await runSync(context, cluster, command.opts())
      })
    })
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value]
}
