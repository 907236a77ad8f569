/** verify of an encrypted repository: every change of a sealed object is found, and named. */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { createRepository } from '../../src/repository/repository.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { openSealedStorage, isSealedKey } from '../../src/storage/sealed-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { testDataKey, testGenerations, testSealing } from '../harness/sealing.ts'
import { makeRepository, type Objects, verifyStorage } from './verify-repository.ts'

/** As they are stored, sealed. */
let sealed: Objects
let repositoryId: string

const openOver = (objects: Objects): Storage =>
  openSealedStorage(openMemoryStorage(objects), testSealing('test', repositoryId))

before(async () => {
  const plain = (await makeRepository()).objects
  sealed = new Map()
  const created = await createRepository(openMemoryStorage(sealed), new Date(0), true)
  repositoryId = created.repositoryId
  const sealing = testSealing('test', repositoryId)
  for (const [key, bytes] of testGenerations(sealing)) sealed.set(key, bytes)
  const storage = openOver(sealed)
  for (const [key, bytes] of plain) if (isSealedKey(key)) await storage.write(key, bytes)
})

test('an encrypted repository is proved as a plain one is', async () => {
  // A copy: what verify remembers of it is no object to be proved.
  const { findings, backups } = await verifyStorage(openOver(new Map(sealed)))
  assert.deepEqual(findings, [])
  assert.equal(backups, 2)
})

async function assertFound(key: string, bytes: Uint8Array, what: string): Promise<void> {
  const { findings } = await verifyStorage(openOver(new Map(sealed).set(key, bytes)))
  const found = findings.map((finding) => finding.key)
  assert.ok(found.includes(key), `${what} of ${key}: ${found.join()}`)
}

test('a bit flipped in header, first and last block of every object is found', async () => {
  for (const [key, whole] of [...sealed].filter(([name]) => isSealedKey(name))) {
    for (const at of [0, 9, 20, 40, 64, whole.length >> 1, whole.length - 1]) {
      const changed = new Uint8Array(whole)
      changed[at] = (changed[at] as number) ^ (1 << (at % 8))
      await assertFound(key, changed, `byte ${at}`)
    }
  }
})

function secondGeneration(): Uint8Array {
  const sealing = testSealing('test', repositoryId)
  const keys = [testDataKey('second', 2)]
  return testGenerations({ ...sealing, keys }).get('keys/00000002.key') as Uint8Array
}

test('a damaged or missing key is found', async () => {
  for (const [key, whole] of testGenerations(testSealing('test', repositoryId))) {
    for (let at = 0; at < whole.length - 100; at += 9) {
      const changed = new Uint8Array(whole)
      changed[at] = (changed[at] as number) ^ 2
      await assertFound(key, changed, `byte ${at}`)
    }
    const objects = new Map(sealed)
    objects.set('keys/00000002.key', whole)
    const { findings } = await verifyStorage(openOver(objects))
    assert.deepEqual(
      findings.map((finding) => finding.key),
      ['keys/00000002.key'],
      'it is another generation',
    )
    objects.delete('keys/00000002.key')
    objects.set('keys/00000002.key', secondGeneration())
    objects.delete(key)
    const { findings: gone } = await verifyStorage(openOver(objects))
    assert.deepEqual(
      gone.map(({ code, ...finding }) => [code, finding.key]),
      [['TM1602', key]],
    )
  }
})

test('an object that is cut, emptied, in the clear or of another name is found', async () => {
  const open = openOver(sealed)
  for (const [key, whole] of [...sealed].filter(([name]) => isSealedKey(name))) {
    for (const length of [0, 30, 64, whole.length - 1]) {
      await assertFound(key, whole.subarray(0, length), `cut at ${length}`)
    }
    await assertFound(key, (await open.read(key)) as Uint8Array, 'the plain content')
    const other = [...sealed].find(([name]) => isSealedKey(name) && name !== key)
    await assertFound(key, other?.[1] as Uint8Array, 'the seal of another')
  }
})
