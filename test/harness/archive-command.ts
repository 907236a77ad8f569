/**
 * The archive functions as programs, for archive_command and restore_command of test
 * servers: `push URL CLUSTER PATH` and `get URL CLUSTER SYSTEM NAME DESTINATION`, with the
 * exit statuses of `tidemark wal push` and of the restore_command that maps them.
 */
import { fileURLToPath } from 'node:url'
import { fetchWalFile } from '../../src/archive/fetch-wal.ts'
import { pushWalFile } from '../../src/archive/push-wal.ts'
import { Failure } from '../../src/base/failure.ts'
import { openStorage } from '../../src/storage/open-storage.ts'

const SCRIPT = fileURLToPath(import.meta.url)

export function archiveCommand(url: string, cluster: string): string {
  return `"${process.execPath}" "${SCRIPT}" push ${url} ${cluster} "%p"`
}

export function restoreCommand(url: string, cluster: string, systemIdentifier: string): string {
  return `"${process.execPath}" "${SCRIPT}" get ${url} ${cluster} ${systemIdentifier} "%f" "%p"`
}

const [, program, action, url = '', cluster = '', ...rest] = process.argv
if (program === SCRIPT) {
  try {
    const storages = [await openStorage({ url })]
    process.exitCode = action === 'push' ? await push(storages) : await get(storages)
  } catch (error) {
    const text =
      error instanceof Failure ? `${error.code} ${error.message}: ${error.because}` : error
    console.error(text)
    process.exitCode = action === 'push' ? 1 : 255
  }
}

async function push(storages: Parameters<typeof pushWalFile>[0]['storages']): Promise<number> {
  await pushWalFile({ storages, cluster, path: rest[0] ?? '' })
  return 0
}

async function get(storages: Parameters<typeof pushWalFile>[0]['storages']): Promise<number> {
  const [systemIdentifier = '', name = '', destination = ''] = rest
  const request = { storages, cluster, systemIdentifier, name, destination }
  return (await fetchWalFile(request)) === 'fetched' ? 0 : 1
}
