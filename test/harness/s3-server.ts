/**
 * A real S3 server for tests: Ceph's radosgw over one monitor and one OSD that keeps
 * everything in memory, in a cluster of its own, on free ports of the loopback. It checks
 * signatures and payload hashes, and knows conditional writes and multipart uploads.
 *
 * Invariant: nothing of it outlives the test process (temporary-directory.ts). Without
 * authentication between its daemons: only the loopback reaches them. It starts in about
 * three seconds, so every test file has its own.
 */
import {
  CreateBucketCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, openSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { StorageSpecification } from '../../src/storage/open-storage.ts'
import { runChecked } from './run-program.ts'
import { killAtExit, removeDirectory, temporaryDirectory } from './temporary-directory.ts'

const PROGRAMS = ['radosgw', 'ceph-mon', 'ceph-osd', 'ceph', 'monmaptool', 'radosgw-admin']

/** Why there can be no S3 server here, for `skip`; undefined where there can. */
export function whyNoS3Server(): string | undefined {
  const missing = PROGRAMS.filter((program) => !existsSync(`/usr/bin/${program}`))
  if (missing.length === 0) return undefined
  return `no ${missing.join(', ')} here: apt-get install radosgw ceph-mon ceph-osd ceph-common`
}

export interface S3Server {
  readonly endpoint: string
  /** For openStorage(): everything but the URL. */
  readonly settings: NonNullable<StorageSpecification['s3']>
  /** A client of the test's own. */
  readonly client: S3Client
  /** A new bucket; gives its name. `locked`: with object lock, and so with versions. */
  createBucket(form?: 'plain' | 'locked'): Promise<string>
  /** Every key of a bucket, those that no storage key can name too. */
  allKeys(bucket: string): Promise<string[]>
  /** Multipart uploads that were begun and not ended. */
  openUploads(bucket: string): Promise<string[]>
  stop(): Promise<void>
}

const ACCESS_KEY_ID = 'TIDEMARKTESTKEY'
const SECRET_ACCESS_KEY = 'tidemark-test-secret'
const START_TIMEOUT_MS = 120_000

export async function startS3Server(): Promise<S3Server> {
  const directory = temporaryDirectory(undefined, 'tidemark-s3-')
  const daemons: ChildProcess[] = []
  try {
    const port = await startCluster(directory, daemons)
    return new Radosgw(directory, daemons, `http://127.0.0.1:${port}`)
  } catch (error) {
    await stopDaemons(daemons)
    throw error
  }
}

class Radosgw implements S3Server {
  readonly endpoint: string
  readonly settings: NonNullable<StorageSpecification['s3']>
  readonly client: S3Client
  readonly #directory: string
  readonly #daemons: readonly ChildProcess[]
  #buckets = 0

  constructor(directory: string, daemons: readonly ChildProcess[], endpoint: string) {
    this.#directory = directory
    this.#daemons = daemons
    this.endpoint = endpoint
    const credentials = { accessKeyId: ACCESS_KEY_ID, secretAccessKey: SECRET_ACCESS_KEY }
    this.settings = { endpoint, pathStyle: true, region: 'us-east-1', ...credentials }
    this.client = new S3Client({ endpoint, forcePathStyle: true, region: 'us-east-1', credentials })
  }

  async createBucket(form: 'plain' | 'locked' = 'plain'): Promise<string> {
    this.#buckets += 1
    const Bucket = `test-${this.#buckets}`
    const ObjectLockEnabledForBucket = form === 'locked'
    await this.client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket }))
    return Bucket
  }

  async allKeys(Bucket: string): Promise<string[]> {
    const keys: string[] = []
    let StartAfter = ''
    for (;;) {
      const page = await this.client.send(new ListObjectsV2Command({ Bucket, StartAfter }))
      for (const { Key = '' } of page.Contents ?? []) keys.push(Key)
      if (page.IsTruncated !== true) return keys
      StartAfter = keys.at(-1) ?? ''
    }
  }

  async openUploads(Bucket: string): Promise<string[]> {
    const page = await this.client.send(new ListMultipartUploadsCommand({ Bucket }))
    return (page.Uploads ?? []).map(({ Key = '' }) => Key)
  }

  async stop(): Promise<void> {
    this.client.destroy()
    await stopDaemons(this.#daemons)
    await removeDirectory(this.#directory)
  }
}

/** Gives the port of the S3 server. */
async function startCluster(directory: string, daemons: ChildProcess[]): Promise<number> {
  const [monitorPort, port] = await Promise.all([findFreePort(), findFreePort()])
  const [fsid, osd] = [randomUUID(), randomUUID()]
  for (const name of ['mon', 'osd', 'run']) mkdirSync(join(directory, name))
  writeFileSync(join(directory, 'keyring'), '')
  writeFileSync(join(directory, 'ceph.conf'), configuration(directory, fsid, monitorPort, port))
  const env = { CEPH_CONF: join(directory, 'ceph.conf') }
  const run = async (program: string, ...args: string[]) =>
    await runChecked(`/usr/bin/${program}`, args, { env, cwd: directory, signalAfterMs: 60_000 })
  const start = (program: string, ...args: string[]): void => {
    daemons.push(startDaemon(directory, env, program, args))
  }
  const map = join(directory, 'monmap')
  const monitor = `v2:127.0.0.1:${monitorPort}`
  await run('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', monitor, map)
  await run('ceph-mon', '-i', 'a', '--mkfs', '--monmap', map)
  start('ceph-mon', '-i', 'a', '-f')
  await run('ceph', 'osd', 'new', osd, '0')
  await run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osd)
  start('ceph-osd', '-i', '0', '-f')
  start('radosgw', '-n', 'client.rgw', '-f')
  await waitUntilAnswers(directory, daemons, port)
  const keys = ['--access-key', ACCESS_KEY_ID, '--secret-key', SECRET_ACCESS_KEY]
  await run('radosgw-admin', 'user', 'create', '--uid', 'test', '--display-name', 'test', ...keys)
  return port
}

