/**
 * The little that `wal push` and `wal get` need of the configuration, without loading the
 * YAML parser and the schema (45 ms) for every segment.
 *
 * Invariant: what is given is what parseConfiguration() made of exactly these bytes. It is
 * remembered under the SHA-256 of the file's text, so a changed file is parsed anew; it
 * holds no connection and no secret, and a memory that cannot be used is no failure.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { randomHex } from '../base/random.ts'
import type { RepositoryConfiguration } from './configuration.ts'
import type { Environment } from './environment.ts'
import { readConfigurationText } from './find-configuration.ts'
import { findPrivateDirectory } from './private-directory.ts'

/** Raised when the schema or the shape below changes its meaning. */
const MEMORY_FORMAT = 5

export interface WalConfiguration {
  readonly path: string
  readonly clusters: ReadonlyMap<string, WalCluster>
}

export interface WalCluster {
  readonly name: string
  readonly repositories: readonly RepositoryConfiguration[]
  /** Names of those that must have taken a file. */
  readonly required: readonly string[]
  /** Event indexes are written of what was pushed. */
  readonly walIndex: boolean
}

export async function loadWalConfiguration(
  option: string | undefined,
  env: Environment,
): Promise<WalConfiguration> {
  const { path, text } = readConfigurationText(option, env)
  const memory = memoryPath(text)
  const known = memory === undefined ? undefined : recall(memory)
  if (known !== undefined) return { path, clusters: byName(known) }
  const { parseConfiguration } = await import('./parse-configuration.ts')
  const clusters = [...parseConfiguration(path, text).clusters.values()].map(
    ({ name, repositories, required, walIndex }) => ({ name, repositories, required, walIndex }),
  )
  const isSecret = clusters.some(({ repositories }) => repositories.some(holdsSecret))
  if (memory !== undefined && !isSecret) remember(memory, clusters)
  return { path, clusters: byName(clusters) }
}

/** A key that stands in the file itself and not behind a reference. */
function holdsSecret({ s3, encryption }: RepositoryConfiguration): boolean {
  return [s3?.secretAccessKey, s3?.sessionToken, encryption?.passphrase].some(
    (text) => text !== undefined && !text.startsWith('file:') && !/^\$\{[^}]*\}$/.test(text),
  )
}

function byName(clusters: readonly WalCluster[]): Map<string, WalCluster> {
  return new Map(clusters.map((cluster) => [cluster.name, cluster]))
}

function memoryPath(text: string): string | undefined {
  const directory = findPrivateDirectory()
  if (directory === undefined) return undefined
  const hash = createHash('sha256').update(`${MEMORY_FORMAT}\n${text}`).digest('hex')
  return join(directory, `configuration-${hash}.json`)
}

/** The file appears whole, by rename, in a directory that only this user writes to. */
function recall(path: string): readonly WalCluster[] | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as readonly WalCluster[]
  } catch {
    return undefined
  }
}

function remember(path: string, clusters: readonly WalCluster[]): void {
  try {
    const unfinished = `${path}.${randomHex(6)}`
    writeFileSync(unfinished, JSON.stringify(clusters), { mode: 0o600, flag: 'wx' })
    renameSync(unfinished, path)
    forgetOthers(path)
  } catch {
    // Only time is lost.
  }
}

/** Each version of a file has a memory of its own; only a few are of use. */
const MOST_KEPT = 32

function forgetOthers(path: string): void {
  const directory = dirname(path)
  const names = readdirSync(directory).filter((name) => name.startsWith('configuration-'))
  if (names.length <= MOST_KEPT) return
  for (const name of names) {
    if (name !== basename(path)) rmSync(join(directory, name), { force: true })
  }
}
