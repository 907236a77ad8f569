/** Damage in every object of a dump: it is told, by name, and no damaged byte is handed on. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  groupOf,
  madeUpRows,
  readWholeFile,
  writeMadeUpDump,
} from '../../test/harness/dumped-files.ts'
import { collect, damageObject } from '../../test/harness/faulty-storage.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import { dumpKey, dumpPackKey } from '../repository/keys.ts'
import { FRAME_KINDS, type FrameKind } from '../repository/pack-format.ts'
import { openPack } from '../repository/pack-reader.ts'
import { findDump, listDumps } from '../repository/read-dumps.ts'
import { openFallbackStorage } from '../storage/fallback-storage.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { ProvedChunks, proveDump, readDumpFile, readDumpObjects } from './read-dump.ts'

const FILES = { 'globals.sql': Buffer.from('CREATE ROLE a;\n'), '1.dump': madeUpRows(2_500_000) }

interface Scene {
  readonly objects: Map<string, Uint8Array>
  readonly storage: Storage
  readonly record: DumpRecord
}

async function makeScene(): Promise<Scene> {
  const objects = new Map<string, Uint8Array>()
  const storage = openMemoryStorage(objects)
  const dump = { files: FILES, packTargetBytes: 120_000 }
  const { record } = await writeMadeUpDump(groupOf([storage]), dump)
  return { objects, storage, record }
}

async function failureOf(action: Promise<unknown>): Promise<Failure> {
  const error: unknown = await action.then(
    () => undefined,
    (failure: unknown) => failure,
  )
  assert.ok(error instanceof Failure, String(error))
  return error
}

/** Pack and first stored byte of the last frame of a kind. */
async function findFrame({ storage, record }: Scene, kind: FrameKind) {
  const found: { pack: string; byte: number }[] = []
  for (const { id } of record.packs) {
    const { frames } = await openPack(storage, 'main', id, 'a test', dumpPackKey)
    for (const frame of frames)
      if (frame.kind === kind) found.push({ pack: id, byte: frame.offset })
  }
  const last = found.at(-1)
  assert.ok(last !== undefined)
  return last
}

for (const [what, kind] of Object.entries(FRAME_KINDS).filter(([, number]) => number >= 7)) {
  test(`a damaged frame of kind ${what}`, async () => {
    const scene = await makeScene()
    const { storage, record } = scene
    const { pack, byte } = await findFrame(scene, kind)
    const key = dumpPackKey('main', pack)
    await damageObject(storage, key, { kind: 'flip-bit', byte: byte + 9, bit: 3 })
    const read =
      kind === FRAME_KINDS.objectList
        ? collect(readDumpObjects(storage, record, 0))
        : readWholeFile(storage, record, 1)
    const failure = await failureOf(read)
    assert.equal(failure.code, 'TM1601')
    assert.ok(failure.message.includes(key))
    assert.ok(failure.because?.includes(`dump ${record.id} of main needs it`), failure.because)
    const found = await proveDump(storage, record)
    assert.deepEqual(
      found.map(({ code, message }) => ({ code, message })),
      [{ code: failure.code, message: failure.message }],
    )
  })
}

test('what is handed on before damage is met is what was dumped', async () => {
  const scene = await makeScene()
  const { storage, record } = scene
  const { pack, byte } = await findFrame(scene, FRAME_KINDS.chunk)
  await damageObject(storage, dumpPackKey('main', pack), { kind: 'flip-bit', byte })
  let at = 0
  await assert.rejects(async () => {
    for await (const piece of readDumpFile(storage, record, 1)) {
      assert.ok(FILES['1.dump'].subarray(at, at + piece.length).equals(piece))
      at += piece.length
    }
  })
  assert.ok(at > 0 && at < FILES['1.dump'].length)
})

for (const kind of ['delete', 'truncate'] as const) {
  test(`each pack in its turn: ${kind}`, async () => {
    const { objects, storage, record } = await makeScene()
    assert.ok(record.packs.length >= 4)
    for (const { id, bytes } of record.packs) {
      const key = dumpPackKey('main', id)
      const kept = objects.get(key) as Uint8Array
      await damageObject(storage, key, { kind, sizeBytes: bytes - 1 })
      const found = await proveDump(storage, record)
      const code = kind === 'delete' ? 'TM1602' : 'TM1601'
      assert.ok(found.length > 0)
      for (const failure of found) {
        assert.equal(failure.code, code)
        assert.ok(failure.message.includes(key))
        assert.ok(failure.because?.includes(record.id))
      }
      objects.set(key, kept)
    }
    assert.deepEqual(await proveDump(storage, record), [])
  })
}

