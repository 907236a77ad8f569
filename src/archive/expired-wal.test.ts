import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { advanceExpiredMark, expiredMarkKey, isLetGo, readExpiredMark } from './expired-wal.ts'

const range = (first: bigint, last: bigint) => ({ first, last })

test('what was let go stays noted, and what was kept before it is not among it', async () => {
  const storage = openMemoryStorage()
  const read = async () => await readExpiredMark(storage, 'main', '7')
  assert.deepEqual(await read(), new Map())
  await advanceExpiredMark(storage, 'main', '7', new Map([[1, [range(0n, 10n)]]]))
  const far = new Map([
    [1, [range(5n, 11n), range(20n, 30n)]],
    [2, [range(70n, 70n)]],
  ])
  await advanceExpiredMark(storage, 'main', '7', far)
  const mark = await read()
  assert.deepEqual([...mark].sort(), [
    [1, [range(0n, 11n), range(20n, 30n)]],
    [2, [range(70n, 70n)]],
  ])
  assert.ok(isLetGo(mark, 1, 11n) && isLetGo(mark, 1, 20n) && isLetGo(mark, 1, 30n))
  for (const kept of [12n, 19n, 31n]) assert.ok(!isLetGo(mark, 1, kept))
  assert.ok(!isLetGo(mark, 3, 0n) && !isLetGo(undefined, 1, 1n))
})

test('a damaged mark is as good as none', async () => {
  const storage = openMemoryStorage()
  await storage.write(expiredMarkKey('main', '7'), Buffer.from('torn'))
  assert.deepEqual(await readExpiredMark(storage, 'main', '7'), new Map())
  await advanceExpiredMark(storage, 'main', '7', new Map([[1, [range(3n, 3n)]]]))
  assert.deepEqual(await readExpiredMark(storage, 'main', '7'), new Map([[1, [range(3n, 3n)]]]))
})
