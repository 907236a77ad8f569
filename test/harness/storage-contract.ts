/**
 * What every storage driver and wrapper must do, as tests. `open` gives a new, empty place
 * that holds the marker already; `openAgain` opens the same place as another process would.
 */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../../src/base/failure.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { compareKeys, isStorageKey, MARKER_KEY } from '../../src/storage/storage-key.ts'
import { collect } from './faulty-storage.ts'

export interface ContractPlace {
  readonly storage: Storage
  openAgain(): Promise<Storage>
  dispose(): Promise<void>
}

const text = (value: string) => Buffer.from(value)

export async function keysOf(storage: Storage, prefix = '', after?: string): Promise<string[]> {
  const found = await collect(storage.list(prefix, after))
  return found.map(({ key }) => key).filter((key) => key !== MARKER_KEY)
}

export function describeStorageContract(name: string, open: () => Promise<ContractPlace>): void {
  describe(`storage contract: ${name}`, () => {
    let place: ContractPlace
    let storage: Storage
    beforeEach(async () => {
      place = await open()
      storage = place.storage
    })
    afterEach(async () => await place.dispose())

    describeReads(() => storage)
    describeWrites(() => storage)
    describeRaces(() => place)
    describeListing(() => storage)
  })
}

function describeReads(storage: () => Storage): void {
  test('an object is read whole, in ranges and past its end', async () => {
    await storage().write('a/b', text('0123456789'))
    assert.deepEqual(Buffer.from((await storage().read('a/b')) ?? []), text('0123456789'))
    const range = async (offset: number, length: number) =>
      Buffer.from((await storage().readRange('a/b', offset, length)) ?? text('absent')).toString()
    assert.equal(await range(0, 3), '012')
    assert.equal(await range(7, 3), '789')
    assert.equal(await range(7, 100), '789')
    assert.equal(await range(10, 5), '')
    assert.equal(await range(500, 5), '')
    assert.equal(await range(4, 0), '')
    assert.equal(await storage().size('a/b'), 10)
  })

  test('what is not there is undefined', async () => {
    await storage().write('a/b', text('x'))
    for (const key of ['b', 'a/c', 'a/b/c', 'x/y/z']) {
      assert.equal(await storage().read(key), undefined)
      assert.equal(await storage().readRange(key, 0, 1), undefined)
      assert.equal(await storage().size(key), undefined)
    }
    assert.equal(await storage().read('a'), undefined, 'the directory of a key is no object')
  })

  test('what was read is a copy of its own', async () => {
    await storage().write('a', text('abc'))
    const first = await storage().read('a')
    first?.fill(0)
    assert.deepEqual(Buffer.from((await storage().read('a')) ?? []), text('abc'))
  })

  test('keys that could leave the repository are refused by every operation', async () => {
    const bad = ['', '/a', 'a/', 'a//b', '../a', 'a/../b', '.incoming/x', 'a/.b', 'a b', 'ä']
    for (const key of [...bad, 'a\0', 'x'.repeat(300)]) {
      assert.equal(isStorageKey(key), false, key)
      await assert.rejects(storage().read(key), /not a storage key/)
      await assert.rejects(storage().readRange(key, 0, 1), /not a storage key/)
      await assert.rejects(storage().size(key), /not a storage key/)
      await assert.rejects(storage().write(key, text('x')), /not a storage key/)
      await assert.rejects(storage().openWriter(key), /not a storage key/)
      await assert.rejects(storage().remove(key), /not a storage key/)
    }
    for (const prefix of ['/', '../', 'a/../', '.incoming/', 'a//']) {
      assert.throws(() => storage().list(prefix), /not a prefix/)
      assert.throws(() => storage().listKeys(prefix), /not a prefix/)
    }
  })
}

function describeWrites(storage: () => Storage): void {
  test('an object of any size survives, empty ones too', async () => {
    for (const size of [0, 1, 8191, 200_000]) {
      const bytes = Buffer.alloc(size, size % 251)
      await storage().write(`size/${size}`, bytes)
      assert.deepEqual(Buffer.from((await storage().read(`size/${size}`)) ?? text('no')), bytes)
    }
  })

  test('a writer takes the bytes before it returns, and shows nothing before commit', async () => {
    const writer = await storage().openWriter('pack/1')
    const buffer = Buffer.from('first')
    writer.append([buffer, new Uint8Array(0), text('-')])
    buffer.fill(0)
    const many = Array.from({ length: 3000 }, (_, index) => text(`${index},`))
    writer.append(many)
    writer.append([])
    assert.equal(await storage().read('pack/1'), undefined)
    assert.deepEqual(await keysOf(storage()), [])
    await writer.commit()
    const expected = `first-${many.map(String).join('')}`
    const stored = Buffer.from((await storage().read('pack/1')) ?? []).toString()
    assert.ok(stored === expected, `${stored.slice(0, 40)}…`)
    assert.throws(() => writer.append([text('x')]), /finished/)
    await assert.rejects(writer.commit(), /finished/)
    await writer.abort()
    assert.equal(await storage().size('pack/1'), expected.length, 'abort after commit is void')
  })

  test('an aborted writer leaves nothing and may be aborted again', async () => {
    const writer = await storage().openWriter('pack/2')
    writer.append([text('half')])
    await writer.abort()
    await writer.abort()
    assert.equal(await storage().read('pack/2'), undefined)
    assert.throws(() => writer.append([text('x')]), /finished/)
    assert.deepEqual(await keysOf(storage()), [])
  })

  test('removing is durable, and no failure for what is not there', async () => {
    await storage().write('a/b', text('x'))
    await storage().remove('a/b')
    await storage().remove('a/b')
    await storage().remove('never/was')
    await storage().write('d/e', text('x'))
    await storage().remove('d')
    assert.deepEqual(await keysOf(storage()), ['d/e'])
  })

  test('createOnly refuses what exists, and leaves it as it is', async () => {
    await storage().write('once', text('first'), { createOnly: true })
    await assert.rejects(
      storage().write('once', text('second'), { createOnly: true }),
      (error) => isFailure(error, 'TM1502') && error.fix !== '',
    )
    assert.deepEqual(Buffer.from((await storage().read('once')) ?? []), text('first'))
    await storage().confirmDurable(['once', 'not/there'])
  })
}

