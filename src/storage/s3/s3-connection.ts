/**
 * The client of one bucket: requests out, answers or failures back. Nothing is tried again
 * here (retrying-storage.ts does that for every driver), so the SDK's own retries are off.
 *
 * Checksums: the SDK signs the SHA-256 of every body that is sent, which the store verifies.
 * The newer x-amz-checksum headers are not used: many stores do not know them.
 */
import { S3Client, type S3ClientConfig, type StorageClass } from '@aws-sdk/client-s3'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent } from 'node:https'
import { describeSystemError, Failure } from '../../base/failure.ts'
import { countRequest, type StorageMeter } from '../storage-meter.ts'
import type { ObjectLockSettings } from './object-lock.ts'
import { DamagedTransferError, type S3Address, translateS3Error } from './s3-failure.ts'
import type { S3Place } from './s3-url.ts'

/** Plain data: it is posted to worker threads. Holds secrets; never to be printed. */
export interface S3Settings {
  readonly region?: string
  /** `https://host:port`; Amazon's of the region unless given. */
  readonly endpoint?: string
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  readonly pathStyle?: boolean
  readonly storageClass?: string
  /** Absolute path of the certificates that the endpoint is trusted by. */
  readonly caFile?: string
  readonly accessKeyId?: string
  readonly secretAccessKey?: string
  readonly sessionToken?: string
  readonly objectLock?: ObjectLockSettings
  /** A connection on which nothing moves for so long is given up; a minute unless given. */
  readonly idleTimeoutMs?: number
}

const CONNECT_TIMEOUT_MS = 10_000
const IDLE_TIMEOUT_MS = 60_000

/** As many sockets; more requests wait here, where waiting does not count as silence. */
const MAX_REQUESTS = 16

export interface SendOptions {
  readonly abortSignal?: AbortSignal
}

