/** `s3://bucket/prefix`: what it may look like. Pure. */
import { Failure } from '../../base/failure.ts'
import { isStorageKey } from '../storage-key.ts'

export interface S3Place {
  readonly bucket: string
  /** Empty, or ending with a slash: what stands before every key. */
  readonly prefix: string
}

const EXAMPLE = 's3://bucket/prefix'
const BUCKET = /^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$/

export function parseS3Url(url: string): S3Place {
  const match = /^s3:\/\/([^/]*)(\/.*)?$/.exec(url)
  const [, host = '', path = ''] = match ?? []
  if (host.includes('@')) {
    throw refused(url, 'it holds credentials, which belong into accessKeyId and secretAccessKey')
  }
  if (host.includes(':')) throw refused(url, 'it names a port, which belongs into `endpoint`')
  if (/[?#]/.test(path)) throw refused(url, 'an s3 URL has no ? and no #')
  if (!BUCKET.test(host)) {
    throw refused(url, `'${host}' is no bucket: 3 to 63 of a-z, 0-9, . and -`)
  }
  const prefix = path.replace(/^\/+|\/+$/g, '')
  if (prefix !== '' && !isStorageKey(prefix)) {
    const because = `its prefix '${prefix}' has other characters than A-Z, a-z, 0-9, _, - and .`
    throw refused(url, because)
  }
  return { bucket: host, prefix: prefix === '' ? '' : `${prefix}/` }
}

function refused(url: string, because: string): Failure {
  return new Failure('TM1508', {
    message: `'${url.replace(/\/\/[^/]*@/, '//…@')}' does not name a repository`,
    because,
    fix: `use a bucket and a prefix: ${EXAMPLE}`,
  })
}
