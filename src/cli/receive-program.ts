/** The command `wal receive` and its options. */
import { type Command, Option } from 'commander'
import type { RunAction } from './program.ts'

export function addReceive(wal: Command, run: RunAction): void {
  wal
    .command('receive')
    .summary('stream WAL into the archive, up to the last flush')
    .description(
      'Streams WAL from the server into every repository of the cluster, until it is told to end (SIGTERM, SIGINT). The replication slot is created where it is missing, promotions are followed, and lost connections are taken up again. The segment that is not complete yet is durable too: a restore replays everything that was flushed. With --json one object a line.',
    )
    .argument('[cluster]', 'cluster of the configuration; may be left out when there is only one')
    .option(
      '--synchronous',
      'flush and confirm at once, for synchronous_standby_names (name: tidemark)',
    )
    .option('--slot <name>', 'the replication slot (default: that of the configuration)')
    .addOption(
      new Option('--application-name <name>', 'what synchronous_standby_names knows it by').default(
        'tidemark',
      ),
    )
    .option('--once', 'end when all that the server has now is durable')
    .option('--until <lsn>', 'end when WAL up to this LSN is durable')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runWalReceive } = await import('./commands/wal-receive.ts')
        return await runWalReceive(context, cluster, command.opts())
      })
    })
}
