/** What the repository holds of a cluster, by kind, from one listing. */
import { parseBreakKey } from '../../archive/break-mark.ts'
import { EXPIRED_MARK_NAME } from '../../archive/expired-wal.ts'
import { parseGapKey } from '../../archive/gap-record.ts'
import { parseSegmentKey } from '../../archive/list-segments.ts'
import { parseTailName } from '../../archive/tail-keys.ts'
import { parseWalFileName } from '../../archive/wal-file-name.ts'
import { parseEventsKey, parseNamesKey } from '../../events/index-keys.ts'
import {
  clusterPrefix,
  parseBackupKey,
  parseDumpKey,
  parseDumpMarkKey,
  parseDumpPackKey,
  parseMarkKey,
  parsePackKey,
} from '../../repository/keys.ts'
import { verifiedKey } from '../../repository/verified-memory.ts'
import type { Storage } from '../../storage/storage.ts'

export interface Inventory {
  /** Stored sizes of all objects but packs, by key. */
  readonly sizes: ReadonlyMap<string, number>
  /** By pack id. */
  readonly packs: ReadonlyMap<string, number>
  readonly records: readonly string[]
  readonly holds: readonly string[]
  readonly identities: readonly string[]
  /** System identifiers with WAL. */
  readonly systems: ReadonlySet<string>
  /** Keys of what lies beside the segments (histories, quarantine, tails, …), by system. */
  readonly walFiles: ReadonlyMap<string, readonly string[]>
  /** Keys of event indexes, of break marks, and of snapshots of names. */
  readonly derived: readonly string[]
  /** Keys that the format does not know. */
  readonly strangers: readonly string[]
}

export async function takeInventory(storage: Storage, cluster: string): Promise<Inventory> {
  const prefix = clusterPrefix(cluster)
  const sizes = new Map<string, number>()
  const packs = new Map<string, number>()
  const records: string[] = []
  const holds: string[] = []
  const identities: string[] = []
  const systems = new Set<string>()
  const walFiles = new Map<string, string[]>()
  const derived: string[] = []
  const strangers: string[] = []
  for await (const { key, sizeBytes } of storage.list(prefix)) {
    const pack = parsePackKey(key)
    if (pack !== undefined) {
      packs.set(pack, sizeBytes)
      continue
    }
    sizes.set(key, sizeBytes)
    const path = key.slice(prefix.length)
    const [, system] = /^wal\/(\d{1,20})\//.exec(path) ?? []
    if (system !== undefined) {
      systems.add(system)
      if (parseSegmentKey(key) !== undefined) continue
      if (path.endsWith(`/${EXPIRED_MARK_NAME}`)) continue
      if (parseBreakKey(key) !== undefined) derived.push(key)
      else if (isWalFile(path)) addTo(walFiles, system, key)
      else strangers.push(key)
    } else if (parseBackupKey(key) !== undefined) records.push(key)
    else if (/^holds\/[^/]+\.hold$/.test(path)) holds.push(key)
    else if (/^systems\/\d{1,20}\.json$/.test(path)) identities.push(key)
    else if (isDerived(key)) derived.push(key)
    else if (!isKnown(key, path, cluster)) strangers.push(key)
  }
  return { sizes, packs, records, holds, identities, systems, walFiles, derived, strangers }
}

function addTo(files: Map<string, string[]>, system: string, key: string): void {
  const known = files.get(system)
  if (known === undefined) files.set(system, [key])
  else known.push(key)
}

/** Below `wal/<system>/`; segments are told apart before. */
function isWalFile(path: string): boolean {
  const name = path.split('/').slice(2).join('/')
  if (name.startsWith('tails/')) return parseTailName(name.slice(6)) !== undefined
  if (parseGapKey(`/${name}`) !== undefined) return true
  if (/^(writers|reserved)\/[0-9A-F]{8}\.(writer|reserved)$/.test(name)) return true
  const [, folder, file = ''] = /^(?:(labels|partial|quarantine)\/)?([^/]+)$/.exec(name) ?? []
  const bare = file.replace(/-[0-9a-f]{16}(\.damaged)?$/, '')
  const kind = parseWalFileName(bare)?.kind
  if (folder === undefined) return kind === 'history'
  if (folder === 'labels') return kind === 'label'
  return folder === 'partial' ? kind === 'partial' : kind !== undefined
}

function isDerived(key: string): boolean {
  return parseEventsKey(key) !== undefined || parseNamesKey(key) !== undefined
}

/** `….record.damaged`: what --rebuild-catalogue has replaced. */
function isKnown(key: string, path: string, cluster: string): boolean {
  if (key === verifiedKey(cluster) || path.startsWith('condemned/')) return true
  if (parseMarkKey(key) !== undefined || isOfDumps(key, path)) return true
  return /^backups\/[^/]+\.record\.damaged$/.test(path)
}

/** Dumps are proved by src/dump/. A pack of an attempt under way belongs to its hold. */
function isOfDumps(key: string, path: string): boolean {
  const id = parseDumpKey(key) ?? parseDumpPackKey(key) ?? parseDumpMarkKey(key)
  return id !== undefined || /^dumps\/[^/]+\.dump\.damaged$/.test(path)
}
