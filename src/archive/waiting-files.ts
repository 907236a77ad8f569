/**
 * The files that wait in a server's pg_wal to be archived.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseWalFileName, type WalFileName } from './wal-file-name.ts'

const READY = '.ready'

/** In the order in which PostgreSQL asks for them; empty where there is no archive_status. */
export async function listWaitingFiles(walDirectory: string): Promise<WalFileName[]> {
  const names = await readdir(join(walDirectory, 'archive_status')).catch(() => [])
  return orderWaiting(
    names.filter((name) => name.endsWith(READY)).map((name) => name.slice(0, -READY.length)),
  )
}

/** Histories first, then by name (ready_file_comparator in pgarch.c). Pure. */
export function orderWaiting(names: readonly string[]): WalFileName[] {
  return names
    .map(parseWalFileName)
    .filter((file) => file !== undefined)
    .sort(compare)
}

function compare(one: WalFileName, other: WalFileName): number {
  const rank = (file: WalFileName): number => (file.kind === 'history' ? 0 : 1)
  return rank(one) - rank(other) || (one.name < other.name ? -1 : 1)
}
