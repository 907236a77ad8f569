/** The record of a dump as the fields of --json that are promised to stay, and as words. Pure. */
import { latestMoment } from '../dump/latest-moment.ts'
import type { DumpRecord } from '../repository/dump-record.ts'
import type { MarkedDump } from '../repository/marks.ts'

export function dumpJson({ record, isPinned }: MarkedDump): Record<string, unknown> {
  const { server, sizes, databases, files } = record
  return {
    id: record.id,
    cluster: record.cluster,
    systemIdentifier: server.systemIdentifier,
    serverVersion: server.version,
    major: server.major,
    toolVersion: record.toolVersion,
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
    durationMs: durationOf(record),
    at: new Date(latestMoment(record)).toISOString(),
    format: record.format,
    selection: record.selection,
    globals: record.globals !== undefined,
    databases: databases.map(({ name, oid, encoding, lsn, at, objects, files: own }) => {
      const bytes = own.reduce((sum, number) => sum + (files[number]?.bytes ?? 0), 0)
      return { name, oid, encoding, lsn, at, objects, files: own.length, sizeBytes: bytes }
    }),
    sizeBytes: sizes.rawBytes,
    storedBytes: sizes.storedBytes,
    reusedBytes: sizes.reusedBytes,
    chunks: sizes.chunks,
    reusedChunks: sizes.reusedChunks,
    files: files.length,
    packs: record.packs.length,
    base: record.base ?? null,
    labels: record.labels,
    pinned: isPinned,
  }
}

export function durationOf({ startedAt, finishedAt }: DumpRecord): number {
  return Math.max(0, Date.parse(finishedAt) - Date.parse(startedAt))
}

/** `app, shop and globals`. */
export function describeContents({ databases, globals }: DumpRecord): string {
  const names = databases.map(({ name }) => name)
  if (globals === undefined) return names.join(', ')
  return names.length === 0 ? 'globals only' : `${names.join(', ')} and globals`
}
