/**
 * Makes a restored directory a data directory: everything durable, then pg_control by its
 * name. PostgreSQL starts nothing without pg_control, so a crash before leaves nothing that
 * could be taken for whole; a backup whose control file says "shut down" gets no
 * SyncDataDirectory at start-up, so nothing is left to PostgreSQL.
 */
import { rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { RESTORING_MARKER, UNFINISHED_CONTROL_FILE } from './marker-files.ts'
import { syncFileSystems, syncPath } from './sync-file-systems.ts'

const CONTROL_FILE = 'global/pg_control'

/** `directories`: the data directory and every tablespace location. */
export async function finishRestore(
  dataDirectory: string,
  directories: readonly string[],
): Promise<void> {
  await syncFileSystems(directories)
  const control = join(dataDirectory, CONTROL_FILE)
  await rename(join(dataDirectory, UNFINISHED_CONTROL_FILE), control)
  await syncPath(dirname(control))
  await rm(join(dataDirectory, RESTORING_MARKER), { force: true })
  await syncPath(dataDirectory)
}
