/**
 * Wrote test/fixtures/repository-format-1-encrypted once: the frozen repository of format 1,
 * sealed. The first half of its objects under generation 1, the rest under generation 2; a key
 * file that opened it first, a passphrase that was added before the rotation, and one that
 * joined after it. Not to be run again: what it wrote stays for ever.
 *
 *     node test/golden/make-encrypted-repository.ts
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { addSlot, rotateDataKey } from '../../src/repository/change-keys.ts'
import type { KeySecret } from '../../src/repository/key-slots.ts'
import { REPOSITORY_KEY } from '../../src/repository/keys.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { ensureFirstKey, unlockRepository } from '../../src/repository/unlock.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { openSealedStorage } from '../../src/storage/sealed-storage.ts'
import { collect } from '../harness/faulty-storage.ts'

const FIXTURES = fileURLToPath(new URL('../fixtures/', import.meta.url))
const TARGET = join(FIXTURES, 'repository-format-1-encrypted')
const AT = new Date('2026-11-21T00:00:00Z')

const SECRETS = {
  key: '7d1f0c6e5b2a49388e7f60514233241506f7e8d9cabbac9d8e7f605142332415',
  early: 'an early passphrase',
  late: 'a late passphrase',
}

function secretOf(name: keyof typeof SECRETS): KeySecret {
  const kind = name === 'key' ? 'key-file' : 'passphrase'
  return { kind, bytes: Buffer.from(SECRETS[name]), where: name }
}

if (existsSync(TARGET)) throw new Error(`${TARGET} is there, and frozen`)
mkdirSync(TARGET)
for (const [name, text] of Object.entries(SECRETS)) {
  writeFileSync(join(TARGET, `${name}.secret`), `${text}\n`)
}
const plain = await openStorage({
  url: `file://${join(FIXTURES, 'repository-format-1/repository')}`,
})
const storage = await openStorage({ url: `file://${join(TARGET, 'repository')}` })
await createRepository(storage, AT, true)
const first = { secret: secretOf('key'), label: 'first', createdAt: AT }
await ensureFirstKey(storage, first)
const early = { secret: secretOf('early'), label: 'early', createdAt: AT }
await addSlot(storage, await unlockRepository(storage, first.secret), early)
const objects = (await collect(plain.list(''))).filter(({ key }) => key !== REPOSITORY_KEY)
for (const [index, { key }] of objects.entries()) {
  if (index === Math.floor(objects.length / 2)) {
    await rotateDataKey(storage, await unlockRepository(storage, first.secret), AT)
    const late = { secret: secretOf('late'), label: 'late', createdAt: AT }
    await addSlot(storage, await unlockRepository(storage, first.secret), late)
  }
  const sealed = openSealedStorage(storage, await unlockRepository(storage, first.secret))
  await sealed.write(key, readFileSync(join(FIXTURES, 'repository-format-1/repository', key)))
}
