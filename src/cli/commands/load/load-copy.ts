/** `load` of a dump of rows by COPY. */
import { monotonicMs } from '../../../base/clock.ts'
import { loadCopy } from '../../../dump/load-copy.ts'
import type { DumpRecord } from '../../../repository/dump-record.ts'
import type { Storage } from '../../../storage/storage.ts'
import type { CommandContext } from '../../command-context.ts'
import { formatCount, formatDuration } from '../../format-units.ts'
import type { LoadCommandOptions } from './check-options.ts'

export async function runCopyLoad(
  { terminal, json, progress, signal }: CommandContext,
  dump: { readonly storage: Storage; readonly record: DumpRecord },
  target: { readonly connection: string; readonly into: string },
  options: LoadCommandOptions,
): Promise<number> {
  const startedMs = monotonicMs()
  const loaded = await loadCopy(
    {
      ...dump,
      ...target,
      table: options.table?.[0],
      choices: {
        append: options.append === true,
        truncate: options.truncate === true,
        force: options.force === true,
      },
      role: options.role,
      analyze: options.analyze !== false,
    },
    progress,
    signal,
  )
  progress.end()
  const milliseconds = monotonicMs() - startedMs
  const { id, cluster } = dump.record
  const { address: server, ...rest } = loaded
  if (json) {
    const seconds = Math.round(milliseconds / 100) / 10
    terminal.printJson({ dump: id, cluster, into: target.into, server, ...rest, seconds })
    return 0
  }
  const where = terminal.colours.bold(loaded.table)
  terminal.print(
    `loaded ${formatCount(loaded.rows, 'row')} of dump ${id} into ${where} of ${target.into} at ` +
      `${server} in ${formatDuration(milliseconds)}`,
  )
  if (loaded.truncated) terminal.print('  its rows of before were taken out')
  for (const note of loaded.notes) terminal.print(terminal.colours.yellow(`  note: ${note}`))
  return 0
}
