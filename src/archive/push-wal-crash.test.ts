/** `wal push` with a crash, and with an error, at every call to the storage. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { forEachCrashPoint, openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { buildSegment, MB, SYSTEM, segmentName } from '../../test/harness/wal-builder.ts'
import { Failure } from '../base/failure.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { findWalFile } from './fetch-wal.ts'
import { listWal } from './list-wal.ts'
import { pushWalFile } from './push-wal.ts'
import { segmentKey } from './wal-file-name.ts'
import { encodeWalObject } from './wal-object.ts'

const ID = SYSTEM.toString()
const NAME = segmentName()
const KEY = segmentKey('main', ID, NAME)
const OURS = buildSegment({ mark: 1 })
const THEIRS = buildSegment({ mark: 2 })

let directory: string
let path: string

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidemark-crash-'))
  await mkdir(join(directory, 'pg_wal'))
  path = join(directory, 'pg_wal', NAME)
  await writeFile(path, OURS)
})

after(async () => {
  await rm(directory, { recursive: true })
})

function encode(content: Buffer): Uint8Array {
  return encodeWalObject({ systemIdentifier: ID, name: NAME, headerTimeline: 1, content })
}

function damaged(): Uint8Array {
  const bytes = encode(OURS)
  bytes[150] = (bytes[150] as number) ^ 1
  return bytes
}

async function prepare(existing?: Uint8Array): Promise<Storage> {
  const storage = openMemoryStorage()
  await ensureSystemIdentity(storage, 'main', {
    systemIdentifier: ID,
    major: 15,
    walSegmentSizeBytes: MB,
    createdAt: '',
  })
  if (existing !== undefined) await storage.write(KEY, existing)
  return storage
}

const push = async (storage: Storage) =>
  await pushWalFile({ storages: [storage], cluster: 'main', path })

async function archived(storage: Storage): Promise<Buffer | undefined> {
  const request = { storages: [storage], cluster: 'main', systemIdentifier: ID, name: NAME }
  return (await findWalFile(request))?.content
}

const isConflict = (error: unknown): boolean => error instanceof Failure && error.code === 'TM1402'

test('an empty archive: after a crash the file is whole or absent; a retry stores it', async () => {
  const crashes = await forEachCrashPoint({
    prepare: async () => await prepare(),
    run: push,
    check: async (storage) => {
      const found = await archived(storage)
      assert.ok(found === undefined || found.equals(OURS))
      await push(storage)
      assert.deepEqual(await archived(storage), OURS)
    },
  })
  assert.ok(crashes >= 4, String(crashes))
})

test('a conflict: the first content stays, and a retry leaves a quarantined copy', async () => {
  const crashes = await forEachCrashPoint({
    prepare: async () => await prepare(encode(THEIRS)),
    run: async (storage) => await assert.rejects(push(storage), isConflictOrCrash(storage)),
    check: async (storage) => {
      assert.deepEqual(await archived(storage), THEIRS)
      await assert.rejects(push(storage), isConflict)
      assert.deepEqual(await archived(storage), THEIRS)
      assert.equal((await listWal(storage, 'main', ID)).quarantine.length, 1)
    },
  })
  assert.ok(crashes >= 5, String(crashes))
})

function isConflictOrCrash(storage: { readonly crashed: boolean }) {
  return (error: unknown): boolean => storage.crashed || isConflict(error)
}

test('a damaged object: never is there nothing, and the damaged bytes are kept', async () => {
  const crashes = await forEachCrashPoint({
    prepare: async () => await prepare(damaged()),
    run: push,
    check: async (storage) => {
      const bytes = await storage.read(KEY)
      assert.ok(bytes !== undefined)
      const { quarantine } = await listWal(storage, 'main', ID)
      const kept = await storage.read(quarantine[0]?.key ?? 'none')
      const either = [bytes, kept].filter((each) => each !== undefined)
      assert.ok(either.some((each) => Buffer.from(each).equals(damaged())))
      await push(storage)
      assert.deepEqual(await archived(storage), OURS)
    },
  })
  assert.ok(crashes >= 7, String(crashes))
})

test('an error at any call fails the push, and the next one succeeds', async () => {
  for (const existing of [undefined, encode(OURS), damaged()]) {
    for (const kind of ['refused', 'full', 'transient'] as const) {
      for (let at = 1; ; at++) {
        const inner = await prepare(existing)
        const faulty = openFaultyStorage(inner, [{ at, kind }])
        const outcome = await push(faulty).then(
          () => undefined,
          (error: unknown) => error,
        )
        if (faulty.trace.length < at) {
          assert.equal(outcome, undefined)
          break
        }
        assert.ok(outcome instanceof Failure, `${kind} at ${at}`)
        assert.equal(outcome.code, kind === 'full' ? 'TM1506' : 'TM1501')
        await push(inner)
        assert.deepEqual(await archived(inner), OURS)
      }
    }
  }
})

test('fetch: an error at any call is a failure, never absent', async () => {
  for (const existing of [undefined, encode(OURS)]) {
    for (let at = 1; ; at++) {
      const faulty = openFaultyStorage(await prepare(existing), [{ at, kind: 'transient' }])
      const outcome = await archived(faulty).then(
        (found) => ({ found }),
        (error: unknown) => error,
      )
      if (faulty.trace.length < at) break
      assert.ok(outcome instanceof Failure, `at ${at}`)
      assert.equal(outcome.code, 'TM1501')
    }
  }
})
