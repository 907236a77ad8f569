/**
 * Opens a connection through the `pg` library: where to, over TLS or not, with which password.
 *
 * Invariant: what sslmode promises is kept for every use, and passwords appear in no message.
 */
import { readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { userInfo } from 'node:os'
import type { ConnectionOptions } from 'node:tls'
import pg from 'pg'
import { describeSystemError, Failure } from '../base/failure.ts'
import {
  type Address,
  isServerError,
  PASSWORD_FIX,
  translateConnectError,
} from './connect-failure.ts'
import type { ConnectionTarget } from './connection-url.ts'
import { defaultSocketDirectory } from './local-servers.ts'
import { readPasswordFile } from './password-file.ts'

/** `replication`: the server process is a WAL sender, which takes its own commands only. */
export type ConnectionUse = 'statements' | 'replication'

export interface Connected {
  readonly client: pg.Client
  readonly address: Address
  /** Takes what the server sends from here on; the bytes are valid only during the call. */
  takeOver(read: (chunk: Uint8Array) => void): void
}

/** Tries what sslmode allows, in libpq's order; the first refusal that is final counts. */
export async function connectServer(
  target: ConnectionTarget,
  applicationName: string,
  use: ConnectionUse = 'statements',
): Promise<Connected> {
  const host = target.host ?? defaultSocketDirectory(target.port)
  const user = target.user ?? userInfo().username
  // As libpq does: the password file knows replication connections under this name.
  const database = use === 'replication' ? 'replication' : (target.database ?? user)
  const place = { host, user, port: target.port, database }
  const attempts = listTlsAttempts(target, host)
  for (const [index, ssl] of attempts.entries()) {
    const address = { ...place, usesTls: ssl !== false }
    const asked = { password: false }
    const intake = new Intake()
    const client = makeClient(target, address, ssl, { applicationName, asked, use, intake })
    try {
      await client.connect()
      return { client, address, takeOver: (read) => intake.takeOver(client, read) }
    } catch (error) {
      await client.end().catch(() => {})
      const isLast = index === attempts.length - 1
      if (isLast || !isWorthAnotherTry(error)) {
        throw translateConnectError(error, address, asked.password)
      }
    }
  }
  throw new Error('no way to connect was tried')
}

/** libpq goes on to the other mode when TLS failed, or pg_hba.conf refused this one. */
function isWorthAnotherTry(error: unknown): boolean {
  if (error instanceof Failure) return false
  if (isServerError(error)) return error.code === '28000'
  return (error as NodeJS.ErrnoException).syscall !== 'connect'
}

type Tls = false | ConnectionOptions

function listTlsAttempts(target: ConnectionTarget, host: string): Tls[] {
  if (host.startsWith('/')) return [false]
  if (target.tlsMode === 'disable') return [false]
  const tls = buildTlsOptions(target)
  if (target.tlsMode === 'prefer') return [tls, false]
  if (target.tlsMode === 'allow') return [false, tls]
  return [tls]
}

function buildTlsOptions(target: ConnectionTarget): ConnectionOptions {
  const { tlsMode, tlsRootCertificate: root, tlsCertificate, tlsKey } = target
  const hasRoot = root !== undefined && root !== 'system'
  const verifies = /^verify/.test(tlsMode) || (tlsMode === 'require' && root !== undefined)
  return {
    rejectUnauthorized: verifies,
    ...(verifies && hasRoot ? { ca: readTlsFile(root, 'sslrootcert') } : {}),
    ...(tlsMode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
    ...(tlsCertificate === undefined ? {} : { cert: readTlsFile(tlsCertificate, 'sslcert') }),
    ...(tlsKey === undefined ? {} : { key: readTlsFile(tlsKey, 'sslkey') }),
  }
}

function readTlsFile(path: string, parameter: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new Failure('TM1115', {
      message: `the file of ${parameter}, ${path}, cannot be read`,
      because: describeSystemError(error),
      fix: `correct ${parameter} in the connection`,
      cause: error,
    })
  }
}

const KEEP_ALIVE_MS = 30_000

interface ClientDetails {
  readonly applicationName: string
  /** Becomes true when the server asks for a password. */
  readonly asked: { password: boolean }
  readonly use: ConnectionUse
  readonly intake: Intake
}

/**
 * What a socket gives, first to `pg`, then to who takes it over. Without TLS all of it comes
 * into one buffer, not into a new one for every 64 KiB.
 */
class Intake {
  #read: ((chunk: Uint8Array) => void) | undefined

  openSocket(): Socket {
    const buffer = Buffer.alloc(READ_BYTES)
    const socket = new Socket({
      onread: {
        buffer,
        callback: (count) => {
          const chunk = buffer.subarray(0, count)
          if (this.#read === undefined) socket.emit('data', Buffer.from(chunk))
          else this.#read(chunk)
          return true
        },
      },
    })
    return socket
  }

  takeOver(client: pg.Client, read: (chunk: Uint8Array) => void): void {
    const { stream } = client.connection
    stream.removeAllListeners('data')
    this.#read = read
    // Of a socket that openSocket() has made this never comes.
    stream.on('data', read)
  }
}

const READ_BYTES = 256 * 1024

function makeClient(
  target: ConnectionTarget,
  address: Address,
  ssl: Tls,
  { applicationName, asked, use, intake }: ClientDetails,
): pg.Client {
  const client = new pg.Client({
    host: address.host,
    port: address.port,
    user: address.user,
    database: address.database,
    ssl,
    application_name: applicationName,
    connectionTimeoutMillis: target.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    // SCRAM proves the certificate as well, where the server offers that.
    enableChannelBinding: ssl !== false,
    ...(use === 'replication' ? { replication: 'true' } : {}),
    ...(use === 'replication' && ssl === false ? { stream: () => intake.openSocket() } : {}),
    ...(target.options === undefined ? {} : { options: target.options }),
    // Called only when the server asks for a password.
    password: async () => {
      asked.password = true
      return target.password ?? (await lookUpPassword(target, address))
    },
  })
  // Without a listener an idle session's end would end the process. Channel adds its own.
  client.on('error', () => {})
  return client
}

async function lookUpPassword(target: ConnectionTarget, address: Address): Promise<string> {
  const path = target.passwordFile
  const answer =
    path === undefined
      ? { kind: 'not found' as const, because: 'no password file is set' }
      : await readPasswordFile(path, address)
  if (answer.kind === 'found') return answer.password
  throw new Failure('TM1102', {
    message: `the server asks for the password of role ${address.user}, and there is none`,
    because: answer.because,
    fix: PASSWORD_FIX,
  })
}
