/** Dumps of made-up files: what was written is read back, and what comes again is stored once. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  groupOf,
  madeUpRows,
  makeDumpId,
  OBJECTS,
  readWholeFile,
  writeMadeUpDump,
} from '../../test/harness/dumped-files.ts'
import { collect } from '../../test/harness/faulty-storage.ts'
import { testSealing } from '../../test/harness/sealing.ts'
import { Failure } from '../base/failure.ts'
import { holdPrefix } from '../repository/keys.ts'
import { findDump, listDumps } from '../repository/read-dumps.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { openSealedStorage } from '../storage/sealed-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { chooseDumpBase, type DumpBaseCriteria } from './choose-dump-base.ts'
import { proveDump, readDumpObjects } from './read-dump.ts'
import { type DumpFacts, openDumpWriter } from './write-dump.ts'

const SIZES = [0, 1, 16_383, 16_384, 262_144, 262_145, 3_333_333]

test('files of odd sizes come back byte by byte, and the objects in their order', async () => {
  const storage = openMemoryStorage()
  const files = Object.fromEntries(
    SIZES.map((bytes, number) => [`1/${number}.dat`, madeUpRows(bytes, number + 1)]),
  )
  const dump = { files, pieceBytes: 10_007, packTargetBytes: 300_000 }
  const { record } = await writeMadeUpDump(groupOf([storage]), dump)
  assert.deepEqual(await findDump(storage, 'main', record.id), record)
  for (const [number, bytes] of Object.values(files).entries()) {
    assert.ok((await readWholeFile(storage, record, number)).equals(bytes), `file ${number}`)
  }
  assert.deepEqual(await collect(readDumpObjects(storage, record, 0)), OBJECTS)
  assert.deepEqual(await proveDump(storage, record), [])
  assert.ok(record.packs.length > 2)
  assert.deepEqual(await collect(storage.list(holdPrefix('main'))), [])
})

test('rows inserted in the middle are stored, and what lies around them is not', async () => {
  const storage = openMemoryStorage()
  const before = madeUpRows(8_000_000)
  const inserted = madeUpRows(1000, 7)
  const now = Buffer.concat([before.subarray(0, 4_000_003), inserted, before.subarray(4_000_003)])
  const group = groupOf([storage])
  const first = await writeMadeUpDump(group, { files: { '1.dump': before } })
  const second = await writeMadeUpDump(group, { files: { '1.dump': now } })
  assert.equal(second.record.base, first.record.id)
  const { sizes } = second.record
  const stored = sizes.rawBytes - sizes.reusedBytes
  assert.ok(stored < 400_000, `${stored} of ${sizes.rawBytes} raw bytes are stored anew`)
  assert.ok((await readWholeFile(storage, second.record, 0)).equals(now))
  assert.deepEqual(
    (await listDumps(storage, 'main')).dumps.map(({ id }) => id),
    [first.record.id, second.record.id],
  )
})

function openWriter(storage: Storage) {
  return openDumpWriter({
    group: groupOf([storage]),
    cluster: 'main',
    id: makeDumpId(),
    startedAt: new Date(0),
    databases: ['shop'],
    format: 'custom',
    signal: new AbortController().signal,
    packTargetBytes: 50_000,
  })
}

test('bytes that are handed over two at a time, or after a failure, are refused', async () => {
  const storage = openMemoryStorage()
  const writer = await openWriter(storage)
  const file = await writer.openFile('1.dump')
  const both = [file.append(madeUpRows(500_000)), file.append(madeUpRows(500_000))]
  const outcomes = await Promise.allSettled(both)
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected'],
  )
  storage.openWriter = async () => {
    throw new Failure('TM1506', { message: 'full', fix: 'make room' })
  }
  // Ends the pack that is open, and fails to open the next one.
  await assert.rejects(file.append(madeUpRows(700_000, 4)), { code: 'TM1506' })
  await assert.rejects(file.append(Buffer.from('more')), /has failed/)
  await assert.rejects(file.close(), /has failed/)
  await assert.rejects(writer.openFile('2.dump'), /still open/)
  await assert.rejects(writer.publish({} as DumpFacts), /still open/)
  await writer.abort()
  await assert.rejects(writer.openFile('3.dump'), /has ended/)
  assert.deepEqual(await collect(storage.list('clusters/')), [])
})

test('a name that no reader would take, and one that is taken, are refused', async () => {
  const storage = openMemoryStorage()
  const writer = await openWriter(storage)
  for (const name of ['../1.dump', 'x', '1.dump/../../x']) {
    await assert.rejects(writer.openFile(name), /no file of a dump/)
  }
  await (await writer.openFile('1.dump')).close()
  await assert.rejects(writer.openFile('1.dump'), /no file of a dump/)
  await writer.abort()
})

test('only a dump of the same databases in the same format is compared with', async () => {
  const storage = openMemoryStorage()
  const files = { '1.dump': madeUpRows(100_000) }
  const group = groupOf([storage])
  const { record } = await writeMadeUpDump(group, { files, databases: ['a', 'b'] })
  const criteria = { databases: ['b', 'a'], format: 'custom', without: new Set<string>() } as const
  const choose = (other: Partial<DumpBaseCriteria>, lists = [[record], [record]]) =>
    chooseDumpBase(lists, { ...criteria, ...other })?.id
  assert.equal(choose({}), record.id)
  assert.equal(choose({ format: 'tar' }), undefined)
  assert.equal(choose({ databases: ['a'] }), undefined)
  assert.equal(choose({ databases: ['a', 'b', 'c'] }), undefined)
  assert.equal(choose({ without: new Set([record.id]) }), undefined)
  assert.equal(choose({}, [[record], []]), undefined)
  const newer = { ...record, id: makeDumpId() }
  assert.equal(choose({}, [[record, newer], [newer]]), newer.id)
  assert.equal(choose({}, [[record, newer], [record]]), record.id)
})

test('of an encrypted repository the same comes back, and nothing lies in the open', async () => {
  const objects = new Map<string, Uint8Array>()
  const storage = openSealedStorage(openMemoryStorage(objects), testSealing())
  const files = { '1.dump': Buffer.concat([Buffer.from('SECRET'), madeUpRows(900_000)]) }
  const group = groupOf([storage])
  await writeMadeUpDump(group, { files, packTargetBytes: 100_000 })
  const { record } = await writeMadeUpDump(group, { files, packTargetBytes: 100_000 })
  assert.equal(record.sizes.reusedBytes, record.sizes.rawBytes)
  assert.ok((await readWholeFile(storage, record, 0)).equals(files['1.dump']))
  assert.deepEqual(await proveDump(storage, record), [])
  for (const bytes of objects.values()) assert.ok(!Buffer.from(bytes).includes('SECRET'))
})
