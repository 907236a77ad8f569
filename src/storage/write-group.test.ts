import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type FaultyStorage, openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { type Failure, isFailure } from '../base/failure.ts'
import { openMemoryStorage } from './memory-storage.ts'
import { WriteGroup } from './write-group.ts'

const PIECE = new Uint8Array([1, 2, 3])

interface Scene {
  readonly group: WriteGroup
  readonly storages: readonly FaultyStorage[]
  readonly dropped: { readonly member: number; readonly failure: Failure }[]
}

/** `required`: of each member. */
function makeScene(required: readonly boolean[]): Scene {
  const storages = required.map(() => openFaultyStorage(openMemoryStorage()))
  const dropped: { member: number; failure: Failure }[] = []
  const group = new WriteGroup(
    storages.map((storage, member) => ({ storage, required: required[member] === true })),
    (member, failure) => void dropped.push({ member, failure }),
  )
  return { group, storages, dropped }
}

async function writeObject({ group }: Scene, key: string): Promise<void> {
  const writer = await group.openWriter(key)
  writer.append([PIECE])
  await writer.commit()
}

test('an object appears in all members', async () => {
  const scene = makeScene([true, false])
  await writeObject(scene, 'a/b')
  for (const storage of scene.storages) assert.deepEqual(await storage.read('a/b'), PIECE)
})

test('a member alone is written to without the group', () => {
  const { group, storages } = makeScene([true])
  assert.equal(group.writers, storages[0])
})

for (const [at, call] of ['openWriter', 'append', 'commit'].entries()) {
  test(`one that fails at ${call} is dropped, and asked for nothing more`, async () => {
    const scene = makeScene([true, false])
    scene.storages[1]?.addFault({ at: at + 1, kind: 'full' })
    await writeObject(scene, 'one')
    await writeObject(scene, 'two')
    assert.deepEqual(
      scene.dropped.map(({ member, failure }) => [member, failure.code]),
      [[1, 'TM1506']],
    )
    assert.deepEqual(scene.group.living(), [0])
    assert.deepEqual(await scene.storages[0]?.read('two'), PIECE)
    const after = scene.storages[1]?.trace.slice(at + 1).map(({ operation }) => operation)
    assert.deepEqual(after, call === 'append' ? ['abort'] : [])
  })

  test(`a required one that fails at ${call} fails for all`, async () => {
    const scene = makeScene([true, true])
    scene.storages[1]?.addFault({ at: at + 1, kind: 'full' })
    await assert.rejects(writeObject(scene, 'one'), (error) => isFailure(error, 'TM1506'))
    if (call !== 'openWriter') return
    // What was opened in the other is given up.
    assert.deepEqual(
      scene.storages[0]?.trace.map(({ operation }) => operation),
      ['openWriter', 'abort'],
    )
  })
}

test('the last one that is left fails for all, though it is not required', async () => {
  const scene = makeScene([false, false])
  scene.storages[0]?.addFault({ at: 1, kind: 'refused' })
  await writeObject(scene, 'one')
  scene.storages[1]?.addFault({ at: 4, kind: 'full' })
  await assert.rejects(writeObject(scene, 'two'), (error) => isFailure(error, 'TM1506'))
})

test('what one thread drops, others leave out and abort', async () => {
  const scene = makeScene([true, false])
  const other = new WriteGroup(scene.group.members, () => {}, scene.group.memory)
  const writer = await other.openWriter('k')
  writer.append([PIECE])
  scene.storages[1]?.addFault({ at: 3, kind: 'refused' })
  await scene.group.gather(async (storage) => await storage.size('x'))
  await writer.commit()
  assert.deepEqual(await scene.storages[0]?.read('k'), PIECE)
  assert.equal(await scene.storages[1]?.read('k'), undefined)
})

test('what each gave is gathered, without those that failed', async () => {
  const scene = makeScene([false, false, false])
  scene.storages[1]?.addFault({ at: 1, kind: 'refused' })
  const gathered = await scene.group.gather(async (storage, member) => {
    await storage.size('x')
    return member * 10
  })
  assert.deepEqual(
    [...gathered],
    [
      [0, 0],
      [2, 20],
    ],
  )
})

test('what is no failure is thrown, and drops nobody', async () => {
  const scene = makeScene([false, false])
  const defect = scene.group.gather(async (_, member) => {
    if (member === 1) throw new Error('a defect')
  })
  await assert.rejects(defect, /a defect/)
  assert.deepEqual(scene.dropped, [])
})
