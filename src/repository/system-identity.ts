/**
 * Which servers may write under a cluster's name: `systems/<sysid>.json`
 * (docs/design/repository-format.md, section 2). Written once by `init` or by the first
 * backup, never by `wal push`.
 */
import { Failure } from '../base/failure.ts'
import { readProved } from '../storage/fallback-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { clusterPrefix } from './keys.ts'

export interface SystemIdentity {
  /** Decimal. */
  readonly systemIdentifier: string
  readonly major: number
  readonly walSegmentSizeBytes: number
  /** ISO 8601 UTC. */
  readonly createdAt: string
}

function systemPrefix(cluster: string): string {
  return `${clusterPrefix(cluster)}systems/`
}

export function systemKey(cluster: string, systemIdentifier: string): string {
  return `${systemPrefix(cluster)}${systemIdentifier}.json`
}

/** The identity, or undefined when the repository proves that it has none. */
export async function findSystemIdentity(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
): Promise<SystemIdentity | undefined> {
  const key = systemKey(cluster, systemIdentifier)
  return await readProved(storage, key, (bytes) => {
    return decodeIdentity(storage, key, systemIdentifier, bytes)
  })
}

/** As findSystemIdentity, but its absence is a failure. */
export async function readSystemIdentity(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
): Promise<SystemIdentity> {
  const identity = await findSystemIdentity(storage, cluster, systemIdentifier)
  if (identity !== undefined) return identity
  throw unknownSystem(storage, cluster, systemIdentifier)
}

/** All identities of a cluster, in key order. */
export async function listSystemIdentities(
  storage: Storage,
  cluster: string,
): Promise<SystemIdentity[]> {
  const identities: SystemIdentity[] = []
  for await (const object of storage.list(systemPrefix(cluster))) {
    const id = /\/systems\/(\d+)\.json$/.exec(object.key)?.[1]
    if (id === undefined) continue
    const identity = await findSystemIdentity(storage, cluster, id)
    if (identity !== undefined) identities.push(identity)
  }
  return identities
}

/**
 * Introduces a server. The first one to do so wins; who comes later must agree with what
 * is there. TM1407 when the repository knows this server with another segment size or
 * major version.
 */
export async function ensureSystemIdentity(
  storage: Storage,
  cluster: string,
  identity: SystemIdentity,
): Promise<SystemIdentity> {
  const key = systemKey(cluster, identity.systemIdentifier)
  const existing = await findSystemIdentity(storage, cluster, identity.systemIdentifier)
  if (existing === undefined) {
    try {
      const bytes = Buffer.from(`${JSON.stringify(identity)}\n`)
      await storage.write(key, bytes, { createOnly: true })
      return identity
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'TM1502') throw error
    }
  }
  const winner = await readSystemIdentity(storage, cluster, identity.systemIdentifier)
  requireSameServer(storage, winner, identity)
  return winner
}

function requireSameServer(storage: Storage, stored: SystemIdentity, now: SystemIdentity): void {
  const sameSize = stored.walSegmentSizeBytes === now.walSegmentSizeBytes
  if (sameSize && stored.major === now.major) return
  throw new Failure('TM1407', {
    message: `the server ${now.systemIdentifier} is not the one that ${storage.url} knows`,
    because:
      `it is PostgreSQL ${now.major} with WAL segments of ${now.walSegmentSizeBytes} bytes, ` +
      `the repository knows PostgreSQL ${stored.major} with ${stored.walSegmentSizeBytes}`,
    fix: 'back it up under another cluster name: a changed segment size begins a new WAL archive',
  })
}

export function unknownSystem(
  storage: Storage,
  cluster: string,
  systemIdentifier: string,
): Failure {
  return new Failure('TM1407', {
    message: `the repository ${storage.url} does not know server ${systemIdentifier} as ${cluster}`,
    because: `the object ${systemKey(cluster, systemIdentifier)} is not there`,
    fix:
      'check the URL and that its file system is mounted; ' +
      'introduce a new server with: tidemark init',
    details: { url: storage.url, cluster, systemIdentifier },
  })
}

function decodeIdentity(
  storage: Storage,
  key: string,
  systemIdentifier: string,
  bytes: Uint8Array,
): SystemIdentity {
  const identity = parseSystemIdentity(bytes)
  if (identity?.systemIdentifier === systemIdentifier) return identity
  throw new Failure('TM1601', {
    message: `the object ${key} of ${storage.url} is damaged`,
    because: 'it is not the JSON of a server identity of that name',
    fix: 'remove it and introduce the server again with: tidemark init',
    details: { key },
  })
}

/** Pure; undefined for anything that is not an identity. */
function parseSystemIdentity(bytes: Uint8Array): SystemIdentity | undefined {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { systemIdentifier, major, walSegmentSizeBytes, createdAt } = value as Record<
    string,
    unknown
  >
  if (typeof systemIdentifier !== 'string' || !/^\d{1,20}$/.test(systemIdentifier)) {
    return undefined
  }
  if (typeof major !== 'number' || typeof walSegmentSizeBytes !== 'number') return undefined
  return { systemIdentifier, major, walSegmentSizeBytes, createdAt: String(createdAt ?? '') }
}
