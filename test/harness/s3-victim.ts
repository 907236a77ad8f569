/** Begins a multipart upload, says so, and waits to be killed. */
import { setTimeout as sleep } from 'node:timers/promises'
import { openStorage, type StorageSpecification } from '../../src/storage/open-storage.ts'

const specification = JSON.parse(process.argv[2] ?? '') as StorageSpecification
const storage = await openStorage(specification)
const writer = await storage.openWriter('killed')
writer.append([Buffer.alloc(20 * 1024 * 1024, 1)])
process.stdout.write('begun\n')
await sleep(60_000)
