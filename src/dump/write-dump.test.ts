/** Dumps of made-up files: what was written is read back, and what comes again is stored once. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  groupOf,
  madeUpRows,
  OBJECTS,
  readWholeFile,
  writeMadeUpDump,
} from '../../test/harness/dumped-files.ts'
import { collect } from '../../test/harness/faulty-storage.ts'
import { holdPrefix } from '../repository/keys.ts'
import { findDump, listDumps } from '../repository/read-dumps.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { proveDump, readDumpObjects } from './read-dump.ts'

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
