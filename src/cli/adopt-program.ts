/** The options of `wal adopt`. */
import type { Command } from 'commander'
import type { RunAction } from './program.ts'

export function addWalAdopt(wal: Command, run: RunAction): void {
  wal
    .command('adopt')
    .summary('decide which of two servers goes on with a timeline')
    .description(
      'Shows what would happen if the server of a data directory became the writer of a timeline: archived WAL of the other server goes aside into quarantine, its own takes the place. Does it with --apply. Nothing is deleted; --quarantine brings back what went aside.',
    )
    .argument('[cluster]', 'cluster of the configuration; may be left out when there is only one')
    .option('--timeline <number>', 'the timeline that was refused')
    .option('--from <dir>', 'data directory of the server that is to go on')
    .option('--quarantine [hash]', 'take what is in quarantine; from the file with this hash on')
    .option('--release <number>', 'give up a number that a restore has reserved and will not use')
    .option('--apply', 'do it; without, only the plan is shown')
    .option('--repository <name>', 'only in this repository (default: all of the cluster)')
    .option('--system-identifier <number>', 'which server, when the cluster has had several')
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runWalAdopt } = await import('./commands/wal-adopt.ts')
        return await runWalAdopt(context, cluster, command.opts())
      })
    })
}
