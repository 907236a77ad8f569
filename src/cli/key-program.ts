/** The table of `tidemark key …` (program.ts has the others). */
import type { Command } from 'commander'
import type { RunAction } from './program.ts'

export const PASSPHRASE = 'a passphrase, as file:/path or ${NAME}'
export const KEY_FILE = 'a file with a key of 32 bytes or more'
export const KEY_COMMAND = 'a command that prints the key, run by /bin/sh'
const REPOSITORY = 'encrypted repository of the configuration (default: the only one)'

export function addKeyCommands(program: Command, run: RunAction): void {
  const key = program
    .command('key')
    .summary('keys of an encrypted repository: list, add, remove, rotate')
    .description(
      'Who may open an encrypted repository (slots), and the data keys that its objects are sealed with (generations).',
    )
  addSlotCommands(key, run)
  key
    .command('rotate')
    .summary('seal everything that is written from now on with a new data key')
    .description(
      'Makes a new data key, wrapped for every slot that is there: all new data and WAL are sealed with it, by running processes after a minute at most. No passphrase or key file changes, and no data is rewritten unless --rewrite is given.',
    )
    .option(
      '--rewrite',
      'seal anew what older keys have sealed; goes on where it was interrupted, without another key',
    )
    .option('--repository <name>', REPOSITORY)
    .action(async (_options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runKeyRotate } = await import('./commands/key.ts')
        return await runKeyRotate(context, command.opts())
      })
    })
}

function addSlotCommands(key: Command, run: RunAction): void {
  key
    .command('list')
    .summary('list slots, data keys, and how much each protects')
    .description(
      'Lists the slots that open the repository, and for each data key how many objects and bytes it protects. With more than one data key, the first bytes of every object are read for that.',
    )
    .option('--repository <name>', REPOSITORY)
    .action(async (_options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runKeyList } = await import('./commands/key.ts')
        return await runKeyList(context, command.opts())
      })
    })
  key
    .command('add')
    .summary('let another passphrase, key file or key command in')
    .description(
      'Adds a slot: another secret that opens the repository. The configuration names one that opens it already. No data is rewritten.',
    )
    .option('--passphrase <reference>', PASSPHRASE)
    .option('--key-file <file>', KEY_FILE)
    .option('--key-command <command>', KEY_COMMAND)
    .option('--label <text>', 'what it is, for people; it can be read without a key', '')
    .option('--repository <name>', REPOSITORY)
    .action(async (_options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runKeyAdd } = await import('./commands/key.ts')
        return await runKeyAdd(context, command.opts())
      })
    })
  key
    .command('remove')
    .summary('let a slot in no more')
    .description(
      'Removes a slot. What the configuration names must open another one, so that the last one stays. Whoever has kept a copy of the slot and knows its secret can still read what was sealed until now: key rotate --rewrite ends that for what is in the repository.',
    )
    .argument('<slot>', 'its id, as key list shows it')
    .option('--repository <name>', REPOSITORY)
    .action(async (slot: string, _options: unknown, command: Command) => {
      await run(command.optsWithGlobals(), async (context) => {
        const { runKeyRemove } = await import('./commands/key.ts')
        return await runKeyRemove(context, slot, command.opts())
      })
    })
}
