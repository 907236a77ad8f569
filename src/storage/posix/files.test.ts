import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SharedDirectorySync } from './files.ts'

function controlledSync() {
  const running: { resolve: () => void; reject: (error: Error) => void }[] = []
  const shared = new SharedDirectorySync(
    async () => await new Promise<void>((resolve, reject) => running.push({ resolve, reject })),
  )
  return { shared, running }
}

const settle = async () => await new Promise((resolve) => setImmediate(resolve))

test('a sync that has begun does not serve who came later, the next one does', async () => {
  const { shared, running } = controlledSync()
  const done: string[] = []
  const sync = (name: string) => shared.sync('/d').then(() => done.push(name))
  void sync('first')
  void sync('second')
  void sync('third')
  await settle()
  assert.equal(running.length, 1)
  running[0]?.resolve()
  await settle()
  assert.deepEqual(done, ['first'])
  assert.equal(running.length, 2, 'one more for both that waited')
  void sync('fourth')
  running[1]?.resolve()
  await settle()
  assert.deepEqual(done, ['first', 'second', 'third'])
  running[2]?.resolve()
  await settle()
  assert.equal(done.length, 4)
  void sync('later')
  await settle()
  assert.equal(running.length, 4, 'nothing is remembered between syncs')
})

test('a failed sync fails who asked for it, and the next is tried on its own', async () => {
  const { shared, running } = controlledSync()
  const first = shared.sync('/d')
  const second = shared.sync('/d')
  running[0]?.reject(new Error('EIO'))
  await assert.rejects(first, /EIO/)
  await settle()
  running[1]?.resolve()
  await second
})

test('directories do not wait for each other', async () => {
  const { shared, running } = controlledSync()
  void shared.sync('/a')
  void shared.sync('/b')
  await settle()
  assert.equal(running.length, 2)
})