function describeRaces(place: () => ContractPlace): void {
  test('of many concurrent creators exactly one wins, and its content is whole', async () => {
    const others = await Promise.all(Array.from({ length: 4 }, () => place().openAgain()))
    const contents = Array.from({ length: 16 }, (_, index) => Buffer.alloc(50_000, index))
    const results = await Promise.allSettled(
      contents.map(async (bytes, index) => {
        const storage = others[index % others.length] as Storage
        await storage.write('new/dir/once', bytes, { createOnly: true })
      }),
    )
    const winners = results.flatMap(({ status }, index) => (status === 'fulfilled' ? [index] : []))
    assert.equal(winners.length, 1)
    for (const result of results) {
      if (result.status === 'rejected') assert.ok(isFailure(result.reason, 'TM1502'), result.reason)
    }
    const stored = Buffer.from((await place().storage.read('new/dir/once')) ?? [])
    assert.ok(stored.equals(contents[winners[0] as number] as Buffer))
  })

  test('an overwritten object is always the old or the new one, never a mixture', async () => {
    const other = await place().openAgain()
    const content = (round: number) => Buffer.alloc(20_000 + round * 1000, round)
    await place().storage.write('hint', content(0))
    const state = { writing: true }
    const writes = (async () => {
      for (let round = 1; round <= 20; round += 1) await other.write('hint', content(round))
      state.writing = false
    })()
    while (state.writing) {
      const bytes = Buffer.from((await place().storage.read('hint')) ?? [])
      assert.ok(bytes.equals(content(bytes[0] ?? 255)), 'torn object')
    }
    await writes
  })
}

function describeListing(storage: () => Storage): void {
  test('lists in key order what starts with the prefix, with sizes', async () => {
    const keys = ['a/b', 'a-b', 'a.b', 'a0', 'a/b-c/d', 'a/b.c', 'b', 'a/c/d/e', 'A', '_']
    for (const key of keys) if (key !== 'a/b') await storage().write(key, text(key))
    const sorted = keys.filter((key) => key !== 'a/b').sort(compareKeys)
    assert.deepEqual(await keysOf(storage()), sorted)
    for (const prefix of ['a', 'a/', 'a/b', 'a/b-c/', 'a/b-c/d', 'x', 'a/c', 'x/y/', 'a0/']) {
      const expected = sorted.filter((key) => key.startsWith(prefix))
      assert.deepEqual(await keysOf(storage(), prefix), expected, prefix)
    }
    const found = await collect(storage().list('a/b'))
    assert.deepEqual(
      found.map(({ sizeBytes }) => sizeBytes),
      [7, 5],
    )
  })

  test('any set of keys is listed in order for any prefix', async () => {
    let run = 0
    const segment = fc.stringMatching(/^[ab_-][ab.-]{0,2}$/)
    const keys = fc.uniqueArray(fc.array(segment, { minLength: 1, maxLength: 3 }), {
      maxLength: 12,
      selector: (parts) => parts.join('/'),
    })
    await fc.assert(
      fc.asyncProperty(keys, fc.nat(), async (parts, pick) => {
        run += 1
        const place = `run${run}/`
        const all = withoutNesting(parts.map((each) => place + each.join('/')))
        for (const key of all) await storage().write(key, text('x'))
        const some = (all[pick % Math.max(1, all.length)] ?? '').slice(place.length)
        const prefix = place + some.slice(0, pick % 5)
        const expected = all.filter((key) => key.startsWith(prefix)).sort(compareKeys)
        const after = expected[pick % Math.max(1, expected.length)] ?? prefix
        const cut = `${prefix}${after.slice(prefix.length, prefix.length + 2)}`
        for (const behind of [undefined, after, cut]) {
          const listed = await keysOf(storage(), prefix, behind)
          assert.deepEqual(
            listed,
            expected.filter((key) => key > (behind ?? '')),
          )
          const keys = (await collect(storage().listKeys(prefix, behind))).flat()
          assert.deepEqual(keys, listed)
        }
        for (const key of all) await storage().remove(key)
      }),
      { numRuns: 30 },
    )
  })

  test('objects that vanish while they are listed are no failure', async () => {
    for (let index = 0; index < 200; index += 1) {
      await storage().write(`many/${index % 7}/${index}`, text('x'))
    }
    let count = 0
    for await (const { key } of storage().list('many/')) {
      count += 1
      assert.match(key, /^many\//)
      if (count > 1) continue
      for (let index = 0; index < 200; index += 2) {
        await storage().remove(`many/${index % 7}/${index}`)
      }
    }
    assert.ok(count >= 100 && count <= 200, String(count))
    assert.equal((await keysOf(storage(), 'many/')).length, 100)
  })
}

/** A key cannot be another one's directory where objects are files. */
function withoutNesting(keys: readonly string[]): string[] {
  return keys.filter((key) => !keys.some((other) => other.startsWith(`${key}/`)))
}
