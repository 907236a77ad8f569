/**
 * The frozen repository of format 1, sealed once (make-encrypted-repository.ts): what the code of
 * today, and the reader that shares no code with it, make of it with each of its keys.
 */
import assert from 'node:assert/strict'
import { cpSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { KeySecret } from '../../src/repository/key-slots.ts'
import { REPOSITORY_KEY } from '../../src/repository/keys.ts'
import { listKeyUse } from '../../src/repository/rewrite-objects.ts'
import { unlockRepository } from '../../src/repository/unlock.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { openSealedStorage } from '../../src/storage/sealed-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { collect } from '../harness/faulty-storage.ts'
import { rescueReaderMissing, unseal } from '../harness/rescue-reader.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'

const FIXTURES = fileURLToPath(new URL('../fixtures/', import.meta.url))
const FROZEN = join(FIXTURES, 'repository-format-1-encrypted')
const PLAIN = join(FIXTURES, 'repository-format-1/repository')
const NAMES = ['key', 'early', 'late'] as const

let directory: string
let repository: string
let storage: Storage

before(async () => {
  directory = temporaryDirectory()
  repository = join(directory, 'repository')
  cpSync(join(FROZEN, 'repository'), repository, { recursive: true })
  storage = await openStorage({ url: `file://${repository}` })
})

after(async () => await removeDirectory(directory))

function secretOf(name: (typeof NAMES)[number]): KeySecret {
  const text = readFileSync(join(FROZEN, `${name}.secret`), 'utf8').trim()
  const kind = name === 'key' ? 'key-file' : 'passphrase'
  return { kind, bytes: Buffer.from(text), where: name }
}

for (const name of NAMES) {
  test(`every object is what it was, by ${name}`, async () => {
    const sealed = openSealedStorage(storage, await unlockRepository(storage, secretOf(name)))
    const objects = await collect(sealed.list('clusters/'))
    assert.equal(objects.length, 14)
    for (const { key, sizeBytes } of objects) {
      const expected = readFileSync(join(PLAIN, key))
      assert.equal(sizeBytes, expected.length, key)
      assert.ok(expected.equals((await sealed.read(key)) ?? Buffer.from('absent')), key)
      const part = await sealed.readRange(key, 7, 1000)
      assert.ok(expected.subarray(7, 1007).equals(part ?? Buffer.from('absent')), key)
    }
    const uses = new Set((await collect(listKeyUse(sealed, ''))).map(({ keyId }) => keyId))
    assert.equal(uses.size, 2)
  })

  test(`unseal.py opens it by ${name}`, { skip: rescueReaderMissing() }, async () => {
    const into = join(directory, `by-${name}`)
    const option = name === 'key' ? '--key-file' : '--passphrase-file'
    const opened = await unseal(repository, into, option, join(FROZEN, `${name}.secret`))
    assert.equal(opened.status, 0, opened.stderr)
    const files = readdirSync(PLAIN, { recursive: true, withFileTypes: true })
    const keys = files.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name))
    for (const path of keys.filter((one) => !one.endsWith(REPOSITORY_KEY))) {
      const copy = join(into, path.slice(PLAIN.length))
      assert.ok(readFileSync(path).equals(readFileSync(copy)), path)
    }
  })
}
