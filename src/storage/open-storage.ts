/**
 * From a URL to a driver. A specification is plain data, so that worker threads can be
 * given one and open storages of their own.
 */
import { fileURLToPath } from 'node:url'
import { Failure } from '../base/failure.ts'
import type { Sealing } from './data-keys.ts'
import type { BandwidthLimit } from './limited-storage.ts'
import { openPosixStorage } from './posix-storage.ts'
import type { S3Settings } from './s3/s3-connection.ts'
import { parseS3Url } from './s3/s3-url.ts'
import type { StorageMeter } from './storage-meter.ts'
import type { Storage } from './storage.ts'

/** May hold secrets: it is for opening, never for printing. */
export interface StorageSpecification {
  readonly url: string
  /** file: who a root directory that is created shall belong to. */
  readonly owner?: { readonly uid: number; readonly gid: number }
  readonly s3?: S3Settings
  readonly bandwidth?: BandwidthLimit
  /** Asked when this one does not have an object whole; then all are read as one. */
  readonly fallbacks?: readonly StorageSpecification[]
  /** Of an encrypted repository: the slot that opens it, and its data keys. */
  readonly sealing?: Sealing
  /** Counts what is asked of it, below every other wrapper but the one that tries again. */
  readonly meter?: StorageMeter
}

const SUPPORTED = 'file:///absolute/path'
const PLANNED: ReadonlySet<string> = new Set(['azure:', 'gs:', 'sftp:'])

/**
 * TM1508 for a URL that cannot be one; whether a repository is there shows on its use.
 * Drivers and wrappers that need more than the file system are loaded when they are asked
 * for: `wal push` starts for every segment.
 */
export async function openStorage(specification: StorageSpecification): Promise<Storage> {
  const { fallbacks = [] } = specification
  const storage = await openAlone(specification)
  if (fallbacks.length === 0) return storage
  const { openFallbackStorage } = await import('./fallback-storage.ts')
  const { openLazyStorage } = await import('./lazy-storage.ts')
  const others = fallbacks.map((one) => openLazyStorage(one.url, () => openAlone(one)))
  return openFallbackStorage([storage, ...others])
}

async function openAlone(specification: StorageSpecification): Promise<Storage> {
  const { sealing } = specification
  const storage = await openLimited(specification)
  if (sealing === undefined) return storage
  const { openSealedStorage } = await import('./sealed-storage.ts')
  return openSealedStorage(storage, sealing)
}

async function openLimited(specification: StorageSpecification): Promise<Storage> {
  const { bandwidth } = specification
  const storage = await openCounted(specification)
  if (bandwidth === undefined) return storage
  const { openLimitedStorage } = await import('./limited-storage.ts')
  return openLimitedStorage(storage, bandwidth)
}

async function openCounted(specification: StorageSpecification): Promise<Storage> {
  const { meter } = specification
  const storage = await openDriver(specification)
  if (meter === undefined) return storage
  const { openCountingStorage } = await import('./counting-storage.ts')
  return openCountingStorage(storage, meter)
}

async function openDriver(specification: StorageSpecification): Promise<Storage> {
  const { url, owner, s3, meter } = specification
  if (isS3Url(url)) {
    const { openS3Storage } = await import('./s3-storage.ts')
    const { openRetryingStorage } = await import('./retrying-storage.ts')
    return openRetryingStorage(await openS3Storage(url, s3 ?? {}, meter))
  }
  const root = parseFileUrl(url)
  return openPosixStorage({ root, ...(owner === undefined ? {} : { owner }) })
}

export function isS3Url(url: string): boolean {
  return url.startsWith('s3:')
}

/** TM1508 unless a driver knows what to do with it. */
export function assertStorageUrl(url: string): void {
  if (isS3Url(url)) parseS3Url(url)
  else parseFileUrl(url)
}

/** Where the files of a repository lie on this machine, if they do. */
export function findLocalRoot(url: string): string | undefined {
  return isS3Url(url) ? undefined : parseFileUrl(url)
}

/** The path that a file URL names. */
export function parseFileUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined) throw refused(url, reasonOfNoUrl(url), exampleFor(url))
  if (PLANNED.has(parsed.protocol)) {
    throw refused(url, `${parsed.protocol}// repositories are not there yet`)
  }
  if (parsed.protocol !== 'file:') throw refused(url, `the scheme ${parsed.protocol}// is unknown`)
  if (parsed.host !== '') {
    throw refused(url, `a file URL has three slashes; this one names the host '${parsed.host}'`)
  }
  if (parsed.search !== '' || parsed.hash !== '') {
    throw refused(url, 'a file URL has no ? and no #; in a path they are written %3F and %23')
  }
  return decodePath(url, parsed)
}

function decodePath(url: string, parsed: URL): string {
  let path: string
  try {
    path = fileURLToPath(parsed)
  } catch (cause) {
    throw refused(url, 'its path cannot be decoded', SUPPORTED, cause)
  }
  if (path.includes('\0')) throw refused(url, 'its path holds a zero byte')
  const root = path.replace(/(?!^)\/+$/, '')
  if (root === '/') throw refused(url, 'the root directory of the machine cannot be a repository')
  return root
}

function reasonOfNoUrl(url: string): string {
  return url.startsWith('/') ? 'it is a path, not a URL' : 'it is not a URL'
}

function exampleFor(url: string): string {
  return url.startsWith('/') ? `file://${encodeURI(url)}` : SUPPORTED
}

/** Passwords may stand before the @ of a URL. */
function withoutSecrets(url: string): string {
  return url.replace(/\/\/[^/@]*@/, '//…@')
}

function refused(url: string, because: string, example = SUPPORTED, cause?: unknown): Failure {
  return new Failure('TM1508', {
    message: `'${withoutSecrets(url)}' does not name a repository`,
    because,
    fix: `use a file URL: ${example}, or s3://bucket/prefix`,
    details: { supported: ['file', 's3'] },
    ...(cause === undefined ? {} : { cause }),
  })
}
