/** Who may continue the archive of a timeline: pushes from several data directories. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  damageObject,
  forEachCrashPoint,
  openFaultyStorage,
} from '../../test/harness/faulty-storage.ts'
import { toOldObject } from '../../test/harness/old-wal-object.ts'
import { testSealing } from '../../test/harness/sealing.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { SYSTEM } from '../../test/harness/wal-builder.ts'
import {
  archived,
  assertArchived,
  introduce,
  newArchive,
  partedServers,
  PLACE,
  quarantined,
  WritingServer,
} from '../../test/harness/writing-server.ts'
import { isFailure } from '../base/failure.ts'
import { formatLsn, lsn } from '../postgres/lsn.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { openSealedStorage } from '../storage/sealed-storage.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import type { Storage, WriteOptions } from '../storage/storage.ts'
import { pushWalFile } from './push-wal.ts'
import { encodeReservation, reservationKey } from './reservations.ts'
import { eventsKey, segmentKey } from './wal-file-name.ts'
import { findWriterRecord, writeWriterRecord } from './writer-record.ts'

const NOOP = { info: 0x20, resourceManager: 0, mainData: Buffer.alloc(0) }

async function writerOf(storage: Storage, timeline = 1): Promise<string | undefined> {
  const record = await findWriterRecord(storage, PLACE, timeline)
  return typeof record === 'object' ? record.writer.dataDirectory : record
}

const refused = (code: Parameters<typeof isFailure>[1], text?: RegExp) => (error: unknown) => {
  assert.ok(isFailure(error, code), String(error))
  if (text !== undefined) assert.match(`${error.because} ${error.fix}`, text)
  return true
}

test('the first push names the writer, and it goes on without more reads', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(4, 1)
  assert.equal(await server.push(storage, 1n), 'stored')
  assert.equal(await writerOf(storage), server.data)
  assert.equal(await server.push(storage, 2n), 'stored')
  server.start(2000)
  assert.equal(await server.push(storage, 3n), 'stored')
  const record = await findWriterRecord(storage, PLACE, 1)
  assert.ok(typeof record === 'object' && record.writer.startedAt === 2000)
})

test('a server that was moved goes on, by its copy or by its records', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(5, 1)
  await server.push(storage, 1n)
  const moved = server.clone()
  moved.put(1n)
  assert.equal(await moved.push(storage, 2n), 'stored')
  assert.equal(await writerOf(storage), moved.data)
  const again = server.clone()
  assert.equal(await again.push(storage, 3n), 'stored')
  assert.equal(await writerOf(storage), again.data)
})

test('a clone that went its own way before the end of the archive is refused', async () => {
  const storage = await newArchive()
  const { server, clone } = partedServers(3)
  await server.push(storage, 1n)
  await server.push(storage, 2n)
  await assert.rejects(clone.push(storage, 3n), refused('TM1460', /wal adopt main --timeline 1/))
  clone.put(2n)
  await assert.rejects(clone.push(storage, 3n), refused('TM1460'))
  assert.deepEqual(await quarantined(storage), [clone.name(3n)])
  assert.equal(await writerOf(storage), server.data)
  assert.equal(await server.push(storage, 3n), 'stored')
})

test('a clone that archives first fits; the original is told, and nothing is lost', async () => {
  const storage = await newArchive()
  const { server, clone } = partedServers(3)
  await server.push(storage, 1n)
  assert.equal(await clone.push(storage, 2n), 'stored')
  const text = new RegExp(`the archive has it from ${clone.data} on`)
  await assert.rejects(server.push(storage, 2n), refused('TM1402', text))
  // A parallel archiver of the original comes with what is behind.
  await assert.rejects(server.push(storage, 3n), refused('TM1460'))
  assert.deepEqual(await quarantined(storage), [server.name(2n), server.name(3n)])
  assert.equal(await clone.push(storage, 3n), 'stored')
})

test('over a gap a new server must hold the last archived segment', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(6, 1)
  await server.push(storage, 1n)
  const moved = server.clone()
  await assert.rejects(moved.push(storage, 4n), refused('TM1461', /last archived segment is 0/))
  moved.put(1n)
  assert.equal(await moved.push(storage, 4n), 'stored')
  const stranger = new WritingServer()
  stranger.write(6, 3)
  stranger.put(1n)
  await assert.rejects(stranger.push(storage, 6n), refused('TM1461'))
  await moved.push(storage, 5n)
  await assert.rejects(stranger.push(storage, 6n), refused('TM1460'))
})

test('the same server goes on where nothing can be shown', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(6, 1)
  await server.push(storage, 1n)
  server.recycle(1n)
  server.start(3000)
  assert.equal(await server.push(storage, 5n), 'stored')
})

test('a file brought by hand mends a hole where it fits between its neighbours', async () => {
  const storage = await newArchive()
  const { server, clone } = partedServers(4)
  for (const segment of [1n, 3n]) await server.push(storage, segment)
  const directory = temporaryDirectory()
  const path = join(directory, server.name(2n))
  writeFileSync(path, clone.content(2n))
  await assert.rejects(clone.push(storage, 2n, path), refused('TM1460'))
  writeFileSync(path, server.content(2n))
  assert.equal(await server.push(storage, 2n, path), 'stored')
  assert.equal(await writerOf(storage), server.data)
})

test('a standby hands on what fits, and never becomes the writer', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(4, 1)
  const standby = server.clone()
  writeFileSync(join(standby.data, 'standby.signal'), '')
  assert.equal(await standby.push(storage, 1n), 'stored')
  assert.equal(await writerOf(storage), undefined)
  await server.push(storage, 1n)
  await server.push(storage, 2n)
  standby.put(2n)
  assert.equal(await standby.push(storage, 3n), 'stored')
  assert.equal(await server.push(storage, 3n), 'found')
  assert.equal(await writerOf(storage), server.data)
  const stray = new WritingServer()
  stray.write(4, 4)
  writeFileSync(join(stray.data, 'standby.signal'), '')
  await assert.rejects(stray.push(storage, 4n), refused('TM1460'))
})

test('a record that cannot be read stops nobody who fits', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(3, 1)
  await server.push(storage, 1n)
  const key = `clusters/main/wal/${SYSTEM}/writers/00000001.writer`
  await storage.write(key, Buffer.from('{'))
  assert.equal(await server.push(storage, 2n), 'stored')
  assert.equal(await writerOf(storage), server.data)
})

test('who was passed over is refused, whatever it shows', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(3, 1)
  await server.push(storage, 1n)
  const moved = server.clone()
  await moved.push(storage, 2n)
  const record = await findWriterRecord(storage, PLACE, 1)
  assert.ok(typeof record === 'object')
  const other = { ...record.writer, inode: '1', dataDirectory: '/other' }
  await writeWriterRecord(storage, PLACE, { ...record, writer: other, passedOver: [record.writer] })
  await assert.rejects(moved.push(storage, 3n), refused('TM1463', /pg_rewind/))
  assert.equal(await moved.push(storage, 2n), 'found')
  const key = segmentKey('main', PLACE.systemIdentifier, moved.name(2n))
  await storage.write(key, toOldObject((await storage.read(key)) as Uint8Array))
  assert.equal(await moved.push(storage, 2n), 'found', 'archived with the hash of before')
})

test('a number that another restore reserved is refused, its own is not', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(1, 1)
  const promoted = server.clone(2)
  promoted.write(2, 2)
  const history = `1\t${formatLsn(lsn(server.wal.position))}\tno recovery target specified\n`
  const where = { hostName: 'h', dataDirectory: '/r', reservedAt: '' }
  const reservation = { ...where, timeline: 2, backup: 'b', restoreId: 'a1' }
  const key = reservationKey(PLACE, 2)
  await storage.write(key, encodeReservation(reservation))
  await assert.rejects(promoted.pushHistory(storage, history), refused('TM1462', /--release 2/))
  await assert.rejects(promoted.push(storage, 2n), refused('TM1462'))
  const marker = join(promoted.data, 'tidemark.restored')
  writeFileSync(marker, JSON.stringify({ takeOver: true, restoreId: 'a1' }))
  await promoted.pushHistory(storage, history)
  assert.equal(await storage.read(key), undefined)
  assert.equal(await promoted.push(storage, 2n), 'stored')
  assert.equal(await writerOf(storage, 2), promoted.data)
})

test('a reservation that nobody can read is of another, and one of another stays', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(1, 1)
  const promoted = server.clone(2)
  promoted.write(2, 2)
  const history = `1\t${formatLsn(lsn(server.wal.position))}\tno recovery target specified\n`
  const key = reservationKey(PLACE, 2)
  await storage.write(key, Buffer.from('{'))
  const marker = join(promoted.data, 'tidemark.restored')
  writeFileSync(marker, JSON.stringify({ takeOver: true, restoreId: 'b2' }))
  const unreadable = promoted.pushHistory(storage, history)
  await assert.rejects(unreadable, refused('TM1462', /--release 2/))
  await storage.remove(key)
  await promoted.pushHistory(storage, history)
  const where = { hostName: 'h', dataDirectory: '/r', reservedAt: '' }
  const reservation = { ...where, timeline: 2, backup: 'b', restoreId: 'a1' }
  await storage.write(key, encodeReservation(reservation))
  await promoted.pushHistory(storage, history)
  assert.ok((await storage.size(key)) !== undefined)
})

test('the longer one of two segments with the same records stays', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(1, 1)
  server.wal.append(NOOP)
  const open = server.clone()
  open.put(1n)
  server.write(1, 1)
  await server.push(storage, 1n)
  assert.equal(await open.push(storage, 2n), 'stored')
  const index = eventsKey('main', PLACE.systemIdentifier, open.name(2n))
  await storage.write(index, Buffer.from('of the shorter one'))
  assert.equal(await server.push(storage, 2n), 'extended')
  assert.equal(await storage.read(index), undefined)
  await assertArchived(storage, server.name(2n), server.content(2n))
  assert.equal(await open.push(storage, 2n), 'found')
  await assertArchived(storage, server.name(2n), server.content(2n))
  assert.equal((await quarantined(storage)).length, 2)
})

/** Before an object is written over, something else happens. */
class BeforeReplacing extends ForwardingStorage {
  #before: (() => Promise<unknown>) | undefined

