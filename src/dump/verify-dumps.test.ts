import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { groupOf, madeUpRows, writeMadeUpDump } from '../../test/harness/dumped-files.ts'
import { now } from '../base/clock.ts'
import { SILENT } from '../base/progress.ts'
import { decodeDumpRecord, encodeDumpRecord } from '../repository/dump-record.ts'
import { dumpKey, parseDumpKey, parseDumpPackKey } from '../repository/keys.ts'
import { createRepository } from '../repository/repository.ts'
import { readVerifiedMemory } from '../repository/verified-memory.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { proveDump } from './read-dump.ts'
import { type VerifiedDumps, type VerifyDumpsOptions, verifyDumps } from './verify-dumps.ts'

const objects = new Map<string, Uint8Array>()
const ids: string[] = []

/** The second shares most of the first, the third nothing. */
before(async () => {
  const storage = openMemoryStorage(objects)
  await createRepository(storage, now())
  const first = madeUpRows(300_000)
  const all = [first, Buffer.concat([first, madeUpRows(90_000, 2)]), madeUpRows(200_000, 3)]
  for (const [number, rows] of all.entries()) {
    const databases = [number === 2 ? 'other' : 'shop']
    const dump = { files: { '1.dump': rows, 'globals.sql': new Uint8Array(0) }, databases }
    const { record } = await writeMadeUpDump(groupOf([storage]), {
      ...dump,
      packTargetBytes: 60_000,
    })
    ids.push(record.id)
  }
})

const copyScene = (): Storage => openMemoryStorage(new Map(objects))

async function verify(
  storage: Storage,
  more: Partial<VerifyDumpsOptions> = {},
): Promise<VerifiedDumps> {
  const { signal } = new AbortController()
  return await verifyDumps({ storage, cluster: 'main', progress: SILENT, signal, ...more })
}

test('every dump is proved once, and again when that was long ago', async () => {
  const storage = copyScene()
  const first = await verify(storage, { days: 30 })
  assert.deepEqual(first.findings, [])
  assert.equal(first.proved.dumps, 3)
  // Each is read whole when nobody has read it before.
  assert.equal(first.proved.bytes, 890_000)
  assert.equal((await verify(storage, { days: 30 })).proved.dumps, 0)
  // Then what the second shares with the first is read once.
  const { dumps, bytes } = (await verify(storage)).proved
  assert.equal(dumps, 3)
  assert.ok(bytes >= 590_000 && bytes < 700_000, `${bytes}`)
  const one = await verify(storage, { only: new Set([ids[1] ?? '']) })
  assert.deepEqual([one.dumps, one.proved], [1, { dumps: 1, bytes: 390_000 }])
})

test('a budget leaves dumps for the next run, which begins with them', async () => {
  const storage = copyScene()
  const first = await verify(storage, { days: 30, budget: { bytes: 300_001 } })
  assert.deepEqual([first.proved.dumps, first.left], [2, 1])
  assert.equal((await verify(storage, { days: 30, budget: { bytes: 0 } })).left, 1)
  assert.equal((await verify(storage, { days: 30, budget: { bytes: 1 } })).proved.dumps, 1)
})

test('what is damaged is told with every dump that it costs, also with those not due', async () => {
  const storage = copyScene()
  await verify(storage, { days: 30 })
  const shared = [...objects.keys()].find((key) => parseDumpPackKey(key) !== undefined) ?? ''
  const bytes = Buffer.from(objects.get(shared) ?? '')
  bytes.writeUInt8(bytes.readUInt8(3000) ^ 1, 3000)
  await storage.write(shared, bytes)
  assert.deepEqual((await verify(storage, { days: 30 })).findings, [])
  const first = ids[0] ?? ''
  const { findings } = await verify(storage, { only: new Set([first]) })
  assert.deepEqual(
    findings.map(({ failure, key, dumps }) => [failure.code, key, dumps]),
    [['TM1601', shared, [first]]],
  )
  // What was found is not forgotten by the next run.
  assert.deepEqual((await verify(storage, { days: 30 })).findings[0]?.dumps, ids.slice(0, 2).sort())
})

test('a pack that is gone or cut costs the dumps that name it, whatever was proved', async () => {
  const storage = copyScene()
  await verify(storage, { days: 30 })
  const shared = [...objects.keys()].find((key) => parseDumpPackKey(key) !== undefined) ?? ''
  await storage.write(shared, Buffer.from('short'))
  const cut = await verify(storage, { days: 30, budget: { bytes: 0 } })
  assert.deepEqual(cut.findings[0]?.dumps, ids.slice(0, 2).sort())
  await storage.remove(shared)
  const gone = await verify(storage, { days: 30 })
  assert.deepEqual(
    gone.findings.map(({ failure, dumps }) => [failure.code, dumps]),
    [['TM1602', ids.slice(0, 2).sort()]],
  )
})

