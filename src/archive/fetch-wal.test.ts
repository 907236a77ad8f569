/** A hole that is one for a moment, while several segments are being stored at once. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { waitingSegment } from '../../test/harness/waiting-directory.ts'
import type { Failure } from '../base/failure.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { type FetchWalOptions, fetchWalFile } from './fetch-wal.ts'
import { segmentKey } from './wal-file-name.ts'
import { encodeWalObject } from './wal-object.ts'

const ID = SYSTEM.toString()
const nameOf = (number: bigint): string => waitingSegment(number).name

/** Tells how often a segment was asked for. */
class Asked extends ForwardingStorage {
  readonly asked: string[] = []

  override async read(key: string): Promise<Uint8Array | undefined> {
    this.asked.push(key)
    return await super.read(key)
  }
}

async function makeStorage(...numbers: bigint[]): Promise<Asked> {
  const storage = new Asked(openMemoryStorage())
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(storage, 'main', identity)
  for (const number of numbers) await archive(storage, number)
  return storage
}

async function archive(storage: Storage, number: bigint): Promise<void> {
  const { name, content } = waitingSegment(number)
  const object = { systemIdentifier: ID, name, headerTimeline: 1, content }
  await storage.write(segmentKey('main', ID, name), encodeWalObject(object))
}

function request(storages: readonly Storage[], options: Partial<FetchWalOptions> = {}) {
  const destination = join(temporaryDirectory(), 'RECOVERYXLOG')
  const place = { cluster: 'main', systemIdentifier: ID, name: nameOf(2n), destination }
  return { storages, ...place, holePatienceMs: 60_000, ...options }
}

async function untilAskedAgain(storage: Asked): Promise<void> {
  while (storage.asked.filter((key) => key.includes(nameOf(2n))).length < 3) await sleep(5)
}

test('a segment that arrives behind a later one is handed out', async () => {
  const storage = await makeStorage(1n, 3n)
  const asked = request([storage])
  const fetching = fetchWalFile(asked)
  await untilAskedAgain(storage)
  await archive(storage, 2n)
  assert.equal(await fetching, 'fetched')
  assert.deepEqual(readFileSync(asked.destination), waitingSegment(2n).content)
})

test('it may arrive in the other repository', async () => {
  const [first, second] = [await makeStorage(1n, 3n), await makeStorage(1n, 3n)]
  const fetching = fetchWalFile(request([first, second]))
  await untilAskedAgain(second)
  await archive(second, 2n)
  assert.equal(await fetching, 'fetched')
})

test('a hole that lasts is told once, and stays one when what was behind it goes', async () => {
  const warnings: Failure[] = []
  const onWarning = (failure: Failure): void => void warnings.push(failure)
  const storages = [await makeStorage(1n, 3n), await makeStorage(1n, 3n)]
  const lasting = request(storages, { holePatienceMs: 400, onWarning })
  await assert.rejects(fetchWalFile(lasting), { code: 'TM1408' })
  assert.deepEqual(
    warnings.map(({ code }) => code),
    ['TM1408'],
    'that of the second repository',
  )
  const storage = await makeStorage(1n, 3n)
  const going = request([storage], { holePatienceMs: 1000 })
  const fetching = fetchWalFile(going)
  fetching.catch(() => {})
  await untilAskedAgain(storage)
  await storage.remove(segmentKey('main', ID, nameOf(3n)))
  await assert.rejects(fetching, { code: 'TM1408' })
  assert.ok(!existsSync(going.destination))
})

test('the end of WAL, damage and what may be absent are not waited for', async () => {
  const looks = async (storage: Asked, options: Partial<FetchWalOptions> = {}) => {
    const outcome = await fetchWalFile(request([storage], options)).catch(({ code }) => code)
    return [outcome, storage.asked.filter((key) => key.includes(nameOf(2n))).length]
  }
  assert.deepEqual(await looks(await makeStorage(1n)), ['absent', 1])
  assert.deepEqual(await looks(await makeStorage(1n, 3n), { holes: 'absent' }), ['absent', 1])
  const damaged = await makeStorage(1n, 3n)
  await damaged.write(segmentKey('main', ID, nameOf(2n)), Buffer.from('nothing'))
  assert.deepEqual(await looks(damaged), ['TM1601', 1])
})
