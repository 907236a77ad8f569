/**
 * A dump that is killed, refused, robbed of its hold or of its base at every call: what is listed
 * is read back whole, and the next run leaves nothing behind.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { isFailure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import { expireDumps } from '../../src/dump/expire-dumps.ts'
import { proveDump } from '../../src/dump/read-dump.ts'
import { cleanUpDeadHolds } from '../../src/repository/clean-up.ts'
import { readCondemned, writeCondemnedSet } from '../../src/repository/condemned-sets.ts'
import type { DumpRecord } from '../../src/repository/dump-record.ts'
import {
  type Hold,
  listHolds,
  readHolder,
  removeHold,
  writeHold,
} from '../../src/repository/holds.ts'
import { dumpKey, dumpPackKey, holdPrefix } from '../../src/repository/keys.ts'
import { listDumpPacks, listDumps } from '../../src/repository/read-dumps.ts'
import { openMemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import {
  groupOf,
  type MadeUpDump,
  madeUpRows,
  makeDumpId,
  readWholeFile,
  writeMadeUpDump,
} from '../harness/dumped-files.ts'
import {
  collect,
  CrashError,
  type Fault,
  forEachCrashPoint,
  openFaultyStorage,
  type ProcessLife,
} from '../harness/faulty-storage.ts'
import { declareWritersDead } from './expiry-scene.ts'

const OLD_ROWS = madeUpRows(260_000)
const ROWS = Buffer.concat([
  OLD_ROWS.subarray(0, 190_000),
  madeUpRows(60_000, 2),
  OLD_ROWS.subarray(190_000),
])
const NEW_FILES = { 'globals.sql': Buffer.from('CREATE ROLE a;\n'), '1.dump': ROWS }

/** What each dump must give back, by its id. */
const contents = new Map<string, MadeUpDump['files']>()
/** One dump, of the old rows. */
let scene: ReadonlyMap<string, Uint8Array>
let base: DumpRecord

async function dumpInto(
  storages: readonly Storage[],
  more: Partial<MadeUpDump> = {},
  required: readonly number[] = [0],
) {
  const dump = { id: makeDumpId(), files: NEW_FILES, packTargetBytes: 30_000, ...more }
  contents.set(dump.id, dump.files)
  return await writeMadeUpDump(groupOf(storages, required), dump)
}

before(async () => {
  const objects = new Map<string, Uint8Array>()
  const storage = openMemoryStorage(objects)
  ;({ record: base } = await dumpInto([storage], { files: { '1.dump': OLD_ROWS } }))
  scene = objects
})

const openScene = (): Storage => openMemoryStorage(new Map(scene))

/** Ids of all that is listed; each is read back, out of this storage alone. */
async function assertWhole(storage: Storage): Promise<string[]> {
  const { dumps, unreadable } = await listDumps(storage, 'main')
  assert.deepEqual(unreadable, [])
  for (const record of dumps) {
    const files = Object.entries(contents.get(record.id) ?? {})
    assert.ok(files.length > 0)
    for (const [number, [name, bytes]] of files.entries()) {
      assert.equal(record.files[number]?.name, name)
      assert.ok((await readWholeFile(storage, record, number)).equals(bytes), name)
    }
    assert.deepEqual(await proveDump(storage, record), [])
  }
  return dumps.map(({ id }) => id)
}

/** No hold, no condemned set, and no pack that no record names. */
async function assertTidy(storage: Storage): Promise<void> {
  assert.deepEqual(await collect(storage.list(holdPrefix('main'))), [])
  assert.deepEqual(await collect(storage.list('clusters/main/condemned/')), [])
  const { dumps } = await listDumps(storage, 'main')
  const named = new Set(dumps.flatMap(({ packs }) => packs.map(({ id }) => id)))
  const strays = [...(await listDumpPacks(storage, 'main')).keys()].filter((id) => !named.has(id))
  assert.deepEqual(strays, [])
}

/** The next run, after those before it are dead. */
async function assertConverges(storages: readonly Storage[]): Promise<void> {
  for (const storage of storages) await declareWritersDead(storage)
  const { record } = await dumpInto(storages)
  for (const storage of storages) {
    assert.ok((await assertWhole(storage)).includes(record.id))
    await assertTidy(storage)
  }
}

test('killed before or after any call: listed whole or not at all', async () => {
  const ends = new Set<number>()
  const crashes = await forEachCrashPoint({
    prepare: async () => openScene(),
    run: async (storage) => await dumpInto([storage]),
    check: async (storage, { when }) => {
      const listed = await assertWhole(storage)
      ends.add(listed.length)
      if (when === 'never') await assertTidy(storage)
      await assertConverges([storage])
    },
  })
  assert.ok(crashes > 40, String(crashes))
  assert.deepEqual([...ends].sort(), [1, 2])
})

