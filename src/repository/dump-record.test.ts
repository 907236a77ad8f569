/** Records of dumps: there and back, and none that a reader could be led astray by. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { decodeDumpRecord, type DumpRecord, encodeDumpRecord } from './dump-record.ts'
import { encodeEnvelope } from './envelope.ts'
import {
  dumpKey,
  dumpPackKey,
  packKey,
  parseBackupKey,
  parseDumpKey,
  parseDumpPackKey,
  parsePackKey,
} from './keys.ts'
import { encodeSmallObject } from './small-object.ts'

const ID = '20261122-081500-ab1z'
const KEY = dumpKey('main', ID)
const PACK = '0123456789abcdef'.repeat(2)

const RECORD: DumpRecord = {
  id: ID,
  cluster: 'main',
  startedAt: '2026-11-22T08:15:00.000Z',
  finishedAt: '2026-11-22T08:16:00.000Z',
  server: { systemIdentifier: '7123456789012345678', version: '17.6 (Debian)', major: 17 },
  toolVersion: '17.6',
  format: 'custom',
  selection: ['--exclude-schema=tmp'],
  globals: 0,
  databases: [
    {
      name: 'Ünï "x"',
      oid: 16_384,
      encoding: 'UTF8',
      lsn: '0/1A2B3C4',
      at: '2026-11-22T08:15:01.000Z',
      files: [1, 2],
      objectLists: [{ pack: PACK, frame: 2 }],
      objects: 3,
    },
  ],
  files: [
    {
      name: 'globals.sql',
      bytes: 7,
      sha256: 'ab'.repeat(32),
      chunkLists: [{ pack: PACK, frame: 1 }],
    },
    { name: '1.dump', bytes: 0, sha256: 'cd'.repeat(32), chunkLists: [] },
    { name: '1/toc.dat', bytes: 0, sha256: 'cd'.repeat(32), chunkLists: [] },
  ],
  packs: [{ id: PACK, bytes: 4711 }],
  base: '20261121-081500-ab1y',
  sizes: { rawBytes: 7, storedBytes: 4711, chunks: 1, reusedChunks: 0, reusedBytes: 0 },
  labels: { why: 'because' },
}

function refused(record: unknown, key = KEY): string {
  try {
    decodeDumpRecord(key, encodeDumpRecord(record as DumpRecord))
  } catch (error) {
    assert.ok(isFailure(error, 'TM1601'), String(error))
    assert.ok(error.message.includes(key))
    return error.because ?? ''
  }
  throw new Error(`not refused: ${JSON.stringify(record)}`)
}

test('a record is read as it was written; fields of later versions are kept', () => {
  assert.deepEqual(decodeDumpRecord(KEY, encodeDumpRecord(RECORD)), RECORD)
  const later = { ...RECORD, tablespaces: ['fast'] }
  assert.deepEqual(decodeDumpRecord(KEY, encodeDumpRecord(later)), later)
})

test('every field that is missing or of another kind is named', () => {
  const optional = ['globals', 'base']
  const misfits: unknown[] = [undefined, null, true, -1, 1.5, 'x', [1], { x: 1 }]
  for (const name of Object.keys(RECORD)) {
    for (const misfit of misfits) {
      if (misfit === undefined && optional.includes(name)) continue
      const isText = ['toolVersion', 'cluster'].includes(name) && misfit === 'x'
      if (isText) continue
      const because = refused({ ...RECORD, [name]: misfit })
      assert.ok(because.includes(name) || name === 'labels', `${name}: ${because}`)
    }
  }
  const [file] = RECORD.files
  assert.equal(
    refused({ ...RECORD, files: [RECORD.files[1], { ...file, sha256: 'AB' }] }),
    'its field files[1].sha256 is not as it must be',
  )
})

test('names of files lead nowhere else', () => {
  const names = ['../x', '1/../x', '/etc/passwd', '1/', '1/.hidden', '1/a/b', '0.dump', '1.exe', '']
  for (const name of names) {
    const files = [RECORD.files[0], { ...RECORD.files[1], name }, RECORD.files[2]]
    assert.match(refused({ ...RECORD, files }), /files\[1\]\.name/, name)
  }
})

test('what it refers to it has', () => {
  const [file, empty, toc] = RECORD.files
  const [database] = RECORD.databases
  const other = { pack: 'f'.repeat(32), frame: 0 }
  const bad: Readonly<Record<string, unknown>> = {
    'lies in no pack': { files: [{ ...file, chunkLists: [other] }, empty, toc] },
    'objects of no pack': { databases: [{ ...database, objectLists: [other] }] },
    'bytes without a list': { files: [{ ...file, chunkLists: [] }, empty, toc] },
    'a list without bytes': { files: [file, { ...empty, chunkLists: file?.chunkLists }, toc] },
    'bytes that nobody has': { sizes: { ...RECORD.sizes, rawBytes: 8 } },
    'a file too many': { databases: [{ ...database, files: [1, 3] }] },
    'a file of two': { globals: 1 },
    'one name twice': { files: [file, toc, toc] },
    'one pack twice': { packs: [...RECORD.packs, ...RECORD.packs] },
  }
  for (const [what, fields] of Object.entries(bad)) {
    assert.ok(refused({ ...RECORD, ...(fields as object) }).length > 0, what)
  }
})

const COPIED = {
  rows: 3,
  table: { schema: 'public', name: 'Ünï "x"' },
  columns: [{ name: 'a', type: 'integer' }],
  format: 'csv',
  encoding: 'UTF8',
  header: true,
  delimiter: ',',
  null: '',
  quote: '"',
  escape: '"',
} as const

const OF_COPY: DumpRecord = {
  id: RECORD.id,
  cluster: RECORD.cluster,
  startedAt: RECORD.startedAt,
  finishedAt: RECORD.finishedAt,
  server: RECORD.server,
  toolVersion: '17.6',
  format: 'copy',
  selection: ['--table=t'],
  databases: RECORD.databases.map((database) => ({ ...database, files: [0] })),
  copy: COPIED,
  files: RECORD.files.slice(0, 1).map((file) => ({ ...file, name: '1.csv' })),
  packs: RECORD.packs,
  sizes: RECORD.sizes,
  labels: {},
}

test('of rows by COPY the record has every option, and nothing that the form has not', () => {
  assert.deepEqual(decodeDumpRecord(KEY, encodeDumpRecord(OF_COPY)), OF_COPY)
  const { table: _table, ...ofQuery } = COPIED
  const query = { ...OF_COPY, copy: ofQuery }
  assert.deepEqual(decodeDumpRecord(KEY, encodeDumpRecord(query)), query)
  const { delimiter: _delimiter, null: _null, quote: _quote, escape: _escape, ...bare } = COPIED
  const binary: DumpRecord = { ...OF_COPY, copy: { ...bare, format: 'binary', header: false } }
  assert.deepEqual(decodeDumpRecord(KEY, encodeDumpRecord(binary)), binary)
  for (const name of Object.keys(COPIED)) {
    if (name === 'table') continue
    const because = refused({ ...OF_COPY, copy: { ...COPIED, [name]: undefined } })
    assert.match(because, /copy/, name)
  }
  const wrong: Readonly<Record<string, unknown>> = {
    delimiter: ['', ',,', 'ü', '\0'],
    quote: ['', 'ab'],
    rows: [-1, 1.5, '3'],
    columns: [[], [{ name: 'a' }], 'a'],
    encoding: ['', "UTF8'"],
    format: ['json', 'binary', 'text'],
    table: [{ schema: 'public' }, 'public.t'],
  }
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values as unknown[]) {
      refused({ ...OF_COPY, copy: { ...COPIED, [name]: value } })
    }
  }
  refused({ ...OF_COPY, format: 'custom' })
  refused({ ...RECORD, copy: COPIED })
  refused({ ...OF_COPY, copy: undefined })
  refused({ ...OF_COPY, databases: [] })
})

test('another format, another kind, another dump, and bits that were flipped are damage', () => {
  const raw = (text: string) => encodeEnvelope('DUMP', Buffer.from(text))
  const bad = [
    encodeSmallObject('MARK', { dump: RECORD }),
    raw(JSON.stringify({ format: 2, dump: RECORD })),
    raw(JSON.stringify({ format: 1 })),
    raw('{"format":1,"dump":'),
    raw(''),
  ]
  for (const bytes of bad) {
    assert.throws(
      () => decodeDumpRecord(KEY, bytes),
      (error) => isFailure(error, 'TM1601'),
    )
  }
  const good = encodeDumpRecord(RECORD)
  for (let at = 0; at < good.length; at += 13) {
    const bytes = Uint8Array.from(good)
    bytes[at] = (bytes[at] as number) ^ 4
    assert.throws(
      () => decodeDumpRecord(KEY, bytes),
      (error) => isFailure(error, 'TM1601'),
    )
  }
  assert.match(refused(RECORD, dumpKey('main', RECORD.base ?? '')), /is the record of dump/)
  assert.match(refused(RECORD, dumpKey('other', ID)), /is the record of dump/)
})

test('keys of dumps and of backups are never taken for each other', () => {
  assert.equal(parseDumpKey(KEY), ID)
  assert.equal(parseBackupKey(KEY), undefined)
  assert.equal(parseDumpKey(KEY.replace(ID, '1')), undefined)
  assert.equal(parseDumpPackKey(dumpPackKey('main', PACK)), PACK)
  assert.equal(parsePackKey(dumpPackKey('main', PACK)), undefined)
  assert.equal(parseDumpPackKey(packKey('main', PACK)), undefined)
})
