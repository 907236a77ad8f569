import assert from 'node:assert/strict'
import { test } from 'node:test'
import { collect } from '../../test/harness/faulty-storage.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import {
  copiesOf,
  isAway,
  listenToFallback,
  openFallbackStorage,
  type PassedOver,
  readProved,
} from './fallback-storage.ts'
import { ForwardingStorage } from './forwarding-storage.ts'
import { openMemoryStorage } from './memory-storage.ts'
import { keysOfListing, type Storage, type StoredObject } from './storage.ts'

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

/** Fails with `code` at every reading, and counts how often it was asked. */
class Failing extends ForwardingStorage {
  override readonly url: string
  asked = 0
  code: FailureCode | undefined

  constructor(url: string, code: FailureCode | undefined, inner: Storage = openMemoryStorage()) {
    super(inner)
    this.url = url
    this.code = code
  }

  #ask(): void {
    this.asked++
    const because = `of ${this.url}`
    if (this.code === undefined) return
    throw new Failure(this.code, { message: 'no', because, fix: 'x' })
  }

  override async read(key: string): Promise<Uint8Array | undefined> {
    this.#ask()
    return await this.inner.read(key)
  }

  override async *list(prefix: string, after?: string): AsyncGenerator<StoredObject> {
    this.#ask()
    yield* this.inner.list(prefix, after)
  }

  override listKeys(prefix: string, after?: string): AsyncIterable<readonly string[]> {
    return keysOfListing(this.list(prefix, after))
  }
}

function listen(storage: Storage): PassedOver[] {
  const events: PassedOver[] = []
  listenToFallback(storage, (event) => void events.push(event))
  return events
}

async function fill(entries: Record<string, string>): Promise<Storage> {
  const storage = openMemoryStorage()
  for (const [key, text] of Object.entries(entries)) await storage.write(key, bytes(text))
  return storage
}

test('one storage alone is itself', () => {
  const only = openMemoryStorage()
  assert.equal(openFallbackStorage([only]), only)
  assert.deepEqual(copiesOf(only), [only])
})

test('the first that has it gives it, and who did not is told', async () => {
  const [a, b] = [
    new Failing('a:', undefined),
    new Failing('b:', undefined, await fill({ k: 'v' })),
  ]
  const storage = openFallbackStorage([a, b])
  const events = listen(storage)
  assert.deepEqual(await storage.read('k'), bytes('v'))
  assert.deepEqual(events, [{ url: 'a:', key: 'k', because: 'it is not there', takenFrom: 'b:' }])
})

test('absent is what all have proved, and nothing else', async () => {
  const empty = openMemoryStorage()
  assert.equal(await openFallbackStorage([empty, openMemoryStorage()]).read('k'), undefined)
  for (const order of [0, 1]) {
    const refusing = new Failing('b:', 'TM1501')
    const storage = openFallbackStorage(order === 0 ? [empty, refusing] : [refusing, empty])
    await assert.rejects(storage.read('k'), (error) => isFailure(error, 'TM1501'))
  }
})

test('a failure of all keeps the code of the nearest, and names each', async () => {
  const storage = openFallbackStorage([new Failing('a:', 'TM1601'), new Failing('b:', 'TM1501')])
  await assert.rejects(storage.read('k'), (error) => {
    assert.ok(isFailure(error, 'TM1601'))
    assert.equal(error.because, 'in a:: of a:; in b:: of b:')
    return true
  })
})

test('who does not answer is asked last from then on; who has damage is not', async () => {
  for (const [code, away] of [
    ['TM1509', true],
    ['TM1507', true],
    ['TM1601', false],
    ['TM1501', false],
  ] as const) {
    const [a, b] = [new Failing('a:', code), new Failing('b:', undefined, await fill({ k: 'v' }))]
    const storage = openFallbackStorage([a, b])
    await storage.read('k')
    await storage.read('k')
    assert.equal(a.asked, away ? 1 : 2, code)
    assert.equal(isAway(storage, a), away)
    assert.deepEqual(copiesOf(storage), away ? [b, a] : [a, b])
  }
})

test('what does not pass the proof is taken from the next', async () => {
  const storage = openFallbackStorage([await fill({ k: 'bad' }), await fill({ k: 'good' })])
  const events = listen(storage)
  const prove = (found: Uint8Array): string => {
    const text = Buffer.from(found).toString()
    if (text === 'good') return text
    throw new Failure('TM1601', { message: 'damaged', fix: 'x' })
  }
  assert.equal(await readProved(storage, 'k', prove), 'good')
  assert.equal(events.length, 1)
  assert.equal(await readProved(storage, 'absent', prove), undefined)
})

test('a listing is that of all, in order, each key once', async () => {
  const one = await fill({ a: '1', c: '333', e: '1' })
  const other = await fill({ b: '1', c: '4444', f: '1' })
  const listed = await collect(openFallbackStorage([one, other]).list(''))
  assert.deepEqual(
    listed.map(({ key, sizeBytes }) => `${key}${sizeBytes}`),
    ['a1', 'b1', 'c3', 'e1', 'f1'],
  )
})

test('a listing goes on without one that fails, says it, and fails when all do', async () => {
  const failing = new Failing('a:', 'TM1509')
  const storage = openFallbackStorage([failing, await fill({ k: 'v' })])
  const events = listen(storage)
  assert.deepEqual(
    (await collect(storage.list(''))).map(({ key }) => key),
    ['k'],
  )
  assert.equal(events.length, 1)
  events.length = 0
  await collect(storage.list('other/'))
  assert.equal(failing.asked, 1)
  assert.deepEqual(
    events.map(({ url, key, takenFrom }) => `${url} ${key} ${takenFrom}`),
    ['a: other/ memory:///'],
    'nobody may take it for the listing of all',
  )
  const none = openFallbackStorage([new Failing('a:', 'TM1509'), new Failing('b:', 'TM1509')])
  for (let times = 0; times < 2; times++) {
    await assert.rejects(collect(none.list('')), (error) => isFailure(error, 'TM1509'))
  }
})

test('who only bridges an absence takes damage and absence from the first', async () => {
  const whole = await fill({ k: 'v' })
  const damaged = openFallbackStorage([new Failing('a:', 'TM1601'), whole], 'away')
  await assert.rejects(damaged.read('k'), (error) => isFailure(error, 'TM1601'))
  const absent = openFallbackStorage([openMemoryStorage(), whole], 'away')
  assert.equal(await absent.read('k'), undefined)
  const bridged = openFallbackStorage([new Failing('a:', 'TM1509'), whole], 'away')
  assert.deepEqual(await bridged.read('k'), bytes('v'))
})

test('nothing is written to several that are read as one', async () => {
  const storage = openFallbackStorage([openMemoryStorage(), openMemoryStorage()])
  await assert.rejects(storage.write('k', bytes('v')), /take no writes/)
  await assert.rejects(storage.openWriter('k'), /take no writes/)
  await assert.rejects(storage.removeMany(['k']), /take no writes/)
})