for (const kind of ['refused', 'full'] as const) {
  test(`any one call ${kind}: nothing is listed, and nothing is left`, async () => {
    for (let at = 1; ; at++) {
      const storage = openScene()
      const faulty = openFaultyStorage(storage, [{ at, kind }])
      const outcome = await dumpInto([faulty]).then(
        ({ notes }) => notes.join(),
        (error: unknown) => error,
      )
      if (faulty.trace.length < at) break
      const call = faulty.trace[at - 1]
      const listed = await assertWhole(storage)
      if (typeof outcome === 'string') {
        assert.equal(listed.length, 2)
        assert.match(outcome, /hold of this dump|verified\.seen cannot be read/)
      } else {
        assert.ok(isFailure(outcome), String(outcome))
        assert.equal(listed.length, 1, `${call?.operation} ${call?.key}`)
        await assertTidy(storage)
      }
      if (at % 5 === 0) await assertConverges([storage])
    }
  })
}

for (const when of ['before the record', 'with the record'] as const) {
  test(`a dump whose hold is taken away ${when} lists nothing, expiry removes packs`, async () => {
    const storage = openScene()
    const write = storage.write.bind(storage)
    let records = 0
    const robHolds = async (): Promise<void> => {
      for (const { key } of await collect(storage.list(holdPrefix('main')))) {
        await storage.remove(key)
      }
    }
    storage.write = async (key, bytes, options) => {
      await write(key, bytes, options)
      if (!key.endsWith('.dump')) return
      records++
      await robHolds()
    }
    const beforePublish = when === 'before the record' ? robHolds : async () => {}
    await assert.rejects(dumpInto([storage], { beforePublish }), { code: 'TM1901' })
    assert.equal(records, when === 'with the record' ? 1 : 0)
    assert.deepEqual(await assertWhole(storage), [base.id])
    // It cannot know who has referred to them since its hold was gone.
    const { signal } = new AbortController()
    const options = { storage, cluster: 'main', policy: undefined, apply: true, signal }
    await expireDumps({ ...options, progress: SILENT })
    assert.deepEqual(await assertWhole(storage), [base.id])
    await assertTidy(storage)
  })
}

async function condemn(storage: Storage, keys: readonly string[]): Promise<void> {
  const set = { id: '0'.repeat(16), ...readHolder(), startedAt: '', backups: [], packs: [], keys }
  await writeCondemnedSet(storage, 'main', set)
}

async function heldKeys(storage: Storage): Promise<readonly string[]> {
  const { holds } = await listHolds(storage, 'main')
  return holds.flatMap(({ keys = [] }: Hold) => keys)
}

test('while it runs its hold names the record and the packs of the base', async () => {
  const storage = openScene()
  let held: readonly string[] = []
  const beforePublish = async (): Promise<void> => {
    held = await heldKeys(storage)
  }
  const { record, stored } = await dumpInto([storage], { beforePublish })
  assert.equal(record.base, base.id)
  assert.ok(record.sizes.reusedChunks > 0)
  assert.deepEqual(stored, [0])
  assert.deepEqual(held, [
    dumpKey('main', base.id),
    ...base.packs.map(({ id }) => dumpPackKey('main', id)),
  ])
})

/** Whatever becomes of the older dump, the new one needs nothing of it. */
async function assertIndependent(storage: Storage, record: DumpRecord): Promise<void> {
  for (const { id } of base.packs) await storage.remove(dumpPackKey('main', id))
  await storage.remove(dumpKey('main', base.id))
  assert.deepEqual(await assertWhole(storage), [record.id])
}

test('a base that is condemned is not used, nor held', async () => {
  const storage = openScene()
  await condemn(storage, [dumpKey('main', base.id)])
  let held: readonly string[] = ['?']
  const beforePublish = async (): Promise<void> => {
    held = await heldKeys(storage)
  }
  const { record, notes } = await dumpInto([storage], { beforePublish })
  assert.equal(record.base, undefined)
  assert.deepEqual(held, [])
  assert.match(notes.join(), new RegExp(`${base.id}, which is expiring`))
  await assertIndependent(storage, record)
})

test('of an older base the next one is taken when the newest expires', async () => {
  const storage = openScene()
  const { record: newer } = await dumpInto([storage])
  await condemn(storage, [dumpKey('main', newer.id)])
  const { record } = await dumpInto([storage])
  assert.equal(record.base, base.id)
  const needed = new Set([...base.packs, ...record.packs].map(({ id }) => id))
  for (const { id } of newer.packs) {
    if (!needed.has(id)) await storage.remove(dumpPackKey('main', id))
  }
  await storage.remove(dumpKey('main', newer.id))
  assert.deepEqual(await assertWhole(storage), [base.id, record.id])
})

