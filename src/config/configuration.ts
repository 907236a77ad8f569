/**
 * The configuration as the command line uses it: names resolved, secrets not yet read.
 */
import { Failure } from '../base/failure.ts'
import { isS3Url } from '../storage/open-storage.ts'
import type { ConfigurationFile } from './configuration-schema.ts'
import { didYouMean } from './nearest-name.ts'
import type { DumpRetentionConfiguration, RetentionConfiguration } from './retention.ts'

export interface Configuration {
  /** Absolute path of the file. */
  readonly path: string
  readonly repositories: ReadonlyMap<string, RepositoryConfiguration>
  readonly clusters: ReadonlyMap<string, ClusterConfiguration>
}

export interface RepositoryConfiguration {
  readonly name: string
  readonly url: string
  /** Of an s3 repository, as the file says it, references not replaced: resolve-storage.ts. */
  readonly s3?: S3Configuration
  /** `50MB/s` */
  readonly bandwidth?: string
  /** Of an encrypted one, references not replaced: resolve-encryption.ts. */
  readonly encryption?: EncryptionConfiguration
}

/** Exactly one of these. */
export interface EncryptionConfiguration {
  readonly passphrase?: string
  readonly keyFile?: string
  readonly keyCommand?: string
}

export interface S3Configuration {
  readonly region?: string
  readonly endpoint?: string
  readonly pathStyle?: boolean
  readonly storageClass?: string
  readonly caFile?: string
  readonly accessKeyId?: string
  readonly secretAccessKey?: string
  readonly sessionToken?: string
  readonly objectLock?: { readonly mode: 'governance' | 'compliance'; readonly days: number }
}

export interface ClusterConfiguration {
  readonly name: string
  /** As the file says it, references not replaced: see resolve-connection.ts. */
  readonly connection: string
  readonly password: string | undefined
  readonly repositories: readonly RepositoryConfiguration[]
  /** Names of those without which nothing counts as stored. */
  readonly required: readonly string[]
  readonly walSource: 'archive_command' | 'stream'
  /** Whether `wal push` has event indexes written. */
  readonly walIndex: boolean
  readonly walStream: WalStreamConfiguration
  /** `90d`, `off` */
  readonly maxPackAge?: string
  readonly retention?: RetentionConfiguration
  /** By the name of a repository. */
  readonly retentionIn?: ReadonlyMap<string, RetentionConfiguration>
  readonly dumps?: DumpRetentionConfiguration
}

/** Of the receiver, whatever the source is: it can be tried beside an archive_command. */
export interface WalStreamConfiguration {
  readonly slot: string
  /** References not replaced: see resolve-connection.ts. */
  readonly standbys: readonly {
    readonly connection: string
    readonly password: string | undefined
  }[]
  readonly flushEveryMs?: number
  readonly onPressure?: 'keep' | 'invalidateSlot'
}

export function buildConfiguration(path: string, file: ConfigurationFile): Configuration {
  const repositories = new Map(
    Object.entries(file.repositories).map(([name, one]) => [name, buildRepository(name, one)]),
  )
  const clusters = new Map<string, ClusterConfiguration>()
  for (const [name, cluster] of Object.entries(file.clusters)) {
    const names = cluster.repositories ?? [...repositories.keys()]
    clusters.set(name, {
      name,
      connection: cluster.connection,
      password: cluster.password,
      repositories: names.map((repository) => repositories.get(repository)).filter(isKnown),
      required: cluster.required ?? names.slice(0, 1),
      walSource: cluster.wal?.source ?? 'archive_command',
      walIndex: cluster.wal?.index ?? true,
      walStream: buildWalStream(name, cluster.wal),
      ...(cluster.maxPackAge === undefined ? {} : { maxPackAge: cluster.maxPackAge }),
      ...(cluster.retention === undefined ? {} : { retention: cluster.retention }),
      retentionIn: new Map(Object.entries(cluster.retentionIn ?? {})),
      ...(cluster.dumps === undefined ? {} : { dumps: cluster.dumps }),
    })
  }
  return { path, repositories, clusters }
}

