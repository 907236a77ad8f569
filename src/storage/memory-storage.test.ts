import { describeStorageContract } from '../../test/harness/storage-contract.ts'
import { openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { openMemoryStorage } from './memory-storage.ts'

describeStorageContract('memory', async () => {
  const objects = new Map<string, Uint8Array>()
  return {
    storage: openMemoryStorage(objects),
    openAgain: async () => openMemoryStorage(objects),
    dispose: async () => undefined,
  }
})

describeStorageContract('a faulty storage without faults', async () => {
  const objects = new Map<string, Uint8Array>()
  return {
    storage: openFaultyStorage(openMemoryStorage(objects)),
    openAgain: async () => openFaultyStorage(openMemoryStorage(objects)),
    dispose: async () => undefined,
  }
})