test('a base that goes while the hold is written is not used', async () => {
  const storage = openScene()
  const write = storage.write.bind(storage)
  storage.write = async (key, bytes, options) => {
    if (key.endsWith('.hold')) await storage.remove(dumpKey('main', base.id))
    await write(key, bytes, options)
  }
  const { record } = await dumpInto([storage])
  assert.equal(record.base, undefined)
  await assertIndependent(storage, record)
})

test('a condemned set that cannot be read condemns everything', async () => {
  const storage = openScene()
  await storage.write(`clusters/main/condemned/${'0'.repeat(16)}.set`, Buffer.from('noise'))
  const { record, notes } = await dumpInto([storage])
  assert.equal(record.sizes.reusedBytes, 0)
  assert.ok(notes.some((note) => note.includes('cannot be read')))
  await assertIndependent(storage, record)
})

for (const fate of ['condemned', 'missing', 'cut short'] as const) {
  test(`what lies in a pack of the base that is ${fate} is stored anew`, async () => {
    const storage = openScene()
    const { id = '', bytes = 0 } = base.packs[0] ?? {}
    const key = dumpPackKey('main', id)
    const pack = (await storage.read(key)) as Uint8Array
    if (fate === 'condemned') await condemn(storage, [key])
    else if (fate === 'missing') await storage.remove(key)
    else await storage.write(key, pack.subarray(0, bytes - 1))
    const { record } = await dumpInto([storage])
    assert.ok(!record.packs.some((one) => one.id === id))
    assert.ok(record.sizes.reusedBytes > 0)
    await storage.remove(dumpKey('main', base.id))
    assert.deepEqual(await assertWhole(storage), [record.id])
  })
}

test('what the base lists in packs that cannot be opened is stored anew', async () => {
  const storage = openScene()
  for (const { id, bytes } of base.packs) {
    const key = dumpPackKey('main', id)
    const pack = Buffer.from((await storage.read(key)) as Uint8Array)
    await storage.write(key, pack.fill(0, bytes - 64))
  }
  const { record, notes } = await dumpInto([storage])
  assert.match(notes.join(), /1 chunk lists of dump .* cannot be read/)
  await assertIndependent(storage, record)
})

for (const fate of ['removed', 'cut short'] as const) {
  for (const whose of ['its own', "the base's"]) {
    test(`no record is created while a pack, ${whose}, is ${fate}`, async () => {
      const storage = openScene()
      const old = new Set(base.packs.map(({ id }) => id))
      const id = makeDumpId()
      const beforePublish = async (): Promise<void> => {
        const [pack] = [...(await listDumpPacks(storage, 'main'))].filter(
          ([one]) => old.has(one) === (whose !== 'its own'),
        )
        const key = dumpPackKey('main', pack?.[0] ?? '')
        if (fate === 'removed') return await storage.remove(key)
        const bytes = (await storage.read(key)) as Uint8Array
        await storage.write(key, bytes.subarray(1))
      }
      const code = fate === 'removed' ? 'TM1602' : 'TM1601'
      await assert.rejects(dumpInto([storage], { id, beforePublish }), { code })
      assert.equal((await listDumps(storage, 'main')).dumps.length, 1)
      await assertTidy(storage)
    })
  }
}

test('two dumps at once are both whole', async () => {
  const storage = openScene()
  const files = { '1.dump': madeUpRows(300_000, 9) }
  await Promise.all([dumpInto([storage]), dumpInto([storage], { files, pieceBytes: 5000 })])
  assert.equal((await assertWhole(storage)).length, 3)
  await assertTidy(storage)
})

/** As a process that died before its record leaves it. */
async function leaveBehind(storage: Storage): Promise<string> {
  const id = makeDumpId()
  const faulty = openFaultyStorage(storage)
  const beforePublish = async (): Promise<void> => {
    faulty.addFault({ at: faulty.trace.length + 1, kind: 'crash', when: 'before' })
  }
  await assert.rejects(dumpInto([faulty], { id, beforePublish }), CrashError)
  return id
}

test('whoever cleans up removes what a dead dump left, not what a living one has', async () => {
  const storage = openScene()
  const id = await leaveBehind(storage)
  const before = (await listDumpPacks(storage, 'main')).size
  assert.deepEqual(await cleanUpDeadHolds(storage, 'main'), [])
  assert.equal((await listDumpPacks(storage, 'main')).size, before)
  await declareWritersDead(storage)
  const remove = storage.remove.bind(storage)
  storage.remove = async (key) => {
    // By its key, so that a dump that begins now does not use it.
    const isPack = key.includes('/dump-packs/')
    if (isPack) assert.ok((await readCondemned(storage, 'main')).hasKey(key))
    await remove(key)
  }
  const [note] = await cleanUpDeadHolds(storage, 'main')
  assert.equal(
    note,
    `removed what the interrupted dump ${id} left (${before - base.packs.length} packs)`,
  )
  await assertTidy(storage)
  assert.deepEqual(await assertWhole(storage), [base.id])
})