function buildWalStream(
  cluster: string,
  wal: ConfigurationFile['clusters'][string]['wal'],
): WalStreamConfiguration {
  const { slot, standbys = [], flushEvery, onPressure } = wal ?? {}
  return {
    slot: slot ?? `tidemark_${cluster.replaceAll('-', '_')}`.slice(0, 63),
    standbys: standbys.map(({ connection, password }) => ({ connection, password })),
    ...(flushEvery === undefined ? {} : { flushEveryMs: parseShortTime(flushEvery) }),
    ...(onPressure === undefined ? {} : { onPressure }),
  }
}

/** `10s` or `500ms`; the schema has refused everything else. */
function parseShortTime(text: string): number {
  const count = Number.parseInt(text, 10)
  return text.endsWith('ms') ? count : 1000 * count
}

function buildRepository(
  name: string,
  { url, bandwidth, encryption, ...s3 }: ConfigurationFile['repositories'][string],
): RepositoryConfiguration {
  const known = Object.entries(s3).filter(([, value]) => value !== undefined)
  return {
    name,
    url,
    ...(known.length === 0 ? {} : { s3: Object.fromEntries(known) }),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(encryption === undefined ? {} : { encryption: withoutAbsent(encryption) }),
  }
}

function withoutAbsent(one: Record<string, string | undefined>): EncryptionConfiguration {
  return Object.fromEntries(Object.entries(one).filter(([, value]) => value !== undefined))
}

/** The parser has refused unknown names already, with their place in the file. */
function isKnown<T>(value: T | undefined): value is T {
  return value !== undefined
}

/** What choosing by name needs; the lean path of `wal push` has no more than this. */
interface NamedClusters<T> {
  readonly path: string
  readonly clusters: ReadonlyMap<string, T>
}

/** The cluster of that name, or the only one when no name is given; else TM1004. */
export function chooseCluster<T>(configuration: NamedClusters<T>, name: string | undefined): T {
  const { clusters, path } = configuration
  const names = [...clusters.keys()]
  const [only] = clusters.values()
  if (name === undefined && only !== undefined && clusters.size === 1) return only
  if (name === undefined) throw noClusterNamed(path, names)
  const found = clusters.get(name)
  if (found !== undefined) return found
  throw new Failure('TM1004', {
    message: `no cluster '${name}'${didYouMean(name, names)}`,
    because: `${path} has ${names.length === 0 ? 'no clusters' : `the clusters ${names.join(', ')}`}`,
    fix: 'name one of them, or add the cluster with: tidemark init --name NAME',
    details: { cluster: name, clusters: names },
  })
}

function noClusterNamed(path: string, names: readonly string[]): Failure {
  if (names.length === 0) {
    return new Failure('TM1004', {
      message: `${path} has no clusters`,
      because: 'nothing is listed under `clusters`',
      fix: 'add one: tidemark init',
    })
  }
  return new Failure('TM1004', {
    message: 'which cluster is meant?',
    because: `${path} has ${names.length} of them: ${names.join(', ')}`,
    fix: 'name one of them on the command line',
    details: { clusters: names },
  })
}

/** In the order in which they are read from: directories before object stores. */
export function nearestFirst(
  repositories: readonly RepositoryConfiguration[],
): readonly RepositoryConfiguration[] {
  const isFar = ({ url }: RepositoryConfiguration): number => Number(isS3Url(url))
  return repositories.toSorted((one, other) => isFar(one) - isFar(other))
}

/** The repository of that name among those of the cluster, or the first. */
export function chooseRepository(
  cluster: Pick<ClusterConfiguration, 'name' | 'repositories'>,
  name: string | undefined,
): RepositoryConfiguration {
  const names = cluster.repositories.map((repository) => repository.name)
  const found =
    name === undefined
      ? cluster.repositories[0]
      : cluster.repositories.find((repository) => repository.name === name)
  if (found !== undefined) return found
  throw new Failure('TM1001', {
    message: `no repository '${name}' of cluster ${cluster.name}${didYouMean(name ?? '', names)}`,
    because: `the configuration gives it ${names.join(', ')}`,
    fix: 'name one of them',
  })
}
