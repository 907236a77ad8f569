/** `load --import`: files of the plain tools. */
import { stat } from 'node:fs/promises'
import { Failure } from '../../../base/failure.ts'
import { chooseCluster } from '../../../config/configuration.ts'
import { openImportFile, openImportStream } from '../../../dump/import-bytes.ts'
import { openDirectorySource } from '../../../dump/import-directory.ts'
import {
  openArchiveSource,
  openScriptSource,
  recogniseImport,
} from '../../../dump/import-source.ts'
import type { LoadSource } from '../../../dump/load-source.ts'
import { type CommandContext, connectionUrl } from '../../command-context.ts'
import { checkFormat, type LoadCommandOptions } from './check-options.ts'
import { loadInto, readPlace } from './load-into.ts'

/** `clusterName` is needed only where --into is no URL. */
export async function runImport(
  context: CommandContext,
  clusterName: string | undefined,
  options: LoadCommandOptions,
): Promise<number> {
  checkImport(options)
  const place = readPlace(context, options.into ?? '', () => {
    return connectionUrl(context, chooseCluster(context.configuration(), clusterName))
  })
  const source = await openSource(context, options.import ?? '')
  checkFormat(source.format, options)
  return await loadInto(context, { source, place, globals: undefined }, options)
}

async function openSource(context: CommandContext, path: string): Promise<LoadSource> {
  const { progress, signal } = context
  const status = path === '-' ? undefined : await stat(path).catch(() => undefined)
  if (status?.isDirectory() === true) return await openDirectorySource(path, progress, signal)
  const file = path === '-' ? openImportStream(process.stdin) : await openImportFile(path)
  const opened = await recogniseImport(file)
  if (opened.kind === 'plain') return openScriptSource(file, opened)
  if (opened.kind !== 'databases') return await openArchiveSource(file, opened)
  await opened.bytes.return(undefined)
  throw new Failure('TM2110', {
    message: `${file.label} makes databases and connects to them`,
    because: 'a load goes into the one database that --into names',
    fix: 'run it with psql -v ON_ERROR_STOP=1 -d postgres -f FILE, or take dumps of single databases',
  })
}

/** TM2100 */
function checkImport(options: LoadCommandOptions): void {
  const given: readonly (readonly [string, boolean])[] = [
    ['--output', options.output !== undefined],
    ['--database', options.database !== undefined],
    ['--globals', options.globals === true],
    ['--repository', options.repository !== undefined],
  ]
  const [option] = given.find(([, isGiven]) => isGiven) ?? []
  if (option === undefined) return
  throw new Failure('TM2100', {
    message: `${option} has no meaning with --import`,
    because: 'a file is loaded as it is',
    fix: 'leave it out',
  })
}