test('a record that cannot be read is a finding; a pack that no dump names is none', async () => {
  const storage = copyScene()
  await storage.write(dumpKey('main', ids[2] ?? ''), Buffer.from('torn'))
  const { findings, unnamed, dumps, proved } = await verify(storage)
  assert.deepEqual(findings[0]?.dumps, [ids[2]])
  assert.ok(unnamed.packs.length > 0)
  assert.deepEqual([dumps, proved.dumps], [3, 2])
})

test('no byte of a dump can change unseen', async () => {
  const storage = copyScene()
  let flips = 0
  for (const [key, bytes] of objects) {
    if (parseDumpKey(key) === undefined && parseDumpPackKey(key) === undefined) continue
    const step = Math.max(1, Math.floor(bytes.length / 7))
    for (let at = 0; at < bytes.length; at += step) {
      const flipped = Buffer.from(bytes)
      flipped.writeUInt8(flipped.readUInt8(at) ^ 4, at)
      await storage.write(key, flipped)
      const { findings } = await verify(storage)
      assert.ok(findings.length > 0, `byte ${at} of ${key}`)
      assert.ok(findings.every((finding) => finding.key === key))
      flips++
    }
    await storage.write(key, bytes)
  }
  assert.ok(flips > 60, `${flips} flips`)
})

/** As a writer with a defect would leave it: the chunks are not those of the file. */
async function spoilHash(storage: Storage, id: string): Promise<void> {
  const key = dumpKey('main', id)
  const record = decodeDumpRecord(key, (await storage.read(key)) ?? Buffer.alloc(0))
  const files = record.files.map((file) => {
    return file.bytes === 0 ? file : { ...file, sha256: '0'.repeat(64) }
  })
  await storage.write(key, encodeDumpRecord({ ...record, files }))
}

test('what a writer did wrong is found, although every chunk was proved for another', async () => {
  // One that is new, behind another new one that shares its chunks.
  const fresh = copyScene()
  await spoilHash(fresh, ids[1] ?? '')
  assert.deepEqual((await verify(fresh)).findings[0]?.dumps, [ids[1]])
  // And the newest of its kind, also when it was proved once.
  const known = copyScene()
  await verify(known)
  await spoilHash(known, ids[1] ?? '')
  assert.deepEqual((await verify(known)).findings[0]?.dumps, [ids[1]])
})

test('the next dump refers to nothing that was found damaged, until it is mended', async () => {
  const storage = copyScene()
  const shared = [...objects.keys()].find((key) => parseDumpPackKey(key) !== undefined) ?? ''
  const whole = (await storage.read(shared)) ?? Buffer.alloc(0)
  const bytes = Buffer.from(whole)
  bytes.writeUInt8(bytes.readUInt8(3000) ^ 1, 3000)
  await storage.write(shared, bytes)
  assert.equal((await verify(storage)).findings.length, 1)
  const files = { '1.dump': madeUpRows(300_000) }
  const { record, notes } = await writeMadeUpDump(groupOf([storage]), { files })
  assert.equal(record.base, ids[1])
  assert.ok(record.packs.every(({ id }) => id !== parseDumpPackKey(shared)))
  assert.ok(record.sizes.reusedChunks > 0, 'what is whole is not stored again')
  assert.deepEqual(await proveDump(storage, record), [])
  assert.match(notes.join(), /1 cannot be trusted/)
  // Where one of two repositories is damaged, both are spared.
  const other = copyScene()
  const both = await writeMadeUpDump(groupOf([other, storage]), { files })
  assert.ok(both.record.packs.every(({ id }) => id !== parseDumpPackKey(shared)))
  await storage.write(shared, whole)
  assert.deepEqual((await verify(storage)).findings, [])
  assert.deepEqual((await readVerifiedMemory(storage, 'main')).memory.damagedObjects, new Set())
})

test('a dump that is not what its record says is the base of none', async () => {
  const storage = copyScene()
  await spoilHash(storage, ids[1] ?? '')
  assert.equal((await verify(storage)).findings.length, 1)
  const files = { '1.dump': madeUpRows(300_000) }
  const { record, notes } = await writeMadeUpDump(groupOf([storage]), { files })
  assert.equal(record.base, ids[0])
  assert.match(notes.join(), /found damaged/)
})
