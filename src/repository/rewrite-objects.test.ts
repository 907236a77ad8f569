/** A rewrite beside those who replace objects under their names. */
import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { SILENT } from '../base/progress.ts'
import type { Sealing } from '../storage/data-keys.ts'
import { ForwardingStorage } from '../storage/forwarding-storage.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { openSealedStorage } from '../storage/sealed-storage.ts'
import type { ObjectWriter, Storage } from '../storage/storage.ts'
import { rotateDataKey } from './change-keys.ts'
import { type Hold, readHolder, writeHold } from './holds.ts'
import type { KeySecret } from './key-slots.ts'
import { createRepository } from './repository.ts'
import { findOlderKey, rewriteObjects } from './rewrite-objects.ts'
import { ensureFirstKey, unlockRepository } from './unlock.ts'

const AT = new Date('2026-11-21T00:00:00Z')
const NEVER = new AbortController().signal
const SECRET: KeySecret = { kind: 'key-file', bytes: Buffer.alloc(40, 'k'), where: '' }
const PACK = 'clusters/main/packs/7b4791032bf8c3a8d9e6090d/00000000.pack'
const PIN = 'clusters/main/pins/20261121-164153-31x6.pin'
const OLD = Buffer.alloc(100, 1)
const NEW = Buffer.alloc(200, 2)

let storage: Storage
let sealing: Sealing

beforeEach(async () => {
  storage = openMemoryStorage()
  await createRepository(storage, AT, true)
  await ensureFirstKey(storage, { secret: SECRET, label: '', createdAt: AT })
  const first = await unlockRepository(storage, SECRET)
  const sealed = openSealedStorage(storage, first)
  for (const key of [PACK, PIN]) await sealed.write(key, OLD)
  sealing = (await rotateDataKey(storage, first, AT)).sealing
})

/** `act` is done before a commit: the last moment at which something can come in between. */
class BeforeCommit extends ForwardingStorage {
  readonly #act: () => Promise<unknown>

  constructor(inner: Storage, act: () => Promise<unknown>) {
    super(inner)
    this.#act = act
  }

  override async openWriter(key: string): Promise<ObjectWriter> {
    const writer = await super.openWriter(key)
    const commit = async () => {
      await this.#act()
      await writer.commit()
    }
    return { append: (pieces) => writer.append(pieces), commit, abort: () => writer.abort() }
  }
}

const HOLD: Hold = {
  id: '20261121-170000-abcd',
  purpose: 'sync',
  ...readHolder(),
  startedAt: '',
  needs: [],
  keys: [PACK],
}

test('what a sync may be replacing is not put back as it was', async () => {
  const sync = openSealedStorage(storage, sealing)
  // It has looked for holds of others before the rewrite wrote its own.
  await writeHold(sync, 'main', HOLD)
  let expected = OLD
  const slow = new BeforeCommit(storage, async () => {
    await sync.write(PACK, NEW)
    expected = NEW
  })
  const result = await rewriteObjects(openSealedStorage(slow, sealing), SILENT, NEVER)
  assert.ok(expected.equals((await sync.read(PACK)) as Uint8Array), 'the sync has lost its frames')
  assert.equal(result.left, 1)
  assert.equal(result.objects, 0)
})

test('a pin that is changed in the last moment stays as it was changed', async () => {
  const person = openSealedStorage(storage, sealing)
  let expected = OLD
  const slow = new BeforeCommit(storage, async () => {
    await person.write(PIN, NEW)
    expected = NEW
  })
  await rewriteObjects(openSealedStorage(slow, sealing), SILENT, NEVER)
  assert.ok(expected.equals((await person.read(PIN)) as Uint8Array))
  assert.equal(await findOlderKey(person), undefined)
})
