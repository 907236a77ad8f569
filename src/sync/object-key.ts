/** What a key of a cluster's objects names, as far as it can be in two repositories. Pure. */
import { parseSegmentKey } from '../archive/list-segments.ts'
import { parseWalFileName, type WalFileName } from '../archive/wal-file-name.ts'
import {
  clusterPrefix,
  parseBackupKey,
  parseDumpKey,
  parseDumpPackKey,
  parsePackKey,
} from '../repository/keys.ts'

export type NamedObject =
  | { readonly kind: 'pack'; readonly packId: string }
  | { readonly kind: 'record'; readonly backupId: string }
  | { readonly kind: 'dump-pack'; readonly packId: string }
  | { readonly kind: 'dump'; readonly dumpId: string }
  | { readonly kind: 'identity'; readonly systemIdentifier: string }
  | NamedWal

export interface NamedWal {
  readonly kind: 'wal'
  readonly key: string
  readonly systemIdentifier: string
  readonly file: WalFileName
  /** Undefined for segments and histories, which lie under their names. */
  readonly folder: 'labels' | 'partial' | 'quarantine' | undefined
  /** Of partials and quarantine: what they are named after. */
  readonly hash16: string | undefined
}

/** Undefined for what is of one repository only, such as holds, and for keys of no format. */
export function parseObjectKey(cluster: string, key: string): NamedObject | undefined {
  const prefix = clusterPrefix(cluster)
  if (!key.startsWith(prefix)) return undefined
  const packId = parsePackKey(key)
  if (packId !== undefined) return { kind: 'pack', packId }
  const backupId = parseBackupKey(key)
  if (backupId !== undefined) return { kind: 'record', backupId }
  const dumpPackId = parseDumpPackKey(key)
  if (dumpPackId !== undefined) return { kind: 'dump-pack', packId: dumpPackId }
  const dumpId = parseDumpKey(key)
  if (dumpId !== undefined) return { kind: 'dump', dumpId }
  const path = key.slice(prefix.length)
  const systemIdentifier = /^systems\/(\d{1,20})\.json$/.exec(path)?.[1]
  if (systemIdentifier !== undefined) return { kind: 'identity', systemIdentifier }
  return parseWalKey(key, path)
}

function parseWalKey(key: string, path: string): NamedWal | undefined {
  const [, systemIdentifier, rest = ''] = /^wal\/(\d{1,20})\/(.+)$/.exec(path) ?? []
  if (systemIdentifier === undefined) return undefined
  const base = { kind: 'wal', key, systemIdentifier } as const
  const segment = parseSegmentKey(key)
  if (segment !== undefined) {
    const file = parseWalFileName(segment)
    return file === undefined ? undefined : { ...base, file, folder: undefined, hash16: undefined }
  }
  const [, folder, named = '', hash16] =
    /^(?:(labels|partial|quarantine)\/)?([^/]+?)(?:-([0-9a-f]{16}))?$/.exec(rest) ?? []
  const file = parseWalFileName(named)
  if (file === undefined) return undefined
  if (folder === undefined) {
    const isHistory = file.kind === 'history' && hash16 === undefined
    return isHistory ? { ...base, file, folder, hash16 } : undefined
  }
  if (folder === 'labels') {
    const isLabel = file.kind === 'label' && hash16 === undefined
    return isLabel ? { ...base, file, folder, hash16 } : undefined
  }
  if (hash16 === undefined || (folder === 'partial' && file.kind !== 'partial')) return undefined
  return { ...base, file, folder: folder === 'partial' ? 'partial' : 'quarantine', hash16 }
}
