import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { advanceExpiredMark, expiredMarkKey, isLetGo, readExpiredMark } from './expired-wal.ts'

test('how far WAL expired is never taken back', async () => {
  const storage = openMemoryStorage()
  const read = async () => await readExpiredMark(storage, 'main', '7')
  assert.deepEqual(await read(), new Map())
  await advanceExpiredMark(storage, 'main', '7', new Map([[1, 10n]]))
  const far = new Map([
    [1, 5n],
    [2, 70n],
  ])
  await advanceExpiredMark(storage, 'main', '7', far)
  const mark = await read()
  assert.deepEqual([...mark].sort(), [
    [1, 10n],
    [2, 70n],
  ])
  assert.ok(isLetGo(mark, 1, 10n) && !isLetGo(mark, 1, 11n) && !isLetGo(mark, 3, 0n))
  assert.ok(!isLetGo(undefined, 1, 1n))
})

test('a damaged mark is as good as none', async () => {
  const storage = openMemoryStorage()
  await storage.write(expiredMarkKey('main', '7'), Buffer.from('torn'))
  assert.deepEqual(await readExpiredMark(storage, 'main', '7'), new Map())
  await advanceExpiredMark(storage, 'main', '7', new Map([[1, 3n]]))
  assert.deepEqual(await readExpiredMark(storage, 'main', '7'), new Map([[1, 3n]]))
})
