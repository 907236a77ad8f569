/**
 * Answers and errors of an S3 store, put into the words of a failure. Judged by status, code
 * and system error, never by message text; headers and bodies are never repeated, for they
 * may hold keys of access.
 */
import { describeSystemError, Failure } from '../../base/failure.ts'
import type { FailureCode } from '../../base/failure-codes.ts'

/** Where the operation went, for messages. */
export interface S3Address {
  readonly url: string
  readonly bucket: string
  /** As configured, or what the region stands for. */
  readonly endpoint: string
}

/** What the error object of the SDK says, none of it required. */
interface AnswerError {
  readonly name?: string
  readonly code?: string
  readonly $metadata?: { readonly httpStatusCode?: number }
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> }
}

/** The answer's or the upload's bytes were not what they should be. */
export class DamagedTransferError extends Error {}

export function statusOf(error: unknown): number | undefined {
  return (error as AnswerError | undefined)?.$metadata?.httpStatusCode
}

function nameOf(error: unknown): string {
  return (error as AnswerError | undefined)?.name ?? ''
}

/** The store knows the bucket and says that this key is not in it. */
export function isKeyAbsent(error: unknown): boolean {
  return statusOf(error) === 404 && nameOf(error) === 'NoSuchKey'
}

export function isPreconditionFailed(error: unknown): boolean {
  return statusOf(error) === 412
}

/** The key is there, and the range begins behind its end. */
export function isRangeBehindEnd(error: unknown): boolean {
  return statusOf(error) === 416
}

export function isUploadAbsent(error: unknown): boolean {
  return statusOf(error) === 404 && nameOf(error) === 'NoSuchUpload'
}

/** HEAD has no body, so its 404 cannot say what is missing. */
export function isBareNotFound(error: unknown): boolean {
  return statusOf(error) === 404 && nameOf(error) === 'NotFound'
}

/** As an object lock refuses a removal; wrong credentials do the same. */
export function isRefused(error: unknown): boolean {
  return statusOf(error) === 403
}

export function isNotImplemented(error: unknown): boolean {
  return statusOf(error) === 501 || nameOf(error) === 'NotImplemented'
}

interface Words {
  readonly code: FailureCode
  readonly because: string
  readonly fix: string
  readonly details?: Readonly<Record<string, unknown>>
}

/** A failure passes as it is, and so does the defect that no request has caused. */
export function translateS3Error(error: unknown, doing: string, address: S3Address): unknown {
  if (error instanceof Failure) return error
  const words = judge(error, address)
  if (words === undefined) return error
  const { code, because, fix } = words
  const status = statusOf(error)
  return new Failure(code, {
    message: `cannot ${doing} in ${address.url}`,
    because,
    fix,
    details: {
      endpoint: address.endpoint,
      ...(status === undefined ? {} : { status }),
      ...words.details,
    },
    cause: error,
  })
}

function judge(error: unknown, address: S3Address): Words | undefined {
  const status = statusOf(error)
  const name = nameOf(error)
  if (error instanceof DamagedTransferError) return transient(error.message, address)
  if (name === 'CredentialsProviderError') return noCredentials(address)
  if (FULL.has(name) || status === 507) return full(name, status, address)
  if (TRANSIENT_NAMES.has(name) || isTransientStatus(status)) {
    return transient(`${address.endpoint} answered ${answer(status, name)}`, address, error)
  }
  if (isUploadAbsent(error)) return lostUpload(address)
  if (status === 401 || status === 403) return refusedCredentials(name, status, address)
  if (status === 404 || status === 301 || status === 307) return wrongPlace(name, status, address)
  if (status === 400 && WRONG_PLACE.has(name)) return wrongPlace(name, status, address)
  if (status !== undefined && status >= 300) return refused(name, status, address)
  // What could not be understood of an answer that began well was cut or is no S3.
  if (status !== undefined) return transient('its answer was cut or is not that of S3', address)
  return judgeSystemError(error, address)
}

const FULL: ReadonlySet<string> = new Set(['QuotaExceeded', 'XMinioStorageFull'])
const WRONG_PLACE: ReadonlySet<string> = new Set([
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
  'InvalidBucketName',
])
const TRANSIENT_NAMES: ReadonlySet<string> = new Set([
  'SlowDown',
  'RequestTimeout',
  'ThrottlingException',
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'IncompleteBody',
  'ConditionalRequestConflict',
  'OperationAborted',
  'TimeoutError',
])

function isTransientStatus(status: number | undefined): boolean {
  if (status === undefined || status === 501 || status === 505) return false
  return status >= 500 || status === 408 || status === 409 || status === 429
}

function answer(status: number | undefined, name: string): string {
  const known = /^[A-Z][A-Za-z0-9]+$/.test(name) && !['Unknown', 'Error'].includes(name)
  return [status, known ? name : undefined].filter((part) => part !== undefined).join(' ')
}

