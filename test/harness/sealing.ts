/** Keys of an encrypted repository for tests that need no slots: one data key, made at once. */
import { createHash } from 'node:crypto'
import {
  type DataKey,
  formatKeyObject,
  generationKey,
  makeDataKey,
  type Sealing,
} from '../../src/storage/data-keys.ts'

/** The same for the same name. */
export function testDataKey(name: string, generation = 1): DataKey {
  return makeDataKey(generation, createHash('sha256').update(name).digest())
}

export function testSealing(name = 'test', repositoryId = '0'.repeat(32)): Sealing {
  const slotKey = createHash('sha256').update(`slot ${name}`).digest('hex')
  return { repositoryId, slotId: '0'.repeat(16), slotKey, keys: [testDataKey(name)] }
}

/** The objects of the generations of a sealing, which open for no slot. */
export function testGenerations({ repositoryId, keys }: Sealing): Map<string, Uint8Array> {
  return new Map(
    keys.map((key) => {
      const { generation, id: keyId } = key
      const rest = { createdAt: '', previous: [], wraps: [] }
      const content = { format: 1, repositoryId, generation, keyId, ...rest }
      return [generationKey(generation), formatKeyObject(content, key)]
    }),
  )
}