  constructor(inner: Storage, before: () => Promise<unknown>) {
    super(inner)
    this.#before = before
  }

  override async write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    const before = key.endsWith('.wal') && options?.createOnly !== true ? this.#before : undefined
    if (before !== undefined) this.#before = undefined
    await before?.()
    await super.write(key, bytes, options)
  }
}

test('of two that extend a segment at once the longer one stays, whoever is last', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(1, 1)
  server.wal.append(NOOP)
  const short = server.clone()
  server.wal.append(NOOP)
  const middle = server.clone()
  server.write(1, 1)
  await server.push(storage, 1n)
  for (const one of [short, middle]) one.put(1n)
  await short.push(storage, 2n)
  const late = new BeforeReplacing(storage, async () => {
    assert.equal(await server.push(storage, 2n), 'extended')
  })
  await middle.push(late, 2n)
  await assertArchived(storage, server.name(2n), server.content(2n))
})

test('a standby over a gap is refused, even where nobody is known to write', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(5, 1)
  const standby = server.clone()
  writeFileSync(join(standby.data, 'standby.signal'), '')
  assert.equal(await standby.push(storage, 1n), 'stored')
  standby.recycle(1n)
  await assert.rejects(standby.push(storage, 4n), refused('TM1461'))
})

test('a crash while a segment is extended leaves one, and a retry the longer', async () => {
  const server = new WritingServer()
  server.write(1, 1)
  server.wal.append(NOOP)
  const open = server.clone()
  server.write(1, 1)
  open.put(1n)
  const either = [open.content(2n), server.content(2n)]
  const crashes = await forEachCrashPoint({
    async prepare() {
      const storage = await newArchive()
      await server.push(storage, 1n)
      await open.push(storage, 2n)
      return storage
    },
    run: async (storage) => await server.push(storage, 2n),
    async check(storage) {
      const there = await archived(storage, server.name(2n))
      assert.ok(either.some((one) => there?.equals(one)))
      await server.push(storage, 2n)
      await assertArchived(storage, server.name(2n), server.content(2n))
    },
  })
  assert.ok(crashes >= 16, String(crashes))
})

