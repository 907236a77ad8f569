/** The commands of retention: expire, pin, unpin, label. */
import type { Command } from 'commander'
import type { RunAction } from './program.ts'

const CLUSTER = 'cluster of the configuration; may be left out when there is only one'
const EVERYWHERE = 'only in this repository (default: all of the cluster)'
const ID = 'id of a backup or a dump, or latest: the newest backup'

export function addRetentionCommands(program: Command, run: RunAction): void {
  program
    .command('expire')
    .summary('remove what retention does not keep')
    .description(
      'Shows which backups the retention of tidemark.yaml keeps, and why, and what removal of the rest frees. Removes it with --apply: backups, then WAL, then packs that no backup needs. The same of dumps, by `dumps` of tidemark.yaml. Backups, dumps and restores may run meanwhile: what they need stays.',
    )
    .argument('[cluster]', CLUSTER)
    .option('--apply', 'remove it; without, only the plan is shown')
    .option('--repository <name>', EVERYWHERE)
    .option(
      '--release <id>',
      'give up a hold or a condemned set whose run you know to be dead, or a record that is lost',
    )
    .action(async (cluster: string | undefined, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runExpire } = await import('./commands/expire.ts')
        return await runExpire(context, cluster, command.opts())
      })
    })
  addPins(program, run)
  program
    .command('label')
    .summary('give labels to a backup or a dump')
    .description(
      'Notes something down with a backup or a dump that is there. `list` and `show` show it.',
    )
    .argument('<id>', ID)
    .argument('[key=value...]', 'labels; one of the same key is replaced')
    .option('--remove <key>', 'take a label away (repeatable)', collect, [])
    .option('--cluster <name>', CLUSTER)
    .option('--repository <name>', EVERYWHERE)
    .action(async (backup: string, labels: string[], _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runLabel } = await import('./commands/mark.ts')
        return await runLabel(context, backup, labels, command.opts())
      })
    })
}

function addPins(program: Command, run: RunAction): void {
  program
    .command('pin')
    .summary('keep a backup or a dump until it is unpinned')
    .description('Keeps a backup or a dump, whatever retention says, until it is unpinned.')
    .argument('<id>', ID)
    .option('--cluster <name>', CLUSTER)
    .option('--repository <name>', EVERYWHERE)
    .action(async (backup: string, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runPin } = await import('./commands/mark.ts')
        return await runPin(context, backup, command.opts())
      })
    })
  program
    .command('unpin')
    .summary('leave what is pinned to retention again')
    .description('Takes the pin of a backup or a dump away, also one that `backup --pin` gave.')
    .argument('<id>', ID)
    .option('--cluster <name>', CLUSTER)
    .option('--repository <name>', EVERYWHERE)
    .action(async (backup: string, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runUnpin } = await import('./commands/mark.ts')
        return await runUnpin(context, backup, command.opts())
      })
    })
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value]
}
