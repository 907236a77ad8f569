/** `load --output`: the files of a dump as the tools wrote them. */
import { Failure } from '../../../base/failure.ts'
import { writeOut } from '../../../dump/write-out.ts'
import type { DumpRecord } from '../../../repository/dump-record.ts'
import type { Storage } from '../../../storage/storage.ts'
import type { CommandContext } from '../../command-context.ts'
import { formatBytes } from '../../format-units.ts'
import type { LoadCommandOptions } from './check-options.ts'

export async function runOutput(
  { progress, signal, terminal, json }: CommandContext,
  { storage, record }: { storage: Storage; record: DumpRecord },
  options: LoadCommandOptions,
): Promise<number> {
  const files = chooseFiles(record, options)
  const bytes = files.reduce((sum, file) => sum + (record.files[file]?.bytes ?? 0), 0)
  progress.phase('writing the dump', bytes)
  const written = await writeOut({
    storage,
    record,
    files,
    output: options.output ?? '',
    onBytes: (count) => progress.advance(count),
    signal,
  })
  progress.end()
  if (json) {
    terminal.printJson({
      dump: record.id,
      cluster: record.cluster,
      format: record.format,
      files: written,
    })
    return 0
  }
  for (const file of written) {
    terminal.print(`${file.path}  ${describeFile(record, file.name)}, ${formatBytes(file.bytes)}`)
  }
  return 0
}

/** All, or those of --database; with --globals those too. */
function chooseFiles(record: DumpRecord, { database, globals }: LoadCommandOptions): number[] {
  const everything = [...record.files.keys()]
  if (database === undefined) return everything
  const found = record.databases.find(({ name }) => name === database)
  if (found === undefined) {
    throw new Failure('TM2031', {
      message: `dump ${record.id} has no database ${database}`,
      because: `it has ${record.databases.map(({ name }) => name).join(', ') || 'none'}`,
      fix: 'name one of these with --database',
    })
  }
  const first = globals === true && record.globals !== undefined ? [record.globals] : []
  return [...first, ...found.files]
}

function describeFile(record: DumpRecord, name: string): string {
  const number = record.files.findIndex((file) => file.name === name)
  if (number === record.globals) return 'roles and tablespaces'
  const owner = record.databases.find(({ files }) => files.includes(number))
  return owner === undefined ? record.format : `${owner.name}, ${record.format}`
}
