/**
 * The spool of a recovery whose WAL lies in an S3 store or is sealed, and of segments of 64 MB:
 * they are taken from it, it stays within its bounds, and a store that goes away stops recovery
 * with the reason.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ensureFirstKey } from '../../src/repository/unlock.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage, type StorageSpecification } from '../../src/storage/open-storage.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { type S3Proxy, startS3Proxy } from '../harness/s3-proxy.ts'
import { type S3Server, startS3Server, whyNoS3Server } from '../harness/s3-server.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { TIDEMARK, tidemarkOk } from '../harness/tidemark.ts'
import { archiveNow, readMarks, waitUntilPromoted } from './faults-cluster.ts'
import {
  bytesIn,
  expectStop,
  type Recovering,
  spooled,
  startRecovery,
  startsOf,
  waitFor,
  waitForFiller,
  writeWrapper,
} from './spool-recovery.ts'

const MB = 1024 * 1024

interface RepositoryPlan extends StorageSpecification {
  readonly isSealed: boolean
}

interface SceneOptions {
  readonly walSegmentSizeMb: number
  /** So many marks, each in a segment of its own. */
  readonly marks: number
  readonly repositories: (base: string) => Readonly<Record<string, RepositoryPlan>>
}

/** One server that archives into several repositories, and what is restored from each. */
interface Scene {
  readonly base: string
  readonly marks: number
  readonly restored: (repository: string) => string
  readonly wrapper: string
  readonly server: PostgresServer
}

async function makeScene(options: SceneOptions): Promise<Scene> {
  const { walSegmentSizeMb, marks } = options
  const base = temporaryDirectory(undefined, 'tidemark-spool-')
  const config = join(base, 'tidemark.yaml')
  const plans = options.repositories(base)
  const archive = `${TIDEMARK} --config ${config} wal push --cluster main --ahead "%p"`
  const settings = { archive_mode: 'on', archive_command: archive, autovacuum: 'off' }
  const server = await startPostgres({ walSegmentSizeMb, settings })
  for (const [name, plan] of Object.entries(plans)) await create(join(base, `${name}.key`), plan)
  writeFileSync(config, configurationOf(base, plans, server))
  const { runAs } = server
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, base])
  const ok = async (...words: string[]) =>
    await tidemarkOk(['--config', config, ...words], { runAs })
  await server.sql('CREATE TABLE mark (number int)')
  await ok('backup')
  for (let number = 1; number <= marks; number++) await mark(server, number, walSegmentSizeMb)
  await archiveNow(server)
  const restored = (name: string): string => join(base, `restored-${name}`)
  for (const name of Object.keys(plans)) {
    await ok('restore', '--into', restored(name), '--to', 'latest', '--repository', name)
  }
  return { base, marks, restored, wrapper: writeWrapper(base), server }
}

async function create(keyFile: string, { isSealed, ...plan }: RepositoryPlan): Promise<void> {
  const storage = await openStorage(plan)
  await createRepository(storage, new Date(), isSealed)
  if (isSealed) {
    const bytes = Buffer.alloc(32, keyFile)
    writeFileSync(keyFile, bytes, { mode: 0o600 })
    const secret = { kind: 'key-file', bytes, where: 'a test' } as const
    await ensureFirstKey(storage, { secret, label: 'first', createdAt: new Date() })
  }
  await storage.close()
}

function configurationOf(
  base: string,
  plans: Readonly<Record<string, RepositoryPlan>>,
  server: PostgresServer,
): string {
  const repositories = Object.entries(plans).map(([name, { url, s3, isSealed }]) => {
    const encryption = isSealed ? { encryption: { keyFile: join(base, `${name}.key`) } } : {}
    return `  ${name}: ${JSON.stringify({ url, ...s3, ...encryption })}\n`
  })
  const names = Object.keys(plans).join(', ')
  return (
    `repositories:\n${repositories.join('')}clusters:\n  main:\n` +
    `    connection: "${server.url()}"\n    required: [${names}]\n    wal: { index: false }\n`
  )
}

/** A row in a segment of its own; every third one is half full of what cannot be compressed. */
async function mark(server: PostgresServer, number: number, segmentMb: number): Promise<void> {
  if (number % 3 === 0) {
    await server.sql(
      `SELECT pg_logical_emit_message(false, 'x', decode(string_agg(md5(n::text), ''), 'hex'))
         FROM generate_series(1, ${(segmentMb * MB) / 32}) AS n`,
    )
  }
  await server.sql(`INSERT INTO mark VALUES (${number})`)
  await server.sql('SELECT pg_switch_wal()')
}

