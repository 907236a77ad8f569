/**
 * From a repository of the configuration to what opens it, references replaced. The result
 * may hold secrets and is not to be printed. Nothing slow is imported here: `wal push` does
 * this for every segment.
 */
import { Failure } from '../base/failure.ts'
import { makeBandwidthLimit } from '../storage/limited-storage.ts'
import type { StorageSpecification } from '../storage/open-storage.ts'
import { meterOf } from '../storage/storage-meter.ts'
import type { RepositoryConfiguration, S3Configuration } from './configuration.ts'
import type { Environment } from './environment.ts'
import { findSecretFile, resolveSecret } from './secret.ts'

export function resolveStorage(
  repository: RepositoryConfiguration,
  env: Environment,
): StorageSpecification {
  const { url, name, s3, bandwidth } = repository
  return {
    url,
    meter: meterOf(url),
    ...(s3 === undefined ? {} : { s3: resolveS3(name, s3, env) }),
    ...(bandwidth === undefined
      ? {}
      : { bandwidth: makeBandwidthLimit(parseBandwidth(bandwidth)) }),
  }
}

/** TM1005 for a reference to nothing. */
function resolveS3(
  name: string,
  s3: S3Configuration,
  env: Environment,
): NonNullable<StorageSpecification['s3']> {
  const resolved = Object.fromEntries(
    CREDENTIALS.flatMap((key) => {
      const text = s3[key]
      const where = `repositories.${name}.${key}`
      return text === undefined ? [] : [[key, requireText(text, where, env)]]
    }),
  )
  return { ...s3, ...resolved }
}

/** Files that whoever opens the repository must be able to read. */
export function listStorageFiles({ s3, encryption }: RepositoryConfiguration): string[] {
  const texts = [...CREDENTIALS.map((key) => s3?.[key]), encryption?.passphrase]
  const references = texts.flatMap((text) => findSecretFile(text ?? '') ?? [])
  const files = [s3?.caFile, encryption?.keyFile].filter((path) => path !== undefined)
  return [...references, ...files]
}

const CREDENTIALS = ['accessKeyId', 'secretAccessKey', 'sessionToken'] as const

function requireText(text: string, where: string, env: Environment): string {
  const value = resolveSecret(text, where, env).reveal().trim()
  if (value !== '') return value
  throw new Failure('TM1005', {
    message: `${where} is empty`,
    because: 'what it refers to holds nothing',
    fix: 'put the key of the object store there, or remove the line',
    details: { key: where },
  })
}

const BANDWIDTH = /^([1-9]\d{0,8})(kB|MB|GB)\/s$/
const UNITS: Readonly<Record<string, number>> = { kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 }

export function isBandwidth(text: string): boolean {
  return BANDWIDTH.test(text)
}

/** Bytes per second of `50MB/s`; PostgreSQL's units, powers of 1024. */
function parseBandwidth(text: string): number {
  const [, count = '', unit = ''] = BANDWIDTH.exec(text) ?? []
  const factor = UNITS[unit]
  if (factor === undefined) throw new Error(`not a bandwidth: ${text}`)
  return Number(count) * factor
}
