/**
 * From a URL to a driver. A specification is plain data, so that worker threads can be
 * given one and open storages of their own.
 */
import { fileURLToPath } from 'node:url'
import { Failure } from '../base/failure.ts'
import { openPosixStorage } from './posix-storage.ts'
import type { Storage } from './storage.ts'

export interface StorageSpecification {
  readonly url: string
  /** file: who a root directory that is created shall belong to. */
  readonly owner?: { readonly uid: number; readonly gid: number }
}

const SUPPORTED = 'file:///absolute/path'
const PLANNED: ReadonlySet<string> = new Set(['s3:', 'azure:', 'gs:', 'sftp:'])

/** TM1508 for a URL that cannot be one; whether a repository is there shows on its use. */
export async function openStorage(specification: StorageSpecification): Promise<Storage> {
  const { url, owner } = specification
  const root = parseFileUrl(url)
  return openPosixStorage({ root, ...(owner === undefined ? {} : { owner }) })
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
    fix: `use a file URL: ${example}`,
    details: { supported: ['file'] },
    ...(cause === undefined ? {} : { cause }),
  })
}
