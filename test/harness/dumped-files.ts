/** Dumps of made-up files, written and read as `tidemark dump` and `tidemark load` do. */
import type { DumpFacts, DumpWriter, PublishedDump } from '../../src/dump/write-dump.ts'
import { openDumpWriter } from '../../src/dump/write-dump.ts'
import { readDumpFile } from '../../src/dump/read-dump.ts'
import type { DumpRecord } from '../../src/repository/dump-record.ts'
import type { DumpObject } from '../../src/repository/dump-objects.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { WriteGroup } from '../../src/storage/write-group.ts'

export type DumpedFiles = Readonly<Record<string, Uint8Array>>

export const OBJECTS: readonly DumpObject[] = [
  { dumpId: 215, kind: 'TABLE', schema: 'public', name: 'Ünï "quoted"\n', owner: 'postgres' },
  { dumpId: 3310, kind: 'TABLE DATA', schema: 'public', name: 'orders', owner: '' },
]

export interface MadeUpDump {
  readonly id?: string
  readonly startedAt?: Date
  readonly databases?: readonly string[]
  readonly files: DumpedFiles
  readonly format?: 'custom' | 'plain'
  /** Bytes of one append(). */
  readonly pieceBytes?: number
  readonly packTargetBytes?: number
  readonly rewrite?: boolean
  readonly signal?: AbortSignal
  /** Called after each append(). */
  readonly afterAppend?: () => void
  /** Called before publish(). */
  readonly beforePublish?: () => Promise<void>
}

export function groupOf(storages: readonly Storage[], required: readonly number[] = [0]) {
  const members = storages.map((storage, member) => ({
    storage,
    required: required.includes(member),
  }))
  return new WriteGroup(members, () => {})
}

let made = 0

/** In the order in which they are made. */
export function makeDumpId(): string {
  return `20261122-080000-${(made++).toString(36).padStart(4, '0')}`
}

/** All of it; aborts where anything fails, as the command does. */
export async function writeMadeUpDump(group: WriteGroup, dump: MadeUpDump): Promise<PublishedDump> {
  const { id = makeDumpId(), databases = ['shop'] } = dump
  const writer = await openDumpWriter({
    group,
    cluster: 'main',
    id,
    startedAt: dump.startedAt ?? new Date(1_800_000_000_000 + 1000 * made++),
    databases,
    format: dump.format ?? 'custom',
    signal: dump.signal ?? new AbortController().signal,
    rewrite: dump.rewrite ?? false,
    ...(dump.packTargetBytes === undefined ? {} : { packTargetBytes: dump.packTargetBytes }),
  })
  try {
    const facts = await fillDump(writer, dump, databases)
    await dump.beforePublish?.()
    return await writer.publish(facts)
  } catch (error) {
    await writer.abort()
    throw error
  }
}

async function fillDump(
  writer: DumpWriter,
  { files, pieceBytes = 65_536, afterAppend }: MadeUpDump,
  databases: readonly string[],
): Promise<DumpFacts> {
  const numbers: number[] = []
  for (const [name, bytes] of Object.entries(files)) {
    const file = await writer.openFile(name)
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      // A copy that is overwritten: append() must have taken what it needs.
      const piece = Uint8Array.from(bytes.subarray(at, at + pieceBytes))
      await file.append(piece)
      piece.fill(0x5a)
      afterAppend?.()
    }
    numbers.push(await file.close())
  }
  const { lists, count } = await writer.writeObjects(OBJECTS)
  return {
    finishedAt: '2026-11-22T09:00:00.000Z',
    server: { systemIdentifier: '7123456789012345678', version: '17.6', major: 17 },
    toolVersion: '17.6',
    selection: ['--schema=public'],
    databases: databases.map((name, number) => ({
      name,
      oid: 16_384 + number,
      encoding: 'UTF8',
      lsn: '0/1A2B3C4',
      at: '2026-11-22T08:59:00.000Z',
      files: number === 0 ? numbers : [],
      objectLists: number === 0 ? lists : [],
      objects: number === 0 ? count : 0,
    })),
    labels: {},
  }
}

export async function readWholeFile(
  storage: Storage,
  record: DumpRecord,
  number: number,
): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of readDumpFile(storage, record, number)) pieces.push(piece)
  return Buffer.concat(pieces)
}

/** Bytes that look like rows, always the same for the same seed. */
export function madeUpRows(bytes: number, seed = 1): Buffer {
  const rows = Buffer.alloc(bytes)
  let word = seed * 2_654_435_761
  let at = 0
  for (let row = 0; at < bytes; row++) {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0
    at += rows.write(`${seed}\t${row}\t${word.toString(16)}\t${word % 977}\tcustomer\n`, at)
  }
  return rows
}

const VICTIM_ROWS = madeUpRows(1_200_000)

/** What dump-victim.ts writes as its dump of a number: other rows in another place. */
export function victimDump(number: number): MadeUpDump & { readonly id: string } {
  const at = (number * 171_717) % VICTIM_ROWS.length
  const rows = [VICTIM_ROWS.subarray(0, at), madeUpRows(300_000, number), VICTIM_ROWS.subarray(at)]
  return {
    id: `20261122-070000-${number.toString(36).padStart(4, '0')}`,
    startedAt: new Date(1_790_000_000_000 + 1000 * number),
    files: { '1.dump': Buffer.concat(rows) },
    packTargetBytes: 60_000,
  }
}
