/** `key rotate --rewrite`: when it ends what was begun, and when it makes a new key. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { addSlot, removeSlot, rotateDataKey } from '../../src/repository/change-keys.ts'
import type { KeySecret } from '../../src/repository/key-slots.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { ensureFirstKey, unlockRepository } from '../../src/repository/unlock.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import { openSealedStorage } from '../../src/storage/sealed-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { damageObject } from '../harness/faulty-storage.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { tidemark } from '../harness/tidemark.ts'

const AT = new Date('2026-11-21T00:00:00Z')
const KEY: KeySecret = { kind: 'key-file', bytes: Buffer.alloc(40, 'k'), where: '' }
const OTHER: KeySecret = { kind: 'key-file', bytes: Buffer.alloc(40, 'o'), where: '' }

interface RotateJson {
  readonly rotated: { readonly generation: number; readonly slots: readonly string[] } | null
  readonly rewritten: { readonly objects: number; readonly damaged: readonly unknown[] }
}

interface Place {
  readonly storage: Storage
  open(): Promise<Storage>
  rotate(status: number): Promise<RotateJson>
}

async function withPlace(use: (place: Place) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory(undefined, 'tidemark-rotate-')
  const url = `file://${join(directory, 'repository')}`
  const [config, keyFile] = [join(directory, 'tidemark.yaml'), join(directory, 'key')]
  writeFileSync(keyFile, KEY.bytes)
  const repository = `{ url: '${url}', encryption: { keyFile: ${keyFile} } }`
  const clusters = 'clusters: { main: { connection: "postgresql:///x" } }'
  writeFileSync(config, `repositories: { local: ${repository} }\n${clusters}\n`)
  try {
    const storage = await openStorage({ url })
    await createRepository(storage, AT, true)
    await ensureFirstKey(storage, { secret: KEY, label: '', createdAt: AT })
    const open = async () => openSealedStorage(storage, await unlockRepository(storage, KEY))
    const rotate = async (status: number): Promise<RotateJson> => {
      const result = await tidemark(['--config', config, '--json', 'key', 'rotate', '--rewrite'])
      assert.equal(result.status, status, `${result.stdout}${result.stderr}`)
      return result.json<RotateJson>()
    }
    await use({ storage, open, rotate })
  } finally {
    await removeDirectory(directory)
  }
}

async function writeSome(storage: Storage): Promise<void> {
  for (const name of ['a', 'b', 'c']) {
    await storage.write(`clusters/main/wal/${name}`, Buffer.alloc(1000, name))
  }
}

test('what was begun is ended without another key; then there is one', async () => {
  await withPlace(async ({ storage, open, rotate }) => {
    await writeSome(await open())
    await rotateDataKey(storage, await unlockRepository(storage, KEY), AT)
    const ended = await rotate(0)
    assert.deepEqual([ended.rotated, ended.rewritten.objects], [null, 3])
    const next = await rotate(0)
    assert.deepEqual([next.rotated?.generation, next.rewritten.objects], [3, 3])
  })
})

test('damage under an older key keeps no new key from being made', async () => {
  await withPlace(async ({ storage, open, rotate }) => {
    await writeSome(await open())
    await damageObject(storage, 'clusters/main/wal/b', { kind: 'flip-bit', byte: 500 })
    const first = await rotate(3)
    assert.deepEqual([first.rotated?.generation, first.rewritten.objects], [2, 2])
    const second = await rotate(3)
    assert.deepEqual([second.rotated?.generation, second.rewritten.objects], [3, 2])
    assert.equal(second.rewritten.damaged.length, 1)
  })
})

test('after a slot was removed a new key is made, whatever was begun before', async () => {
  await withPlace(async ({ storage, open, rotate }) => {
    await writeSome(await open())
    const first = await unlockRepository(storage, KEY)
    const slot = await addSlot(storage, first, { secret: OTHER, label: '', createdAt: AT })
    const { sealing } = await rotateDataKey(storage, first, AT)
    await removeSlot(storage, sealing, slot.id)
    const { rotated, rewritten } = await rotate(0)
    assert.equal(rotated?.generation, 3)
    assert.ok(!rotated.slots.includes(slot.id))
    assert.equal(rewritten.objects, 3)
  })
})