test('packs of a dead dump that somebody holds by their keys stay', async () => {
  const storage = openScene()
  await leaveBehind(storage)
  await declareWritersDead(storage)
  const [pack] = [...(await listDumpPacks(storage, 'main')).keys()].filter(
    (one) => !base.packs.some(({ id }) => id === one),
  )
  const hold = { id: makeDumpId(), purpose: 'sync', startedAt: '', needs: [] } as const
  const keys = [dumpPackKey('main', pack ?? '')]
  await writeHold(storage, 'main', { ...hold, ...readHolder(), keys })
  assert.deepEqual(await cleanUpDeadHolds(storage, 'main'), [])
  assert.ok((await listDumpPacks(storage, 'main')).has(pack ?? ''))
  await removeHold(storage, 'main', hold.id)
  await cleanUpDeadHolds(storage, 'main')
  await assertTidy(storage)
})

test('everything is stored anew when that is asked for', async () => {
  const storage = openScene()
  const { record } = await dumpInto([storage], { rewrite: true })
  assert.equal(record.base, undefined)
  await assertIndependent(storage, record)
})

test('a dump that is cancelled leaves nothing', async () => {
  const storage = openScene()
  const controller = new AbortController()
  const beforePublish = async (): Promise<void> => controller.abort(new Error('enough'))
  const cancelled = dumpInto([storage], { signal: controller.signal, beforePublish })
  await assert.rejects(cancelled, /enough/)
  assert.deepEqual(await assertWhole(storage), [base.id])
  await assertTidy(storage)
})

test('a dump that is cancelled while its last packs are written leaves nothing', async () => {
  const storage = openScene()
  const controller = new AbortController()
  const openWriter = storage.openWriter.bind(storage)
  let isLate = false
  storage.openWriter = async (key) => {
    const writer = await openWriter(key)
    const commit = async (): Promise<void> => {
      if (isLate) controller.abort(new Error('enough'))
      await writer.commit()
    }
    return { append: (pieces) => writer.append(pieces), commit, abort: () => writer.abort() }
  }
  const beforePublish = async (): Promise<void> => {
    isLate = true
  }
  const cancelled = dumpInto([storage], { signal: controller.signal, beforePublish })
  await assert.rejects(cancelled, /enough/)
  assert.deepEqual(await assertWhole(storage), [base.id])
  await assertTidy(storage)
})

/** Both have the base. */
const openBoth = (): Storage[] => [openScene(), openScene()]

for (const kind of ['refused', 'crash'] as const) {
  for (const member of [0, 1]) {
    const who = member === 0 ? 'required' : 'other'
    test(`of two repositories the ${who} one at any call: ${kind}`, async () => {
      for (let at = 1; ; at++) {
        const inner = openBoth()
        const life: ProcessLife = {}
        const fault: Fault = kind === 'crash' ? { at, kind, when: 'after' } : { at, kind }
        const faulty = inner.map((one, number) => {
          return openFaultyStorage(one, number === member ? [fault] : [], life)
        })
        const outcome = await dumpInto(faulty).then(
          ({ stored }) => stored,
          (error: unknown) => error,
        )
        if ((faulty[member]?.trace.length ?? 0) < at) break
        const listed = [
          await assertWhole(inner[0] as Storage),
          await assertWhole(inner[1] as Storage),
        ]
        if (Array.isArray(outcome)) {
          assert.deepEqual(
            listed.map(({ length }) => length),
            [0, 1].map((number) => (outcome.includes(number) ? 2 : 1)),
          )
          if (outcome.length === 1) await assertTidy(inner[1] as Storage)
        } else if (kind === 'refused') {
          assert.equal(member, 0)
          assert.deepEqual(listed, [[base.id], [base.id]])
          for (const one of inner) await assertTidy(one)
        }
        if (at % 4 === 0) await assertConverges(inner)
      }
    })
  }
}

test('where one repository lacks the base both get everything', async () => {
  const [first, second] = [openScene(), openMemoryStorage()]
  const { record, stored, notes } = await dumpInto([first, second])
  assert.deepEqual(stored, [0, 1])
  assert.deepEqual(notes, [])
  assert.equal(record.base, undefined)
  assert.deepEqual(await assertWhole(second), [record.id])
  await assertIndependent(first, record)
})

test('where one repository lacks a pack of the base nobody refers to it', async () => {
  const [first, second] = openBoth() as [Storage, Storage]
  const lost = base.packs[0]?.id ?? ''
  await second.remove(dumpPackKey('main', lost))
  const { record } = await dumpInto([first, second])
  assert.ok(!record.packs.some(({ id }) => id === lost))
  await second.remove(dumpKey('main', base.id))
  assert.deepEqual(await assertWhole(second), [record.id])
})
