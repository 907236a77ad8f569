/** The commands that tell what the WAL archive does and holds: wal status, events. */
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
