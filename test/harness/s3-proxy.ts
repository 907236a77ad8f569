/**
 * Stands between an S3 client and a real S3 server, and spoils what a network and an
 * overloaded store spoil: answers that are cut, damaged or never come, storms of 503,
 * acknowledgements that are lost after the deed. What it is not told to spoil passes as it is,
 * signature and all.
 */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as sendRequest,
  type Server,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'

export interface ProxiedRequest {
  /** From 1. */
  readonly number: number
  readonly method: string
  /** Path and query. */
  readonly target: string
  readonly headers: IncomingHttpHeaders
}

/** Kinds of requests; those for objects look for the key `object`. */
export const isPut = ({ method, target }: ProxiedRequest) =>
  method === 'PUT' && target.includes('object') && !target.includes('uploadId')
export const isGet = ({ method, target }: ProxiedRequest) =>
  method === 'GET' && target.includes('object')
export const isPart = ({ target }: ProxiedRequest) => target.includes('partNumber')
export const isBegin = ({ method, target }: ProxiedRequest) =>
  method === 'POST' && target.includes('uploads')
export const isCompletion = ({ method, target }: ProxiedRequest) =>
  method === 'POST' && target.includes('uploadId')

export type Fault =
  /** An answer of the proxy's own; the server never hears of the request. */
  | { readonly kind: 'answer'; readonly status: number; readonly body?: string }
  /** The server has done it; the client gets no word. */
  | { readonly kind: 'lose-answer' }
  /** Head and half of the body, then the end of the connection. */
  | { readonly kind: 'cut-answer' }
  /** Head and half of the body, then silence. */
  | { readonly kind: 'stall-answer' }
  /** Another text in place of the answer's body. */
  | { readonly kind: 'rewrite'; readonly change: (body: string) => string }
  /** One bit of the answer's body. */
  | { readonly kind: 'flip-answer' }
  /** One bit of the request's body. */
  | { readonly kind: 'flip-request' }
  /** What the test does in place of the server; then 200 without a body. */
  | { readonly kind: 'instead'; readonly act: (body: Buffer) => Promise<void> }

export interface S3Proxy {
  readonly endpoint: string
  readonly requests: readonly ProxiedRequest[]
  /** Decides about each request from now on. */
  spoil(judge: (request: ProxiedRequest) => Fault | undefined): void
  /** Connections that clients hold open. */
  openConnections(): Promise<number>
  stop(): Promise<void>
}

/** PEM texts: the proxy then speaks TLS with its clients. */
export interface ProxyCertificate {
  readonly key: string
  readonly cert: string
}

export async function startS3Proxy(
  serverEndpoint: string,
  certificate?: ProxyCertificate,
): Promise<S3Proxy> {
  const proxy = new SpoilingProxy(new URL(serverEndpoint), certificate)
  await proxy.listen()
  return proxy
}

class SpoilingProxy implements S3Proxy {
  readonly requests: ProxiedRequest[] = []
  readonly #target: URL
  readonly #scheme: string
  readonly #server: Server
  #judge: (request: ProxiedRequest) => Fault | undefined = () => undefined

  constructor(target: URL, certificate: ProxyCertificate | undefined) {
    this.#target = target
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      this.#handle(request, response).catch(() => response.destroy())
    }
    this.#scheme = certificate === undefined ? 'http' : 'https'
    this.#server =
      certificate === undefined ? createServer(handle) : createTlsServer(certificate, handle)
  }

  get endpoint(): string {
    return `${this.#scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
  }

  spoil(judge: (request: ProxiedRequest) => Fault | undefined): void {
    this.#judge = judge
  }

  async openConnections(): Promise<number> {
    return await new Promise((resolve, reject) => {
      this.#server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
    })
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', url: target = '/', headers } = request
    const seen = { number: this.requests.length + 1, method, target, headers }
    this.requests.push(seen)
    const fault = this.#judge(seen)
    const body = await readAll(request)
    if (fault?.kind === 'answer') {
      response.writeHead(fault.status, { 'content-type': 'application/xml' })
      response.end(method === 'HEAD' ? undefined : fault.body)
      return
    }
    if (fault?.kind === 'instead') {
      await fault.act(body)
      response.writeHead(200, { 'content-length': 0 })
      response.end()
      return
    }
    if (fault?.kind === 'flip-request') flipBit(body)
    const answer = await this.#forward(seen, body)
    deliver(answer, fault, method, response)
  }

  async #forward(request: ProxiedRequest, body: Buffer): Promise<Answer> {
    const { hostname, port } = this.#target
    const { method, target: path, headers } = request
    return await new Promise((resolve, reject) => {
      const forwarded = sendRequest({ hostname, port, method, path, headers }, (answer) => {
        const { statusCode = 502 } = answer
        const whole = async () => ({
          status: statusCode,
          headers: answer.headers,
          body: await readAll(answer),
        })
        whole().then(resolve, reject)
      })
      forwarded.on('error', reject)
      forwarded.end(body)
    })
  }
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

function deliver(
  { status, headers, body }: Answer,
  fault: Fault | undefined,
  method: string,
  response: ServerResponse,
): void {
  if (fault?.kind === 'lose-answer') {
    response.destroy()
    return
  }
  if (fault?.kind === 'flip-answer') flipBit(body)
  if (fault?.kind === 'rewrite') {
    const { 'content-length': _, 'transfer-encoding': __, ...others } = headers
    response.writeHead(status, others)
    response.end(fault.change(body.toString()))
    return
  }
  response.writeHead(status, headers)
  if (fault?.kind === 'cut-answer' || fault?.kind === 'stall-answer') {
    response.write(body.subarray(0, Math.floor(body.length / 2)), () => {
      if (fault.kind === 'cut-answer') response.destroy()
    })
    return
  }
  response.end(method === 'HEAD' ? undefined : body)
}

function flipBit(body: Buffer): void {
  const at = Math.floor(body.length / 2)
  body[at] = (body[at] ?? 0) ^ 1
}

async function readAll(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
