/**
 * Adds a cluster and its repository to tidemark.yaml, for `init`.
 *
 * Invariants: what is in the file stays, comments included; a file appears or changes whole
 * (new file, fsync, rename, fsync of its directory); the same facts again change nothing.
 */
import { chmodSync, chownSync, closeSync, existsSync, fsyncSync, openSync } from 'node:fs'
import { readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isMap, parseDocument } from 'yaml'
import { describeSystemError, Failure } from '../base/failure.ts'
import { randomHex } from '../base/random.ts'
import type {
  EncryptionConfiguration,
  RepositoryConfiguration,
  S3Configuration,
} from './configuration.ts'
import { parseConfiguration } from './parse-configuration.ts'
import { withoutPassword } from './secret.ts'

export interface NewCluster {
  readonly cluster: string
  readonly connection: string
  readonly repositoryUrl: string
  /** For a repository that the file does not have yet. */
  readonly s3?: S3Configuration
  readonly encryption?: EncryptionConfiguration
}

export interface ConfigurationChange {
  readonly text: string
  readonly repository: string
  readonly configuration: RepositoryConfiguration
  readonly changed: boolean
}

const HEAD = `# Tidemark's configuration. Every key: docs/manual/configuration.md
`

/** Pure. TM1006 when the file says something else about the cluster. */
export function planConfiguration(
  path: string,
  existing: string | undefined,
  wanted: NewCluster,
): ConfigurationChange {
  const text = existing ?? `${HEAD}repositories: {}\nclusters: {}\n`
  const present = parseConfiguration(path, text)
  const known = [...present.repositories.values()].find(({ url }) => url === wanted.repositoryUrl)
  const repository = known?.name ?? freeName(present.repositories)
  if (known !== undefined && !agrees(known, wanted)) throw saysElseOfStore(path, known)
  const cluster = present.clusters.get(wanted.cluster)
  if (cluster !== undefined) {
    const hasRepository = cluster.repositories.some(({ url }) => url === wanted.repositoryUrl)
    if (cluster.connection !== wanted.connection || !hasRepository) {
      throw saysElse(path, wanted, cluster.connection, cluster.repositories)
    }
    const configuration = known ?? { name: repository, url: wanted.repositoryUrl }
    return { text, repository, configuration, changed: false }
  }
  const document = parseDocument(text)
  document.setIn(['repositories', repository, 'url'], wanted.repositoryUrl)
  for (const [key, value] of Object.entries(wanted.s3 ?? {})) {
    document.setIn(['repositories', repository, key], value)
  }
  if (known === undefined && wanted.encryption !== undefined) {
    document.setIn(['repositories', repository, 'encryption'], wanted.encryption)
  }
  document.setIn(
    ['clusters', wanted.cluster],
    document.createNode({ connection: wanted.connection, repositories: [repository] }),
  )
  for (const key of ['repositories', 'clusters']) {
    const map: unknown = document.get(key, true)
    if (isMap(map)) map.flow = false
  }
  const changed = document.toString({ lineWidth: 0 })
  const configuration = parseConfiguration(path, changed).repositories.get(repository)
  if (configuration === undefined) throw new Error(`${repository} is not in what was written`)
  return { text: changed, repository, configuration, changed: true }
}

/** Nothing said agrees with everything: the file knows how its store is reached. */
function agrees({ s3, encryption }: RepositoryConfiguration, wanted: NewCluster): boolean {
  const known: Readonly<Record<string, unknown>> = { ...s3, ...encryption }
  const said = Object.entries({ ...wanted.s3, ...wanted.encryption })
  return said.every(([key, value]) => known[key] === value)
}

function saysElseOfStore(path: string, { name, url }: RepositoryConfiguration): Failure {
  return new Failure('TM1006', {
    message: `${path} says something else about how ${url} is opened`,
    because: `it is the repository '${name}' there`,
    fix: `edit the file, and leave the options of the store and of its key out of init`,
    details: { path, repository: name },
  })
}

function freeName(taken: ReadonlyMap<string, unknown>): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? 'local' : `local${number}`
    if (!taken.has(name)) return name
  }
}

function saysElse(
  path: string,
  wanted: NewCluster,
  connection: string,
  repositories: readonly { url: string }[],
): Failure {
  const urls = repositories.map(({ url }) => url).join(', ')
  return new Failure('TM1006', {
    message: `${path} has a cluster '${wanted.cluster}' already, and says something else about it`,
    because: `there it is ${withoutPassword(connection)} in ${urls}`,
    fix: 'edit the file, or choose another name: tidemark init --name NAME',
    details: { path, cluster: wanted.cluster },
  })
}

export function readIfThere(path: string): string | undefined {
  if (!existsSync(path)) return undefined
  return readFileSync(path, 'utf8')
}

/**
 * Mode 0600 for a new file, which then belongs to `owner` where we may give it away; an
 * existing one keeps mode and owner.
 */
export function writeConfiguration(
  path: string,
  text: string,
  owner: { readonly uid: number; readonly gid: number } | undefined,
): void {
  const unfinished = join(dirname(path), `.${basename(path)}.${randomHex(6)}`)
  try {
    const before = existsSync(path) ? statSync(path) : undefined
    writeDurably(unfinished, text)
    if (before !== undefined) chmodSync(unfinished, before.mode & 0o7777)
    const wanted = before ?? owner
    if (wanted !== undefined && process.geteuid?.() === 0) {
      chownSync(unfinished, wanted.uid, wanted.gid)
    }
    renameSync(unfinished, path)
    syncDirectory(dirname(path))
  } catch (cause) {
    rmSync(unfinished, { force: true })
    throw new Failure('TM1006', {
      message: `the configuration ${path} cannot be written`,
      because: describeSystemError(cause),
      fix: 'name another place: tidemark --config FILE init …',
      details: { path },
      cause,
    })
  }
}

function writeDurably(path: string, text: string): void {
  const fd = openSync(path, 'wx', 0o600)
  try {
    writeSync(fd, text)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