test('what several dumps share is read once, and its damage is told for each of them', async () => {
  const { storage, record } = await makeScene()
  const files = { ...FILES, '1.dump': Buffer.concat([FILES['1.dump'], madeUpRows(300_000, 8)]) }
  const { record: second } = await writeMadeUpDump(groupOf([storage]), { files })
  // The same chunks in packs of its own: that others are whole says nothing of them.
  const { record: copy } = await writeMadeUpDump(groupOf([storage]), { files, rewrite: true })
  const readBytes = async (proved: ProvedChunks): Promise<number[]> => {
    const read: number[] = []
    for (const one of [record, second, second, copy]) {
      let bytes = 0
      const count = (more: number): unknown => (bytes += more)
      assert.deepEqual(await proveDump(storage, one, count, proved), [])
      read.push(bytes)
    }
    return read
  }
  const { rawBytes, reusedBytes } = second.sizes
  assert.deepEqual(await readBytes(new ProvedChunks()), [
    record.sizes.rawBytes,
    rawBytes - reusedBytes,
    0,
    rawBytes,
  ])
  const shared = record.packs.find(({ id }) => second.packs.some((pack) => pack.id === id))
  const key = dumpPackKey('main', shared?.id ?? '')
  await damageObject(storage, key, { kind: 'flip-bit', byte: 70 })
  const proved = new ProvedChunks()
  for (const one of [record, second]) {
    const [failure, ...others] = await proveDump(storage, one, () => {}, proved)
    assert.deepEqual(others, [])
    assert.ok(failure?.message.includes(key))
    assert.ok(failure?.because?.includes(one.id))
  }
  const [globals, rows] = second.files
  const longer = { ...second, files: [globals, { ...rows, bytes: rawBytes }] } as DumpRecord
  await proveDump(storage, second, () => {}, proved)
  assert.ok((await proveDump(storage, longer, () => {}, proved)).length > 0)
})

test('two damaged packs are both told of', async () => {
  const { storage, record } = await makeScene()
  const keys = record.packs.slice(0, 2).map(({ id }) => dumpPackKey('main', id))
  for (const key of keys) await damageObject(storage, key, { kind: 'flip-bit', byte: 70 })
  let bytes = 0
  const found = await proveDump(storage, record, (read) => {
    bytes += read
  })
  assert.deepEqual(
    keys.map((key) => found.some(({ message }) => message.includes(key))),
    [true, true],
  )
  assert.ok(bytes > 0 && bytes < record.sizes.rawBytes)
})

test('of two repositories the other one gives what one has not whole', async () => {
  const { objects, storage, record } = await makeScene()
  const other = openMemoryStorage(new Map(objects))
  for (const [number, { id, bytes }] of record.packs.entries()) {
    const key = dumpPackKey('main', id)
    const harmed = number % 2 === 0 ? storage : other
    if (number % 3 === 0) await damageObject(harmed, key, { kind: 'delete' })
    else await damageObject(harmed, key, { kind: 'flip-bit', byte: Math.floor(bytes / 3) })
  }
  const both = openFallbackStorage([storage, other])
  assert.ok((await readWholeFile(both, record, 1)).equals(FILES['1.dump']))
  assert.deepEqual(await proveDump(both, record), [])
  assert.ok((await proveDump(storage, record)).length > 0)
})

test('a record that says otherwise than its chunks is told of, not believed', async () => {
  const { storage, record } = await makeScene()
  const [globals, rows] = record.files
  assert.ok(globals !== undefined && rows !== undefined)
  const otherHash = { ...record, files: [{ ...globals, sha256: rows.sha256 }, rows] }
  const otherList = { ...record, files: [{ ...globals, chunkLists: rows.chunkLists }, rows] }
  const frame = globals.chunkLists[0] ?? { pack: '', frame: 0 }
  const noList = { ...record, files: [{ ...globals, chunkLists: [{ ...frame, frame: 0 }] }, rows] }
  const noFrame = {
    ...record,
    files: [{ ...globals, chunkLists: [{ ...frame, frame: 999 }] }, rows],
  }
  for (const bad of [otherHash, otherList, noList, noFrame]) {
    assert.ok(isFailure(await failureOf(readWholeFile(storage, bad, 0)), 'TM1601'))
    assert.equal((await proveDump(storage, bad)).length, 1)
  }
  const [database] = record.databases
  const fewer = { ...record, databases: [{ ...database, objects: 1 }] } as DumpRecord
  assert.ok(isFailure(await failureOf(collect(readDumpObjects(storage, fewer, 0))), 'TM1601'))
})

test('a record that cannot be read is listed by its key, and the others are whole', async () => {
  const { storage, record } = await makeScene()
  const { record: second } = await writeMadeUpDump(groupOf([storage]), { files: FILES })
  const key = dumpKey('main', record.id)
  await damageObject(storage, key, { kind: 'flip-bit', byte: 60 })
  const { dumps, unreadable } = await listDumps(storage, 'main')
  assert.deepEqual(
    dumps.map(({ id }) => id),
    [second.id],
  )
  assert.deepEqual(
    unreadable.map((one) => [one.key, one.failure.code]),
    [[key, 'TM1601']],
  )
  assert.ok(isFailure(await failureOf(findDump(storage, 'main', record.id)), 'TM1601'))
  assert.equal(await findDump(storage, 'main', '20200101-000000-aaaa'), undefined)
  assert.equal(await findDump(storage, 'main', '../x'), undefined)
})

test('a repository that does not answer is no damage', async () => {
  const { storage, record } = await makeScene()
  class Mute extends ForwardingStorage {
    override async readRange(): Promise<Uint8Array | undefined> {
      throw new Failure('TM1509', { message: 'no answer', fix: 'wait' })
    }
  }
  const mute = new Mute(storage)
  assert.equal((await failureOf(proveDump(mute, record))).code, 'TM1509')
})