function startDaemon(
  directory: string,
  env: Readonly<Record<string, string>>,
  program: string,
  args: readonly string[],
): ChildProcess {
  const output = openSync(join(directory, `${program}.out`), 'a')
  const child = spawn(`/usr/bin/${program}`, args, {
    cwd: directory,
    env: { ...process.env, ...env },
    stdio: ['ignore', output, output],
  })
  child.on('error', () => {})
  if (child.pid !== undefined) killAtExit(child.pid, directory)
  child.unref()
  return child
}

async function waitUntilAnswers(
  directory: string,
  daemons: readonly ChildProcess[],
  port: number,
): Promise<void> {
  for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline; ) {
    const dead = daemons.find(({ exitCode, signalCode }) => (exitCode ?? signalCode) !== null)
    if (dead !== undefined) throw new Error(`${dead.spawnfile} ended; see ${directory}`)
    try {
      await fetch(`http://127.0.0.1:${port}/`)
      return
    } catch {
      await sleep(100)
    }
  }
  throw new Error(`radosgw does not answer; see ${directory}`)
}

async function stopDaemons(daemons: readonly ChildProcess[]): Promise<void> {
  await Promise.all(
    daemons.map(async (daemon) => {
      if (daemon.exitCode !== null || daemon.signalCode !== null) return
      const ended = new Promise((resolve) => daemon.once('exit', resolve))
      daemon.ref()
      daemon.kill('SIGKILL')
      await ended
    }),
  )
}

async function findFreePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' ? (address?.port ?? 0) : 0))
    })
  })
}

/**
 * One replica of everything. radosgw wants encrypted connections to the monitor by default,
 * which there are none of without authentication. The short proposal interval is what makes
 * the start quick: radosgw creates its pools one by one.
 */
function configuration(directory: string, fsid: string, monitor: number, port: number): string {
  return `[global]
fsid = ${fsid}
mon host = v2:127.0.0.1:${monitor}
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true
ms mon client mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 0
mon data avail warn = 0
paxos propose interval = 0.02
paxos min wait = 0.01
osd objectstore = memstore
memstore device bytes = 4294967296
mon data = ${directory}/mon
osd data = ${directory}/osd
rgw data = ${directory}
run dir = ${directory}/run
crash dir = ${directory}/run
keyring = ${directory}/keyring
log file = ${directory}/$name.log
pid file = ${directory}/$name.pid
admin socket = ${directory}/run/$name.$pid.asok
rgw frontends = beast endpoint=127.0.0.1:${port} tcp_nodelay=1
rgw lc max worker = 1
rgw enable usage log = false
`
}
