import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { keptBytes, pageCacheUntold, writeSynced } from '../../test/harness/page-cache.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { CacheDropper } from './drop-cache.ts'

const skip = pageCacheUntold()

test('a file loses its place in memory, and nothing else', { skip }, async () => {
  const directory = temporaryDirectory()
  const [first, second, missing] = ['A', 'B', 'C'].map((digit) => digit.padStart(24, '0'))
  const content = Buffer.alloc(1024 * 1024, 'WAL')
  const paths = [first, second].map((name) => join(directory, String(name)))
  for (const path of paths) writeSynced(path, content)
  const kept = (): number[] => paths.map(keptBytes)
  assert.deepEqual(kept(), [content.length, content.length])
  const dropper = new CacheDropper(directory)
  for (const name of [missing, first]) dropper.drop(String(name))
  dropper.close()
  for (let waited = 0; kept()[0] !== 0 && waited < 1000; waited++) await sleep(10)
  assert.deepEqual(kept(), [0, content.length])
  assert.deepEqual(readFileSync(String(paths[0])), content)
})

test('nothing fails where there is no such directory', async () => {
  const dropper = new CacheDropper(join(temporaryDirectory(), 'gone'))
  for (let time = 0; time < 3; time++) {
    dropper.drop('0'.repeat(24))
    await sleep(20)
  }
  dropper.close()
})
