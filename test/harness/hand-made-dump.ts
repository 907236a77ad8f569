/** Dumps of a repository for what cares for records and packs, and never looks into a pack. */
import assert from 'node:assert/strict'
import {
  decodeDumpRecord,
  type DumpRecord,
  encodeDumpRecord,
} from '../../src/repository/dump-record.ts'
import { dumpKey, dumpPackKey, parseDumpKey, parseDumpPackKey } from '../../src/repository/keys.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { collect } from './faulty-storage.ts'

export const DAY_MS = 24 * 3600 * 1000
/** Of dump number 0; each later one is a day younger. */
export const FIRST_DUMP_AT = Date.parse('2026-11-01T00:00:00Z')

/** The one pack of the attempt of that number. */
export function handMadePackId(number: number): string {
  return `${number.toString(16).padStart(24, '0')}00000000`
}

export function handMadeDumpRecord(
  number: number,
  packs: readonly number[] = [number],
  more: Partial<DumpRecord> = {},
): DumpRecord {
  const at = new Date(FIRST_DUMP_AT + number * DAY_MS)
  const [first = 0] = packs
  return {
    id: `202611${String(1 + number).padStart(2, '0')}-000000-dump`,
    cluster: 'main',
    startedAt: at.toISOString(),
    finishedAt: new Date(at.getTime() + 60_000).toISOString(),
    server: { systemIdentifier: '7000000000000000001', version: '17.6', major: 17 },
    toolVersion: '17.6',
    format: 'custom',
    selection: [],
    databases: [
      {
        name: 'app',
        oid: 16384,
        encoding: 'UTF8',
        lsn: '0/3000000',
        at: at.toISOString(),
        files: [0],
        objectLists: [],
        objects: 0,
      },
    ],
    files: [
      {
        name: '1.dump',
        bytes: 10,
        sha256: '0'.repeat(64),
        chunkLists: [{ pack: handMadePackId(first), frame: 0 }],
      },
    ],
    packs: packs.map((pack) => ({ id: handMadePackId(pack), bytes: contentOf(pack).length })),
    sizes: { rawBytes: 10, storedBytes: 10, chunks: 1, reusedChunks: 0, reusedBytes: 0 },
    labels: {},
    ...more,
  }
}

function contentOf(pack: number): Buffer {
  return Buffer.from(`the pack of attempt ${pack}`)
}

export async function putPack(storage: Storage, number: number): Promise<void> {
  await storage.write(dumpPackKey('main', handMadePackId(number)), contentOf(number))
}

/** Its packs as far as they are not there, then its record. */
export async function putDump(storage: Storage, record: DumpRecord): Promise<void> {
  for (const { id } of record.packs) {
    const key = dumpPackKey('main', id)
    const bytes = contentOf(Number.parseInt(id.slice(0, 24), 16))
    if ((await storage.size(key)) === undefined) await storage.write(key, bytes)
  }
  await storage.write(dumpKey('main', record.id), encodeDumpRecord(record), { createOnly: true })
}

/** Every dump that is listed has its packs. Returns the ids, in the order of their keys. */
export async function assertDumpsWhole(storage: Storage): Promise<string[]> {
  const keys = new Set((await collect(storage.list('clusters/main/'))).map(({ key }) => key))
  const ids: string[] = []
  for (const key of keys) {
    const id = parseDumpKey(key)
    const bytes = id === undefined ? undefined : await storage.read(key)
    if (id === undefined || bytes === undefined) continue
    ids.push(id)
    for (const pack of decodeDumpRecord(key, bytes).packs) {
      assert.ok(keys.has(dumpPackKey('main', pack.id)), `${id} lost ${pack.id}`)
    }
  }
  return ids
}

/** Nothing but what the listed dumps need. */
export async function assertNoDumpGarbage(storage: Storage): Promise<void> {
  const keys = (await collect(storage.list('clusters/main/'))).map(({ key }) => key)
  const needed = new Set<string>()
  for (const key of keys) {
    const bytes = parseDumpKey(key) === undefined ? undefined : await storage.read(key)
    if (bytes === undefined) continue
    for (const { id } of decodeDumpRecord(key, bytes).packs) needed.add(dumpPackKey('main', id))
  }
  const garbage = keys.filter((key) => {
    if (key.includes('/holds/') || key.includes('/condemned/')) return true
    return parseDumpPackKey(key) !== undefined && !needed.has(key)
  })
  assert.deepEqual(garbage, [])
}
