/** Journals after a rotation: readable in every state, and said while an older key opens them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { forEachCrashPoint } from '../../test/harness/faulty-storage.ts'
import { buildSegment, MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import { findTail } from '../archive/read-tail.ts'
import { encodeTailChunk, encodeTailHead } from '../archive/tail-format.ts'
import { journalKey } from '../archive/tail-keys.ts'
import { SILENT } from '../base/progress.ts'
import { formatSegmentName, lsn } from '../postgres/lsn.ts'
import { rotateDataKey } from '../repository/change-keys.ts'
import type { KeySecret } from '../repository/key-slots.ts'
import { createRepository } from '../repository/repository.ts'
import { findOlderKey, listKeyUse, rewriteObjects } from '../repository/rewrite-objects.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
import { ensureFirstKey, unlockRepository } from '../repository/unlock.ts'
import type { Sealing } from '../storage/data-keys.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { formatProcessIdentity, readProcessIdentity } from '../storage/process-identity.ts'
import { openSealedStorage } from '../storage/sealed-storage.ts'
import type { Storage } from '../storage/storage.ts'
import { settleJournals } from './settle-journals.ts'

const AT = new Date('2026-11-21T00:00:00Z')
const NEVER = new AbortController().signal
const SECRET: KeySecret = { kind: 'key-file', bytes: Buffer.alloc(40, 'k'), where: '' }
const ID = SYSTEM.toString()
const PLACE = { cluster: 'main', systemIdentifier: ID, walSegmentSizeBytes: MB }
const NAME = formatSegmentName(1, 1n, MB)
const SENT = buildSegment({ mark: 7 }).subarray(0, 30_000)

const SELF = readProcessIdentity()
const WRITERS = {
  dead: formatProcessIdentity({ ...SELF, startTicks: '1' }),
  alive: formatProcessIdentity(SELF),
  unknown: formatProcessIdentity({ ...SELF, machine: '0'.repeat(16) }),
}

interface Rotated {
  readonly plain: Storage
  readonly key: string
  readonly sealing: Sealing
  /** What the receiver does next. */
  readonly append: (from: number, to: number) => void
}

/** A journal of 20,000 bytes, and then a new data key. */
async function rotate(writer: string): Promise<Rotated> {
  const plain = openMemoryStorage()
  await createRepository(plain, AT, true)
  await ensureFirstKey(plain, { secret: SECRET, label: '', createdAt: AT })
  const first = await unlockRepository(plain, SECRET)
  const sealed = openSealedStorage(plain, first)
  const identity = { systemIdentifier: ID, major: 15, walSegmentSizeBytes: MB, createdAt: '' }
  await ensureSystemIdentity(sealed, 'main', identity)
  const opening = 'ab'.repeat(8)
  const key = journalKey('main', ID, NAME, opening)
  const startedAt = AT.toISOString()
  const tail = { systemIdentifier: ID, segment: NAME, walSegmentSizeBytes: MB }
  const head = encodeTailHead({ ...tail, opening, writer, startedAt })
  const journal = (await sealed.openJournal?.(key, head)) ?? assert.fail()
  const append = (from: number, to: number): void =>
    journal.append(encodeTailChunk(lsn(BigInt(MB + from)), [SENT.subarray(from, to)]))
  append(0, 9000)
  append(9000, 20_000)
  const { sealing } = await rotateDataKey(plain, first, AT)
  return { plain, key, sealing, append }
}

/** As `key rotate --rewrite` does. */
async function rewrite(plain: Storage, sealing: Sealing) {
  const sealed = openSealedStorage(plain, sealing)
  const settled = await settleJournals(sealed, NEVER)
  return { settled, ...(await rewriteObjects(sealed, SILENT, NEVER)) }
}

/** By a process that was started afterwards. */
async function readBack(plain: Storage): Promise<Uint8Array | undefined> {
  const sealed = openSealedStorage(plain, await unlockRepository(plain, SECRET))
  return (await findTail([sealed], PLACE, NAME))?.bytes
}

async function usesOfOlder(plain: Storage, sealing: Sealing): Promise<string[]> {
  const newest = sealing.keys.at(-1)?.id
  const keys: string[] = []
  for await (const use of listKeyUse(openSealedStorage(plain, sealing), '')) {
    if (use.keyId !== newest) keys.push(use.key)
  }
  return keys
}

test('what a dead receiver has left is sealed anew, as pieces', async () => {
  const { plain, key, sealing } = await rotate(WRITERS.dead)
  const sealed = openSealedStorage(plain, sealing)
  const { settled, journals } = await rewrite(plain, sealing)
  assert.deepEqual([settled, journals], [1, 0])
  assert.equal(await plain.size(key), undefined)
  assert.ok(SENT.subarray(0, 20_000).equals((await readBack(plain)) ?? assert.fail()))
  assert.deepEqual(await usesOfOlder(plain, sealing), [])
  assert.equal(await findOlderKey(sealed), undefined)
})

for (const liveness of ['alive', 'unknown'] as const) {
  test(`the journal of a receiver that is ${liveness} stays, is said, and goes on`, async () => {
    const { plain, key, sealing, append } = await rotate(WRITERS[liveness])
    const { settled, journals } = await rewrite(plain, sealing)
    assert.deepEqual([settled, journals], [0, 1])
    assert.deepEqual(await usesOfOlder(plain, sealing), [key])
    append(20_000, 30_000)
    assert.ok(SENT.equals((await readBack(plain)) ?? assert.fail()))
    // Its next segment: the newest key.
    const sealed = openSealedStorage(plain, sealing)
    const next = journalKey('main', ID, formatSegmentName(1, 2n, MB), 'cd'.repeat(8))
    await sealed.openJournal?.(next, Buffer.from('{}'))
    assert.equal((await sealed.findSeal(next))?.keyId, sealing.keys.at(-1)?.id)
  })
}

test('a rewrite that was begun is ended for a journal alone', async () => {
  const { plain, key, sealing } = await rotate(WRITERS.dead)
  const sealed = openSealedStorage(plain, sealing)
  await rewriteObjects(sealed, SILENT, NEVER)
  assert.equal(await findOlderKey(sealed), key)
})

test('a damaged one stays as it is', async () => {
  const { plain, key, sealing } = await rotate(WRITERS.dead)
  const bytes = Buffer.from((await plain.read(key)) ?? assert.fail())
  const at = bytes.indexOf('TMJC', 200) + 1000
  bytes[at] = (bytes[at] as number) ^ 1
  await plain.write(key, bytes)
  const { settled, journals } = await rewrite(plain, sealing)
  assert.deepEqual([settled, journals], [0, 1])
  assert.ok(bytes.equals(Buffer.from((await plain.read(key)) ?? assert.fail())))
})

test('killed at any call, the tail is there, and the next run ends it', async () => {
  let sealing: Sealing | undefined
  const crashes = await forEachCrashPoint({
    async prepare() {
      const rotated = await rotate(WRITERS.dead)
      sealing = rotated.sealing
      return rotated.plain
    },
    run: async (storage) => {
      await settleJournals(openSealedStorage(storage, sealing ?? assert.fail()), NEVER)
    },
    async check(storage) {
      const sent = SENT.subarray(0, 20_000)
      assert.ok(sent.equals((await readBack(storage)) ?? assert.fail()))
      const { journals } = await rewrite(storage, sealing ?? assert.fail())
      assert.equal(journals, 0)
      assert.ok(sent.equals((await readBack(storage)) ?? assert.fail()))
    },
  })
  assert.ok(crashes >= 10, String(crashes))
})
