/** The commands that tell what the WAL archive does and holds: wal status, metrics, events. */
import type { Command } from 'commander'
import type { RunAction } from './program.ts'

const CLUSTER = 'cluster of the configuration; may be left out when there is only one'

export function addWalStatus(wal: Command, run: RunAction): void {
  wal
    .command('status')
    .summary('how WAL gets into the archive')
    .description(
      'Shows, by repository and timeline, the last archived segment, how far it is behind the server in bytes and seconds, how fast WAL is written and archived, what waits in pg_wal, replication slots, and holes. Works without the server too.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--repository <name>', 'only this repository (default: all of the cluster)')
    .option('--check', 'exit status 3 when something is wrong')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runWalStatus } = await import('./commands/wal-status.ts')
        return await runWalStatus(context, cluster, command.opts())
      })
    })
}

export function addMetrics(program: Command, run: RunAction): void {
  program
    .command('metrics')
    .summary('what status knows, for Prometheus')
    .description(
      'Prints metrics in the text format of Prometheus: whether server and repositories answer, how long the disk of pg_wal lasts, how far the archive is behind, gaps, the window, the last backup. What cannot be read has no sample, and its _up metric is 0; the exit status is 0 all the same. With --output it writes a file for the textfile collector of node_exporter.',
    )
    .argument('[cluster]', 'cluster of the configuration (default: all of them)')
    .option('--output <file>', 'replace this file, whole or not at all: DIRECTORY/tidemark.prom')
    .option(
      '--timeout <seconds>',
      'a server or repository that takes longer counts as away (default: 60)',
    )
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runMetrics } = await import('./commands/metrics.ts')
        return await runMetrics(context, cluster, command.opts())
      })
    })
}

const KINDS =
  'only these, separated by commas: drop, truncate, delete, update, insert, rewrite, index, drop-database, drop-tablespace, create-database, create-tablespace, commit, prepare, abort, restore-point, timeline, restart, settings, backup, reset, gap'

export function addEvents(program: Command, run: RunAction): void {
  program
    .command('events')
    .summary('what happened when, out of the WAL')
    .description(
      'Prints what a person looks for after an accident: DROP, TRUNCATE, DROP DATABASE, transactions that deleted or updated at least 1000 rows or half of a table, restore points, timeline switches, restarts; each with time, transaction, LSN, relations, counts, and the restore that recovers to just before it. With --json one object a line.',
    )
    .argument('[cluster]', CLUSTER)
    .option(
      '--since <moment>',
      'from here on: an ISO 8601 time with its zone, 14:00Z for today, 30min, 2h or 3d for so long ago, or start (default: 24h)',
    )
    .option('--until <moment>', 'up to here (default: the end of the archive)')
    .option('--kind <kinds>', KINDS)
    .option('--relation <name>', 'only what changed it: orders, public.orders, public.order*')
    .option('--database <name>', 'only in this database (name or oid)')
    .option('--xid <number>', 'only this transaction, or the one that this was a part of')
    .option(
      '--min-rows <count>',
      'so many rows are worth a line (default: 1000, or half of a table)',
    )
    .option('--all', 'every transaction and every event')
    .option('--timeline <number>', 'along this timeline (default: the one that a restore follows)')
    .option('--limit <count>', 'end after so many')
    .option('--repository <name>', 'only from this repository (default: all of the cluster)')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runEvents } = await import('./commands/events.ts')
        return await runEvents(context, cluster, command.opts())
      })
    })
}