async function recover(scene: Scene, repository: string): Promise<Recovering> {
  const { base, wrapper } = scene
  return await startRecovery({ base, wrapper, restored: scene.restored(repository), slow: true })
}

interface Watched {
  readonly mostSegments: number
  readonly mostBytes: number
}

/** Looks at the spool until recovery has ended. */
async function watch({ server, directory, spool }: Recovering): Promise<Watched> {
  let [mostSegments, mostBytes] = [0, 0]
  while (server.isRunning() && existsSync(join(directory, 'recovery.signal'))) {
    mostSegments = Math.max(mostSegments, spooled(spool).length)
    mostBytes = Math.max(mostBytes, bytesIn(spool))
    await sleep(10)
  }
  return { mostSegments, mostBytes }
}

async function finish(recovering: Recovering, marks: number): Promise<void> {
  const { server, spool, directory } = recovering
  await waitUntilPromoted(server)
  const all = Array.from({ length: marks }, (_, index) => index + 1)
  assert.deepEqual(await readMarks(server), all)
  await waitFor(() => !existsSync(spool))
  const left = readdirSync(join(directory, 'pg_wal'))
  assert.ok(!left.some((name) => name.includes('tidemark')), left.join(', '))
}

async function restoredBy(server: PostgresServer): Promise<string[]> {
  const lines = (await server.log()).matchAll(/restored log file "([0-9A-F]{24})"/g)
  return Array.from(lines, ([, name = '']) => name)
}

/** Recovers with a look at the spool; the program serves what is asked for before and behind it. */
async function expectSpooled(scene: Scene, name: string, most: number, bytes: number) {
  const recovering = await recover(scene, name)
  const { mostSegments, mostBytes } = await watch(recovering)
  await finish(recovering, scene.marks)
  const restored = await restoredBy(recovering.server)
  await recovering.server.dispose()
  // The last one is asked for twice, and the one behind it.
  const starts = startsOf(scene.base)
  const served = starts.filter((line) => restored.some((segment) => line.includes(segment)))
  const fromSpool = restored.length - served.length
  assert.ok(restored.length > most + 1, `${restored.length} segments`)
  assert.ok(fromSpool > restored.length / 3, `${fromSpool} of ${restored.length}\n${starts}`)
  assert.ok(mostSegments > 0 && mostSegments <= most, `${mostSegments} segments at once`)
  assert.ok(mostBytes <= bytes, `${mostBytes} bytes`)
}

describe('sealed in an S3 store', { skip: whyNoS3Server() ?? false }, () => {
  let store: S3Server
  let proxy: S3Proxy
  let scene: Scene

  before(async () => {
    store = await startS3Server()
    proxy = await startS3Proxy(store.endpoint)
    const bucket = await store.createBucket()
    const s3 = { ...store.settings, endpoint: proxy.endpoint }
    scene = await makeScene({
      walSegmentSizeMb: 1,
      marks: 18,
      repositories: () => ({
        sealed: { url: `s3://${bucket}/sealed`, s3, isSealed: true },
      }),
    })
  })

  after(async () => {
    await scene?.server.dispose()
    await proxy?.stop()
    await store?.stop()
    if (scene !== undefined) await removeDirectory(scene.base)
  })

  test('segments come from the spool, and nothing is left of it', async () => {
    await expectSpooled(scene, 'sealed', 16, 16 * MB)
  })

  test('the store goes away: recovery stops with the reason, and goes on later', async () => {
    const recovering = await recover(scene, 'sealed')
    await waitForFiller(recovering.spool)
    proxy.spoil(() => ({ kind: 'lose-answer' }))
    try {
      await expectStop(recovering, /TM1509/)
      const { length } = await restoredBy(recovering.server)
      assert.ok(length > 0 && length < scene.marks, `${length} of ${scene.marks}`)
    } finally {
      proxy.spoil(() => undefined)
    }
    await recovering.server.start()
    await finish(recovering, scene.marks)
    await recovering.server.dispose()
  })
})

describe('sealed segments of 64 MB', () => {
  let scene: Scene

  before(async () => {
    scene = await makeScene({
      walSegmentSizeMb: 64,
      marks: 6,
      repositories: (base) => ({
        sealed: { url: `file://${join(base, 'sealed')}`, isSealed: true },
      }),
    })
  })

  after(async () => {
    await scene?.server.dispose()
    if (scene !== undefined) await removeDirectory(scene.base)
  })

  test('at most four are in the spool, and most are taken from there', async () => {
    await expectSpooled(scene, 'sealed', 4, 4 * 64 * MB)
  })
})
