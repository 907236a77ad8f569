import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFailure } from '../base/failure.ts'
import { CustomArchiveReader } from './archive-blocks.ts'
import { ArchiveTocReader, makesAnObject } from './archive-toc.ts'

interface Shape {
  readonly minor: number
  readonly intBytes: number
  readonly format: number
}

/** As WriteHead() and WriteToc() write, by hand. */
class Writer {
  readonly #pieces: Buffer[] = []
  readonly #intBytes: number

  constructor(intBytes: number) {
    this.#intBytes = intBytes
  }

  bytes(...bytes: number[]): this {
    this.#pieces.push(Buffer.from(bytes))
    return this
  }

  int(...values: number[]): this {
    for (const value of values) {
      const piece = Buffer.alloc(1 + this.#intBytes)
      piece[0] = value < 0 ? 1 : 0
      piece.writeUIntLE(Math.abs(value), 1, Math.min(6, this.#intBytes))
      this.#pieces.push(piece)
    }
    return this
  }

  text(...texts: (string | Buffer | undefined)[]): this {
    for (const text of texts) {
      const bytes = Buffer.from(text ?? '')
      this.int(text === undefined ? -1 : bytes.length)
      if (bytes.length > 0) this.#pieces.push(bytes)
    }
    return this
  }

  end(): Buffer {
    return Buffer.concat(this.#pieces)
  }
}

const LATIN_NAME = Buffer.from('größe', 'latin1')

function writeArchive({ minor, intBytes, format }: Shape, encoding = 'LATIN1'): Buffer {
  const writer = new Writer(intBytes)
  writer.bytes(0x50, 0x47, 0x44, 0x4d, 0x50, 1, minor, 0, intBytes, 8, format)
  if (minor >= 15) writer.bytes(0)
  else writer.int(0)
  writer.int(11, 3, 14, 21, 10, 126, 0).text('shop', '17.6', '17.6').int(3)
  const definition = `SET client_encoding = '${encoding}';\n`
  writeEntry(writer, { minor, format }, [1, 0, 'ENCODING', 'ENCODING', 2, definition])
  writeEntry(writer, { minor, format }, [7, 1, LATIN_NAME, 'TABLE DATA', 3, ''])
  writeEntry(writer, { minor, format }, [5, 0, 'v', 'VIEW', 2, 'CREATE VIEW v AS SELECT 1;\n'])
  return writer.end()
}

type EntryShape = [number, number, string | Buffer, string, number, string]

function writeEntry(
  writer: Writer,
  { minor, format }: Pick<Shape, 'minor' | 'format'>,
  [dumpId, hasData, name, kind, section, definition]: EntryShape,
): void {
  writer.int(dumpId, hasData).text('1259', '16385', name, kind).int(section)
  writer.text(definition, '', undefined, 'public', undefined)
  if (minor >= 14) writer.text('heap')
  if (minor >= 16) writer.int(114)
  writer.text('ann', 'false', '1', '2', undefined)
  if (format === 1) writer.bytes(hasData === 1 ? 1 : 3, 0, 0, 0, 0, 0, 0, 0, 0)
  else writer.text(hasData === 1 ? `${dumpId}.dat` : '')
}

for (const minor of [12, 13, 14, 15, 16]) {
  for (const intBytes of [4, 8]) {
    test(`version 1.${minor} with integers of ${intBytes} bytes`, () => {
      for (const [format, number] of [
        ['custom', 1],
        ['directory', 3],
        ['tar', 3],
      ] as const) {
        const bytes = writeArchive({ minor, intBytes, format: number })
        const reader = new ArchiveTocReader({ format, withDefinitions: true })
        assert.equal(reader.push(Buffer.concat([bytes, Buffer.of(9)])), true)
        assert.deepEqual([...reader.rest], [9])
        const { head, encoding, entries } = reader.finish()
        assert.deepEqual(head, {
          version: `1.${minor}`,
          compression: 'none',
          begunAt: '2026-11-21T14:03:11',
          database: 'shop',
          serverVersion: '17.6',
          toolVersion: '17.6',
        })
        assert.equal(encoding, 'LATIN1')
        assert.equal(entries.length, 3)
        assert.deepEqual(entries.map(makesAnObject), [false, true, true])
        assert.deepEqual(entries[1], {
          ...{ dumpId: 7, hasData: true, catalogueOid: 1259, oid: 16385, name: 'größe' },
          ...{ kind: 'TABLE DATA', section: 'data', schema: 'public', tablespace: '' },
          ...{ owner: 'ann', dependencies: [1, 2], definition: '' },
          ...(format === 'custom' ? {} : { fileName: '7.dat' }),
        })
        assert.equal(entries[2]?.definition, 'CREATE VIEW v AS SELECT 1;\n')
      }
    })
  }
}

const CUSTOM = { minor: 16, intBytes: 4, format: 1 }

function refused(bytes: Buffer, because: RegExp): void {
  assert.throws(
    () => {
      const reader = new ArchiveTocReader({ format: 'custom' })
      reader.push(bytes)
      reader.finish()
    },
    (error) => isFailure(error, 'TM2005') && because.test(error.because ?? ''),
  )
}

test('what does not fit is refused with its reason', () => {
  const good = writeArchive(CUSTOM)
  const changed = (at: number, byte: number): Buffer => {
    const bytes = Buffer.from(good)
    bytes[at] = byte
    return bytes
  }
  refused(Buffer.alloc(0), /ends before/)
  refused(Buffer.from('-- PostgreSQL database dump\n'), /PGDMP/)
  refused(changed(5, 2), /version 2\.16/)
  refused(changed(6, 17), /version 1\.17-0; 1\.12 to 1\.16/)
  refused(changed(6, 11), /version 1\.11/)
  refused(changed(8, 5), /integers have 5 bytes/)
  refused(changed(10, 3), /format is 3, not custom/)
  refused(changed(11, 4), /compression is 4/)
  refused(changed(12, 2), /a sign is 2/)
  refused(changed(13, 99), /time of creation/)
  refused(good.subarray(0, -1), /ends before/)
  refused(writeArchive(CUSTOM, "X'; DROP"), /encoding/)
})

test('no change of bytes does anything but change what is read, or is refused', () => {
  const good = writeArchive(CUSTOM)
  const change = fc.tuple(fc.nat(good.length - 1), fc.nat(255))
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const bytes = Buffer.from(good)
      for (const [at, byte] of changes) bytes[at] = byte
      try {
        const reader = new CustomArchiveReader()
        reader.push(bytes)
        reader.finish()
      } catch (error) {
        if (!isFailure(error, 'TM2005')) throw error
      }
    }),
    { numRuns: 2000 },
  )
})

test('the data of a custom archive: a block for each entry that has some, and no more', () => {
  const toc = writeArchive(CUSTOM)
  const block = (kind: number, id: number, ...pieces: number[]): Buffer => {
    const writer = new Writer(4).bytes(kind).int(id)
    for (const length of pieces) writer.int(length).bytes(...Array(length).fill(0x61))
    return writer.int(0).end()
  }
  const read = (...blocks: Buffer[]): number => {
    const reader = new CustomArchiveReader()
    for (const byte of Buffer.concat([toc, ...blocks])) reader.push(Buffer.of(byte))
    return reader.finish().entries.length
  }
  assert.equal(read(block(1, 7)), 3)
  assert.equal(read(block(1, 7, 5, 300)), 3)
  const largeObjects = Buffer.concat([block(3, 7), Buffer.alloc(0)])
  assert.equal(read(largeObjects), 3)
  const wrong: [RegExp, Buffer[]][] = [
    [/the data of TABLE DATA public größe is missing/, []],
    [/ends within/, [block(1, 7, 5).subarray(0, -1)]],
    [/ends within/, [block(1, 7, 5).subarray(0, -7)]],
    [/ends within/, [block(1, 7, 5), Buffer.of(1)]],
    [/comes twice/, [block(1, 7), block(1, 7)]],
    [/belongs to no entry/, [block(1, 7), block(1, 8)]],
    [/kind 2/, [block(2, 7)]],
  ]
  for (const [because, blocks] of wrong) {
    assert.throws(
      () => read(...blocks),
      (error) => isFailure(error, 'TM2005') && because.test(error.because ?? ''),
    )
  }
})
