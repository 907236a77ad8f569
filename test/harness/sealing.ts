/** Keys of an encrypted repository for tests that need no slots: one data key, made at once. */
import { createHash } from 'node:crypto'
import { type DataKey, makeDataKey, type Sealing } from '../../src/storage/data-keys.ts'

/** The same for the same name. */
export function testDataKey(name: string, generation = 1): DataKey {
  return makeDataKey(generation, createHash('sha256').update(name).digest())
}

export function testSealing(name = 'test', repositoryId = '0'.repeat(32)): Sealing {
  const slotKey = createHash('sha256').update(`slot ${name}`).digest('hex')
  return { repositoryId, slotId: '0'.repeat(16), slotKey, keys: [testDataKey(name)] }
}
