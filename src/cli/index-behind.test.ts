/** `archive_command` as a process, and the indexer that it leaves behind. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { TIDEMARK } from '../../test/harness/tidemark.ts'
import {
  makeWaitingDirectory,
  type WaitingDirectory,
  waitingSegment,
} from '../../test/harness/waiting-directory.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { listIndexes } from '../events/index-wal.ts'
import { createRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openStorage } from '../storage/open-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { formatArchiveCommand } from './archive-command.ts'

const ID = SYSTEM.toString()

async function makePlace(wal = '{}'): Promise<{ storage: Storage; command: string }> {
  const base = temporaryDirectory()
  const storage = await openStorage({ url: `file://${base}/repository` })
  await createRepository(storage, new Date())
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  const configuration = join(base, 'tidemark.yaml')
  const cluster = `{ connection: 'postgresql:///x', wal: ${wal} }`
  writeFileSync(
    configuration,
    `repositories: { local: { url: '${storage.url}' } }\nclusters: { main: ${cluster} }\n`,
  )
  return {
    storage,
    command: formatArchiveCommand({ program: TIDEMARK, configuration, cluster: 'main' }),
  }
}

function put(directory: WaitingDirectory, ...numbers: number[]): string[] {
  return numbers.map((number) => {
    const { name, content } = waitingSegment(BigInt(number))
    directory.put(name, content)
    return name
  })
}

/** Process ids of the shell and the program that were left behind for this directory. */
function behind({ data }: WaitingDirectory): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        if (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('--index-noted')) return false
        return readlinkSync(`/proc/${pid}/cwd`) === data
      } catch {
        return false
      }
    })
}

async function waitUntil(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let waited = 0; waited < 600; waited++) {
    if (await holds()) return
    await sleep(50)
  }
  assert.fail(what)
}

test('what was pushed gets its index after the push has ended, and nothing stays', async () => {
  const { storage, command } = await makePlace()
  const directory = makeWaitingDirectory("it's a place")
  const names = put(directory, 1, 2, 3)
  assert.equal(await directory.archive(command), undefined)
  const hasAll = async (): Promise<boolean> => {
    const found = await listIndexes(storage, { cluster: 'main', systemIdentifier: ID })
    return names.every((name) => found.has(name))
  }
  await waitUntil(hasAll, 'no index')
  await waitUntil(() => behind(directory).length === 0, 'a process stays')
  assert.deepEqual(readdirSync(join(directory.data, 'tidemark.acks/index')), ['server'])
})

test('killed with -9: the next push starts another one', async () => {
  const { storage, command } = await makePlace()
  const directory = makeWaitingDirectory()
  const [first = ''] = put(directory, 1)
  assert.equal(await directory.archive(command), undefined)
  await waitUntil(
    () => !existsSync(join(directory.data, 'tidemark.acks/index', first)),
    'not taken',
  )
  const killed = behind(directory)
  for (const pid of killed) process.kill(pid, 'SIGKILL')
  const [second = ''] = put(directory, 2)
  assert.equal(await directory.archive(command), undefined)
  const archive = { cluster: 'main', systemIdentifier: ID }
  await waitUntil(async () => (await listIndexes(storage, archive)).has(second), 'no index')
})

test('index: false, and a file that lies in no data directory of ours: nothing', async () => {
  const off = await makePlace('{ index: false }')
  const directory = makeWaitingDirectory()
  put(directory, 1, 2)
  assert.equal(await directory.archive(off.command), undefined)
  assert.ok(existsSync(join(directory.data, 'tidemark.acks')))
  assert.ok(!existsSync(join(directory.data, 'tidemark.acks/index')))
  const plain = (await makePlace()).command.replace(/^.*?\|\| /, '').replace(' --ahead', '')
  rmSync(join(directory.data, 'tidemark.acks'), { recursive: true })
  put(directory, 3)
  assert.equal(await directory.archive(plain), undefined)
  assert.ok(!existsSync(join(directory.data, 'tidemark.acks')))
  assert.deepEqual(behind(directory), [])
})