test('a crash while a moved server takes over leaves a timeline of one history', async () => {
  const server = new WritingServer()
  server.write(4, 1)
  const moved = server.clone()
  const crashes = await forEachCrashPoint({
    async prepare() {
      const storage = await newArchive()
      await server.push(storage, 1n)
      return storage
    },
    run: async (storage) => await moved.push(storage, 2n),
    async check(storage) {
      for (const one of [server, moved]) {
        for (const segment of [2n, 3n]) {
          assert.match(await one.push(storage, segment), /stored|found/)
        }
      }
      assert.deepEqual(await quarantined(storage), [])
    },
  })
  assert.ok(crashes >= 12, String(crashes))
})

test('the writer costs one more small read for each file, and no listing', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(3, 1)
  await server.push(storage, 1n)
  const counted = openFaultyStorage(storage)
  await server.push(counted, 2n)
  const calls = counted.trace.map(({ operation, key }) => `${operation} ${key.split('/').at(-1)}`)
  assert.deepEqual(calls.sort(), [
    'read 00000001.writer',
    `read ${SYSTEM}.json`,
    `write ${server.name(2n)}.wal`,
  ])
})

test('in an encrypted repository the same is shown, refused and extended', async () => {
  const storage = openSealedStorage(openMemoryStorage(), testSealing())
  await introduce(storage)
  const server = new WritingServer()
  server.write(1, 1)
  server.wal.append(NOOP)
  const open = server.clone()
  server.write(2, 1)
  const clone = open.clone()
  clone.write(2, 2)
  await server.push(storage, 1n)
  open.put(1n)
  assert.equal(await open.push(storage, 2n), 'stored')
  assert.equal(await server.push(storage, 2n), 'extended')
  await assert.rejects(clone.push(storage, 3n), refused('TM1460'))
  assert.equal(await server.push(storage, 3n), 'stored')
  assert.deepEqual((await quarantined(storage)).length, 3)
})

