import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../base/failure.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import {
  ensureSystemIdentity,
  findSystemIdentity,
  listSystemIdentities,
  readSystemIdentity,
  systemKey,
} from './system-identity.ts'

const IDENTITY = {
  systemIdentifier: '7400000000000000001',
  major: 15,
  walSegmentSizeBytes: 16 * 1024 * 1024,
  createdAt: '2026-11-21T00:00:00.000Z',
}

const fails = (code: string) => (error: unknown) =>
  error instanceof Failure && error.code === code && error.fix !== ''

test('a server is introduced once, and the first description stays', async () => {
  const storage = openMemoryStorage()
  assert.equal(await findSystemIdentity(storage, 'main', IDENTITY.systemIdentifier), undefined)
  const unknown = readSystemIdentity(storage, 'main', IDENTITY.systemIdentifier)
  await assert.rejects(unknown, fails('TM1407'))
  const later = { ...IDENTITY, createdAt: '2027-01-01T00:00:00.000Z' }
  const both = [IDENTITY, later].map((one) => ensureSystemIdentity(storage, 'main', one))
  const [first, second] = await Promise.all(both)
  assert.deepEqual(first, second)
  assert.deepEqual(await listSystemIdentities(storage, 'main'), [first])
  assert.deepEqual(await listSystemIdentities(storage, 'other'), [])
})

test('the same identifier with another segment size or major is refused', async () => {
  const storage = openMemoryStorage()
  await ensureSystemIdentity(storage, 'main', IDENTITY)
  for (const change of [{ major: 16 }, { walSegmentSizeBytes: 1024 * 1024 }]) {
    const changed = ensureSystemIdentity(storage, 'main', { ...IDENTITY, ...change })
    await assert.rejects(changed, fails('TM1407'))
  }
})

test('a damaged identity is damage, not absence', async () => {
  const storage = openMemoryStorage()
  const id = IDENTITY.systemIdentifier
  const other = JSON.stringify({ ...IDENTITY, systemIdentifier: '1' })
  for (const content of ['', '{', 'null', '{}', other]) {
    await storage.write(systemKey('main', id), Buffer.from(content))
    await assert.rejects(findSystemIdentity(storage, 'main', id), fails('TM1601'), content)
  }
})
