/** Sequences that a dump beside others must outlast. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { now } from '../../src/base/clock.ts'
import { SILENT } from '../../src/base/progress.ts'
import { expireDumps } from '../../src/dump/expire-dumps.ts'
import { proveDump } from '../../src/dump/read-dump.ts'
import { holdKey } from '../../src/repository/keys.ts'
import { listDumps } from '../../src/repository/read-dumps.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import { collect } from '../harness/faulty-storage.ts'
import { groupOf, madeUpRows, makeDumpId, writeMadeUpDump } from '../harness/dumped-files.ts'

test('a dump that finds its hold gone takes nothing from one that refers to it', async () => {
  const inner = openMemoryStorage()
  const rows = madeUpRows(300_000)
  const files = { '1.dump': rows }
  const id = makeDumpId()
  const storage = new Proxy(inner, {
    get(target, name) {
      const value = Reflect.get(target, name)
      if (name !== 'write') return typeof value === 'function' ? value.bind(target) : value
      return async (key: string, bytes: Uint8Array, options: { createOnly?: boolean }) => {
        // Somebody gives it up while its record is on its way; then another dump runs.
        if (key.endsWith('.dump')) await inner.remove(holdKey('main', id))
        await target.write(key, bytes, options)
        if (key.endsWith('.dump')) await writeMadeUpDump(groupOf([inner]), { files })
      }
    },
  })
  await assert.rejects(writeMadeUpDump(groupOf([storage]), { id, files }), { code: 'TM1901' })
  const { dumps } = await listDumps(inner, 'main')
  assert.equal(dumps.length, 1)
  for (const record of dumps) assert.deepEqual(await proveDump(inner, record), [])
})

test('a dump that ends between two listings of the second look keeps its base', async () => {
  const inner = openMemoryStorage()
  await createRepository(inner, now())
  const files = { '1.dump': madeUpRows(300_000) }
  const { record: base } = await writeMadeUpDump(groupOf([inner]), { files })
  await writeMadeUpDump(groupOf([inner]), {
    format: 'plain',
    files: { '1.sql': madeUpRows(50_000, 3) },
  })
  // It refers to the base, and is told when to publish.
  const reached = Promise.withResolvers<void>()
  const told = Promise.withResolvers<void>()
  let dumping: Promise<unknown> | undefined
  let looks = 0
  const list = inner.list.bind(inner)
  const write = inner.write.bind(inner)
  const storage = openMemoryStorage()
  storage.list = async function* (prefix: string) {
    yield* await collect(list(prefix))
    if (!/\/(holds|dumps)\/$/.test(prefix) || dumping === undefined || looks++ > 0) return
    told.resolve()
    await dumping
  }
  storage.write = async (key, bytes, options) => {
    if (key.includes('/condemned/') && dumping === undefined) {
      const beforePublish = async (): Promise<void> => {
        reached.resolve()
        await told.promise
      }
      dumping = writeMadeUpDump(groupOf([inner]), { files, beforePublish })
      await reached.promise
    }
    await write(key, bytes, options)
  }
  storage.read = inner.read.bind(inner)
  storage.size = inner.size.bind(inner)
  storage.remove = inner.remove.bind(inner)
  storage.removeMany = inner.removeMany.bind(inner)
  storage.removeLeftovers = inner.removeLeftovers.bind(inner)
  const { signal } = new AbortController()
  // The base is kept by no rule: the plain one is the newest of its kind.
  const policy = { keepLast: 0, keepDays: 1 }
  const at = new Date(Date.now() + 10 * 365 * 24 * 3600 * 1000)
  const request = { storage, cluster: 'main', policy, apply: true, progress: SILENT, signal, at }
  const { plan } = await expireDumps(request)
  assert.ok(
    plan.expire.some(({ id }) => id === base.id),
    'the base was to expire',
  )
  assert.ok(dumping !== undefined && looks > 0)
  const { dumps } = await listDumps(inner, 'main')
  assert.equal(dumps.filter((one) => one.base === base.id).length, 1)
  for (const record of dumps) assert.deepEqual(await proveDump(inner, record), [])
})
