/** `URL SYSTEM MAJOR`: an empty repository that knows the server, made by the server's user. */
import { createRepository } from '../../src/repository/repository.ts'
import { ensureSystemIdentity } from '../../src/repository/system-identity.ts'
import { openStorage } from '../../src/storage/open-storage.ts'

const [, , url = '', systemIdentifier = '', major = ''] = process.argv
const storage = await openStorage({ url })
await createRepository(storage, new Date())
await ensureSystemIdentity(storage, 'main', {
  systemIdentifier,
  major: Number(major),
  walSegmentSizeBytes: 16 * 1024 * 1024,
  createdAt: new Date().toISOString(),
})