export class S3Connection {
  readonly address: S3Address
  readonly bucket: string
  readonly prefix: string
  /** What every object is created with. */
  readonly storage: { readonly StorageClass?: StorageClass }
  readonly #client: S3Client
  readonly #closed = new AbortController()
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(url: string, place: S3Place, settings: S3Settings, meter?: StorageMeter) {
    const { region, endpoint, storageClass } = settings
    const host = region === undefined ? 'Amazon S3' : `Amazon S3 in ${region}`
    this.address = { url, bucket: place.bucket, endpoint: endpoint ?? host }
    this.bucket = place.bucket
    this.prefix = place.prefix
    // A store may have classes of its own, which the SDK's list does not name.
    this.storage = storageClass === undefined ? {} : { StorageClass: storageClass as StorageClass }
    this.#client = new S3Client(clientConfiguration(url, settings))
    if (meter !== undefined) countRequests(this.#client, meter)
  }

  /** TM1508 where neither the configuration nor the environment names a region. */
  async requireRegion(): Promise<void> {
    try {
      await this.#client.config.region()
    } catch (cause) {
      throw new Failure('TM1508', {
        message: `the region of ${this.address.url} is not known`,
        because: 'neither the configuration nor AWS_REGION nor the shared configuration names it',
        fix: 'set region (Amazon) or endpoint (other stores) of the repository in tidemark.yaml',
        cause,
      })
    }
  }

  key(storageKey: string): string {
    return `${this.prefix}${storageKey}`
  }

  /** One request; `doing` completes "cannot …" in messages. */
  async send<T>(
    doing: string,
    request: (client: S3Client, options: SendOptions) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    try {
      return await this.attempt(request, signal)
    } catch (error) {
      throw translateS3Error(error, doing, this.address)
    }
  }

  /** As send(), with the SDK's errors, for callers that know answers among them. */
  async attempt<T>(
    request: (client: S3Client, options: SendOptions) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    await this.#enter()
    try {
      const { signal: closed } = this.#closed
      const abortSignal = signal === undefined ? closed : AbortSignal.any([closed, signal])
      abortSignal.throwIfAborted()
      return await request(this.#client, { abortSignal })
    } finally {
      this.#running -= 1
      this.#waiting.shift()?.()
    }
  }

  close(): void {
    this.#closed.abort()
    this.#client.destroy()
  }

  async #enter(): Promise<void> {
    while (this.#running >= MAX_REQUESTS) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    this.#running += 1
  }
}

function clientConfiguration(url: string, settings: S3Settings): S3ClientConfig {
  const { region, endpoint, pathStyle, accessKeyId, secretAccessKey, sessionToken } = settings
  const certificates = settings.caFile === undefined ? undefined : readCaFile(url, settings.caFile)
  const https = { keepAlive: true, maxSockets: MAX_REQUESTS }
  // Compatible stores have no regions, but a signature names one.
  const signedRegion = region ?? (endpoint === undefined ? undefined : 'us-east-1')
  return {
    ...(signedRegion === undefined ? {} : { region: signedRegion }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(pathStyle === undefined ? {} : { forcePathStyle: pathStyle }),
    ...(accessKeyId === undefined || secretAccessKey === undefined
      ? {}
      : {
          credentials: {
            accessKeyId,
            secretAccessKey,
            ...(sessionToken === undefined ? {} : { sessionToken }),
          },
        }),
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    followRegionRedirects: false,
    logger: SILENT,
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: settings.idleTimeoutMs ?? IDLE_TIMEOUT_MS,
      logger: SILENT,
      httpAgent: { keepAlive: true, maxSockets: MAX_REQUESTS },
      httpsAgent: certificates === undefined ? https : new Agent({ ...https, ca: certificates }),
    },
  }
}

/** The SDK would warn on standard error, in its own words. */
const nothing = (): void => {}
const SILENT = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing }

function readCaFile(url: string, path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    throw new Failure('TM1508', {
      message: `the certificates ${path} of ${url} cannot be read`,
      because: describeSystemError(cause),
      fix: 'name a PEM file as caFile that the user who runs this command can read',
      details: { path },
      cause,
    })
  }
}

/** Puts a body of a known length where it belongs; a cut one is no shorter object. */
export async function readBody(
  body: unknown,
  length: number,
  into?: Uint8Array,
): Promise<Uint8Array> {
  const target = into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length)
  let filled = 0
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    if (filled + chunk.length > length) {
      throw new DamagedTransferError(`the answer is longer than the ${length} bytes it announced`)
    }
    target.set(chunk, filled)
    filled += chunk.length
  }
  if (filled === length) return target
  throw new DamagedTransferError(`only ${filled} of ${length} bytes of the answer arrived`)
}

interface Stack {
  add(middleware: unknown, options: { step: 'build' | 'deserialize'; name: string }): void
}

/** Every request that goes out: the step next to the wire runs once for each. */
function countRequests(client: S3Client, meter: StorageMeter): void {
  type Next = (args: unknown) => unknown
  const middleware = (next: Next, context: { readonly commandName?: string }) => {
    return (args: unknown) => {
      countRequest(meter, context.commandName ?? '')
      return next(args)
    }
  }
  const stack = client.middlewareStack as unknown as Stack
  stack.add(middleware, { step: 'deserialize', name: 'countRequests' })
}

/** Adds Content-MD5, which older stores want for a batch of deletions, and locks want always. */
export function addContentMd5(command: { readonly middlewareStack: unknown }): void {
  type Next = (args: {
    request: { body: string | Uint8Array; headers: Record<string, string> }
  }) => unknown
  const middleware = (next: Next) => (args: Parameters<Next>[0]) => {
    const md5 = createHash('md5').update(args.request.body).digest('base64')
    args.request.headers['content-md5'] = md5
    return next(args)
  }
  const stack = command.middlewareStack as Stack
  stack.add(middleware, { step: 'build', name: 'contentMd5' })
}