test('an error at any call fails a moved server, and its next push succeeds', async () => {
  const server = new WritingServer()
  server.write(3, 1)
  const moved = server.clone()
  for (const kind of ['refused', 'full', 'transient'] as const) {
    for (let at = 1; ; at++) {
      const inner = await newArchive()
      await server.push(inner, 1n)
      const faulty = openFaultyStorage(inner, [{ at, kind }])
      const outcome = await moved.push(faulty, 2n).catch((error: unknown) => error)
      if (faulty.trace.length < at) {
        assert.equal(outcome, 'stored')
        break
      }
      assert.ok(isFailure(outcome), `${kind} at ${at}`)
      assert.match(await moved.push(inner, 2n), /stored|found/)
      await assertArchived(inner, moved.name(2n), moved.content(2n))
    }
  }
})

test('a damaged neighbour shows nothing, and stops nobody who was the writer', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(4, 1)
  await server.push(storage, 1n)
  await damageObject(storage, keyOf(server, 1n), { kind: 'flip-bit', byte: -9 })
  const moved = server.clone()
  await assert.rejects(moved.push(storage, 2n), refused('TM1461'))
  server.start(5000)
  server.recycle(1n)
  assert.equal(await server.push(storage, 2n), 'stored')
})

function keyOf(server: WritingServer, segment: bigint): string {
  return segmentKey('main', PLACE.systemIdentifier, server.name(segment))
}

test('a backup puts its WAL behind a gap, and never where it contradicts the archive', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(5, 1)
  await server.push(storage, 1n)
  const moved = server.clone()
  const other = new WritingServer()
  other.write(5, 2)
  const backUp = async (from: WritingServer, segment: bigint): Promise<void> => {
    const path = from.put(segment)
    await pushWalFile({ storages: [storage], cluster: 'main', path, isOfBackup: true })
  }
  await assert.rejects(moved.push(storage, 4n), refused('TM1461'))
  await backUp(moved, 4n)
  await assert.rejects(backUp(other, 2n), refused('TM1460'))
})

test('a standby that is slower than the server which began the archive catches up', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(6, 1)
  for (const segment of [4n, 5n]) await server.push(storage, segment)
  const standby = server.clone()
  writeFileSync(join(standby.data, 'standby.signal'), '')
  await assert.rejects(standby.push(storage, 1n), refused('TM1461'))
  standby.put(4n)
  for (const segment of [1n, 2n, 3n]) {
    assert.equal(await standby.push(storage, segment), 'stored')
  }
  const stray = new WritingServer()
  stray.write(6, 3)
  stray.put(4n)
  for (const segment of [1n, 2n, 3n]) {
    await storage.remove(keyOf(server, segment))
  }
  await assert.rejects(stray.push(storage, 1n), refused('TM1460'))
})
