/** `show DUMP`: one dump in detail, or the objects that it lists. No file of it is read. */
import { readDumpObjects } from '../../../dump/read-dump.ts'
import type { DumpObject } from '../../../repository/dump-objects.ts'
import type { DumpedPack, DumpRecord } from '../../../repository/dump-record.ts'
import { applyDumpMarks, type MarkedDump, readDumpMarks } from '../../../repository/marks.ts'
import { listDumpPacks, listDumps } from '../../../repository/read-dumps.ts'
import type { Storage } from '../../../storage/storage.ts'
import type { CommandContext } from '../../command-context.ts'
import { describeContents, dumpJson, durationOf } from '../../describe-dump.ts'
import { formatPairs } from '../../format-table.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from '../../format-units.ts'
import type { Colours } from '../../terminal.ts'

export interface FoundDump {
  readonly record: DumpRecord
  readonly repository: string
  readonly storage: Storage
}

interface Sharing {
  readonly dump: string
  readonly packs: number
  readonly bytes: number
}

export async function showDump(context: CommandContext, found: FoundDump): Promise<number> {
  const { record, repository, storage } = found
  const marked = applyDumpMarks(record, await readDumpMarks(storage, record.cluster))
  const missing = await findMissingPacks(storage, record)
  const shared = await findSharing(storage, record)
  const { terminal } = context
  if (context.json) {
    const { files, packs } = record
    const parts = {
      fileList: files.map(({ name, bytes, sha256 }) => ({ name, bytes, sha256 })),
      packList: packs,
      sharedWith: shared,
      missingPacks: missing,
    }
    terminal.printJson({ repository, dump: { ...dumpJson(marked), ...parts } })
    return 0
  }
  const lines = formatDump(marked, { repository, missing, shared }, terminal.colours)
  for (const line of lines) terminal.print(line)
  return 0
}

/** By one listing: packs that the record needs and that are not there with their size. */
async function findMissingPacks(storage: Storage, { cluster, packs }: DumpRecord) {
  const stored = await listDumpPacks(storage, cluster)
  return packs.filter(({ id, bytes }) => stored.get(id) !== bytes).map(({ id }) => id)
}

/** Other dumps that need the same packs, the base first. */
async function findSharing(storage: Storage, record: DumpRecord): Promise<Sharing[]> {
  const own = new Map(record.packs.map(({ id, bytes }) => [id, bytes]))
  const { dumps } = await listDumps(storage, record.cluster)
  const sum = (packs: readonly DumpedPack[]) => packs.reduce((all, { bytes }) => all + bytes, 0)
  return dumps
    .filter(({ id }) => id !== record.id)
    .map(({ id, packs }) => ({ id, common: packs.filter((pack) => own.has(pack.id)) }))
    .filter(({ common }) => common.length > 0)
    .map(({ id, common }) => ({ dump: id, packs: common.length, bytes: sum(common) }))
    .sort((a, b) => Number(b.dump === record.base) - Number(a.dump === record.base))
}

interface Surroundings {
  readonly repository: string
  readonly missing: readonly string[]
  readonly shared: readonly Sharing[]
}

function formatDump(
  { record, isPinned }: MarkedDump,
  { repository, missing, shared }: Surroundings,
  colours: Colours,
): string[] {
  const { server, sizes, files } = record
  const rest = sizes.rawBytes === 0 ? 0 : Math.round((100 * sizes.reusedBytes) / sizes.rawBytes)
  const pairs: [string, string][] = [
    ['dump', colours.bold(record.id)],
    ['cluster', `${record.cluster} (system ${server.systemIdentifier}), in ${repository}`],
    ['server', `PostgreSQL ${server.version}, dumped by pg_dump ${record.toolVersion}`],
    ['holds', `${describeContents(record)}, format ${record.format}`],
    ['selection', record.selection.length === 0 ? 'everything' : record.selection.join(' ')],
    ['started', formatTime(record.startedAt)],
    ['ended', `${formatTime(record.finishedAt)}, took ${formatDuration(durationOf(record))}`],
    ['size', `${formatBytes(sizes.rawBytes)} in ${formatCount(files.length, 'file')}`],
    ['stored', `${formatBytes(sizes.storedBytes)}; ${rest} % of it was stored already`],
    ['compared with', record.base ?? 'nothing: everything was stored'],
    ['hangs on', formatCount(record.packs.length, 'pack')],
  ]
  return [
    ...formatPairs(pairs),
    ...record.databases.flatMap((database) => describeDatabase(database, record)),
    ...(record.globals === undefined ? [] : [describeFile(record, record.globals, 'globals')]),
    ...shared.map(({ dump, packs, bytes }) => {
      return `shares ${formatCount(packs, 'pack')} (${formatBytes(bytes)}) with dump ${dump}`
    }),
    ...Object.entries(record.labels).map(([key, value]) => `label ${key}=${value}`),
    ...(isPinned ? ['pinned: kept until it is unpinned'] : []),
    ...missing.map((id) => colours.red(`missing pack ${id}: this dump cannot be loaded whole`)),
  ]
}

const SHOWN_FILES = 20

function describeDatabase(
  { name, oid, encoding, lsn, at, objects, files }: DumpRecord['databases'][number],
  record: DumpRecord,
): string[] {
  const counted = objects === 0 ? '' : `, ${formatCount(objects, 'object')}`
  const more = files.length - SHOWN_FILES
  return [
    `database ${name} (${oid}, ${encoding}) as of ${formatTime(at)}, LSN ${lsn}${counted}`,
    ...files.slice(0, SHOWN_FILES).map((number) => `  ${describeFile(record, number, 'file')}`),
    ...(more > 0 ? [`  and ${formatCount(more, 'file')} more`] : []),
  ]
}

function describeFile({ files }: DumpRecord, number: number, what: string): string {
  const file = files[number]
  return file === undefined ? what : `${what} ${file.name}, ${formatBytes(file.bytes)}`
}

/** One line, or with --json one document, for each object that `search` is found in. */
export async function showDumpObjects(
  { json, terminal }: CommandContext,
  { record, storage }: FoundDump,
  search: string | undefined,
): Promise<number> {
  const wanted = search?.toLowerCase()
  for (const [number, { name: database }] of record.databases.entries()) {
    for await (const object of readDumpObjects(storage, record, number)) {
      if (wanted !== undefined && !isFound(object, wanted)) continue
      if (json) terminal.printJsonLine({ database, ...object })
      else terminal.print(formatObject(object, record.databases.length > 1 ? database : undefined))
      if (!(await terminal.flush())) return 0
    }
  }
  return 0
}

function isFound({ kind, schema, name, owner }: DumpObject, wanted: string): boolean {
  return `${kind} ${schema}.${name} ${owner}`.toLowerCase().includes(wanted)
}

/** As in a list file of pg_restore, so that it can be made into one. */
function formatObject(
  { dumpId, kind, schema, name, owner }: DumpObject,
  database: string | undefined,
): string {
  const parts = [`${dumpId};`, kind, schema === '' ? '-' : schema, name, owner]
  const line = parts.join(' ').trimEnd()
  return database === undefined ? line : `${database}: ${line}`
}
