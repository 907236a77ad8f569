/**
 * Recovery that takes its WAL from the spool, and what becomes of it when the filler is killed or
 * hangs, the repository goes away, or the machine crashes: recovery ends at the right
 * place, or stops with the reason and ends there once the fault is mended.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { PostgresServer } from '../harness/postgres-server.ts'
import { checkInvariant } from '../harness/workload.ts'
import {
  archiveNow,
  type FaultCluster,
  flipBit,
  inTheMiddle,
  readMarks,
  spoil,
  startFaultCluster,
  waitUntilPromoted,
} from './faults-cluster.ts'
import {
  expectStop,
  isAlive,
  type Recovering,
  spooled,
  startRecovery,
  startsOf,
  waitFor,
  waitForFiller,
  writeWrapper,
} from './spool-recovery.ts'

const ALL = Array.from({ length: 16 }, (_, index) => index + 1)

let cluster: FaultCluster
/** Of each mark: the segment that holds its commit. */
const segments: string[] = []
/** Restored once; every test works on a copy. */
let restored = ''
/** Stands for Node.js and notes what it is started with. */
let wrapper = ''

before(async () => {
  cluster = await startFaultCluster({ walSegmentSizeMb: 1 })
  await cluster.backup()
  for (const number of ALL) segments.push(await mark(number))
  await archiveNow(cluster.server)
  restored = cluster.path("it's restored")
  await cluster.ok('restore', '--into', restored, '--to', 'latest')
  wrapper = writeWrapper(cluster.base)
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

/** A row in a segment of its own; it is not waited for. */
async function mark(number: number): Promise<string> {
  const { server } = cluster
  await server.sql(`INSERT INTO mark VALUES (${number})`)
  const [row] = await server.sql<{ name: string }>(
    'SELECT pg_walfile_name(pg_current_wal_lsn()) AS name',
  )
  await server.sql('SELECT pg_switch_wal()')
  return row?.name ?? ''
}

const recover = async (slow: boolean): Promise<Recovering> =>
  await startRecovery({ base: cluster.base, restored, wrapper, slow })

async function expectAll(server: PostgresServer): Promise<void> {
  await waitUntilPromoted(server)
  await checkInvariant(server)
  assert.deepEqual(await readMarks(server), ALL)
}

async function finish({ server, spool, directory }: Recovering): Promise<void> {
  await expectAll(server)
  await waitFor(() => !existsSync(spool))
  const left = readdirSync(join(directory, 'pg_wal'))
  assert.ok(!left.some((name) => name.includes('tidemark')), left.join(', '))
  await server.dispose()
}

test('segments come from the spool without the program, and nothing is left of it', async () => {
  const recovering = await recover(true)
  const filler = await waitForFiller(recovering.spool)
  await finish(recovering)
  const forSegments = startsOf(cluster.base)
  assert.ok(forSegments.length <= 6, forSegments.join('\n'))
  await waitFor(() => !isAlive(filler))
})

test('at full speed all of it arrives as well', async () => {
  await finish(await recover(false))
})

test('the filler is killed', async () => {
  const recovering = await recover(true)
  process.kill(await waitForFiller(recovering.spool), 'SIGKILL')
  await finish(recovering)
})

test('the filler hangs, and goes on when all is over', async () => {
  const recovering = await recover(true)
  const filler = await waitForFiller(recovering.spool)
  process.kill(filler, 'SIGSTOP')
  for (const name of spooled(recovering.spool)) rmSync(join(recovering.spool, name))
  // Whatever it is at is on its way for ever.
  for (const segment of segments) {
    writeFileSync(join(recovering.spool, `${segment}.coming`), '')
  }
  await expectAll(recovering.server)
  process.kill(filler, 'SIGCONT')
  await waitFor(() => !isAlive(filler))
  await finish(recovering)
})

test('the repository goes away: recovery stops with the reason, and can go on', async () => {
  const recovering = await recover(true)
  await waitForFiller(recovering.spool)
  const away = `${cluster.repository}.away`
  renameSync(cluster.repository, away)
  try {
    // What the filler has is taken; the first one that it has not stops recovery.
    for (const name of spooled(recovering.spool).slice(1)) {
      rmSync(join(recovering.spool, name), { force: true })
    }
    await expectStop(recovering, /TM150\d|TM1407/)
  } finally {
    renameSync(away, cluster.repository)
  }
  await recovering.server.start()
  await finish(recovering)
})

test('a damaged segment stops recovery at its place', async () => {
  const victim = segments[8] ?? ''
  const undo = spoil(cluster.segmentFile(victim), flipBit(inTheMiddle))
  const recovering = await recover(false)
  try {
    await expectStop(recovering, new RegExp(`TM1601.*${victim}`))
  } finally {
    undo()
  }
  await recovering.server.start()
  await finish(recovering)
})

test('a spool that a crash has torn is not taken from', async () => {
  const recovering = await recover(true)
  const { server, spool } = recovering
  const filler = await waitForFiller(spool)
  await waitFor(() => spooled(spool).length > 2)
  process.kill(filler, 'SIGKILL')
  await server.stop('immediate')
  const names = spooled(spool)
  assert.ok(names.length > 0)
  for (const [index, name] of names.entries()) {
    if (index % 2 === 0) truncateSync(join(spool, name), 1000)
    else writeFileSync(join(spool, name), Buffer.alloc(1024 * 1024))
  }
  await server.start()
  await finish(recovering)
})