function transient(because: string, { endpoint }: S3Address, error?: unknown): Words {
  const header = (error as AnswerError | undefined)?.$response?.headers?.['retry-after']
  const seconds = /^\d{1,4}$/.test(header ?? '') ? Number(header) : undefined
  return {
    code: 'TM1509',
    because,
    fix: `run the command again; when it lasts, look at the network and the store at ${endpoint}`,
    ...(seconds === undefined ? {} : { details: { retryAfterMs: seconds * 1000 } }),
  }
}

function lostUpload({ endpoint }: S3Address): Words {
  return {
    code: 'TM1501',
    because: `${endpoint} answered 404 NoSuchUpload: somebody has aborted the multipart upload`,
    fix: `run the command again; when it happens again, look at the bucket's lifecycle rules, which
       must leave multipart uploads alone for a day or more`,
  }
}

function noCredentials({ url }: S3Address): Words {
  return {
    code: 'TM1510',
    because: 'no credentials were found: none in the configuration, the environment or a role',
    fix: `set accessKeyId and secretAccessKey of ${url} in tidemark.yaml (as file:/path or
       \${NAME}), or give the machine a role; archive_command runs with the environment of the
       PostgreSQL server`,
  }
}

function full(name: string, status: number | undefined, { url }: S3Address): Words {
  return {
    code: 'TM1506',
    because: `the store has no room for it (${answer(status, name)})`,
    fix: `make room or raise the quota of ${url}, then run the command again`,
  }
}

function refusedCredentials(name: string, status: number, { bucket, endpoint }: S3Address): Words {
  const reason = REFUSALS[name]
  return {
    code: 'TM1510',
    because: `${endpoint} answered ${answer(status, name)}${reason === undefined ? '' : `: ${reason}`}`,
    fix:
      name === 'RequestTimeTooSkewed'
        ? 'set the clock of this machine (NTP)'
        : `check accessKeyId and secretAccessKey, and that they permit to read, write, remove and
       list objects and multipart uploads of the bucket ${bucket} (without s3:ListBucket a
       missing object cannot be told from a forbidden one)`,
  }
}

const REFUSALS: Readonly<Record<string, string>> = {
  SignatureDoesNotMatch: 'secretAccessKey is not the one of accessKeyId',
  InvalidAccessKeyId: 'accessKeyId is not known there',
  ExpiredToken: 'the credentials are no longer valid',
  RequestTimeTooSkewed: 'the clock of this machine is wrong',
  AccessDenied: 'the credentials do not permit it',
}

function wrongPlace(name: string, status: number, { bucket, endpoint }: S3Address): Words {
  const missing = name === 'NoSuchBucket'
  return {
    code: 'TM1511',
    because: missing
      ? `${endpoint} has no bucket ${bucket}`
      : `${answer(status, name)} from ${endpoint}: ${bucket} is elsewhere, or this is no S3 store`,
    fix: missing
      ? `create the bucket ${bucket} with the tools of the store, or correct the URL`
      : 'correct url, region, endpoint or pathStyle of the repository in tidemark.yaml',
  }
}

function refused(name: string, status: number, { url, endpoint }: S3Address): Words {
  return {
    code: 'TM1501',
    because: `${endpoint} answered ${answer(status, name)}`,
    fix: `look up that code in the manual of the store that keeps ${url}`,
  }
}

const TRANSIENT_ERRORS: ReadonlySet<string> = new Set([
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'ETIMEDOUT',
  'EPIPE',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ERR_STREAM_PREMATURE_CLOSE',
  'UND_ERR_SOCKET',
])

function judgeSystemError(error: unknown, address: S3Address): Words | undefined {
  const { endpoint } = address
  const code = (error as AnswerError | undefined)?.code ?? ''
  if (code === 'ENOTFOUND') return transient(`the name of ${endpoint} is not known`, address)
  if (TRANSIENT_ERRORS.has(code) || code.startsWith('HPE_')) {
    return transient(`${endpoint}: ${REASONS[code] ?? describeSystemError(error)}`, address)
  }
  if (/CERT|SIGNED|TLS|SSL|EPROTO/.test(code)) {
    return {
      code: 'TM1511',
      because: `no trusted connection to ${endpoint} (${code})`,
      fix: `name the certificate of its authority as caFile, or correct the endpoint (http:// or
       https://, host, port)`,
      details: { systemError: code },
    }
  }
  return undefined
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNRESET: 'the connection was cut',
  EPIPE: 'the connection was cut',
  ERR_STREAM_PREMATURE_CLOSE: 'the connection was cut',
  EAI_AGAIN: 'its name cannot be looked up now',
  EHOSTUNREACH: 'no way to the host',
  ENETUNREACH: 'no way to the network',
}
