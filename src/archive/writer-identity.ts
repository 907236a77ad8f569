/**
 * Who writes WAL: the server of a data directory, in words that a repository keeps
 * (docs/design/lineage.md, section 2). Two clones of a machine have the same identity, and a server
 * that was moved has another one: it says when to look closer, and decides nothing.
 */
import { hash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { describeSystemError } from '../base/failure.ts'
import { isAbsence, notWhole } from './read-wal-file.ts'

export interface WriterIdentity {
  /** 16 hex digits of a hash of the machine's id. */
  readonly host: string
  /** For people. */
  readonly hostName: string
  readonly dataDirectory: string
  /** Decimal. */
  readonly device: string
  readonly inode: string
  /** Of its postmaster, in seconds since 1970; null: it was not running. */
  readonly startedAt: number | null
}

export interface LocalWriter extends WriterIdentity {
  /** It replays another server's WAL, and hands it on (`archive_mode = always`). */
  readonly isStandby: boolean
}

/** Undefined: no data directory, but a place where someone has put files. */
export async function findLocalWriter(dataDirectory: string): Promise<LocalWriter | undefined> {
  const [status, control] = await Promise.all([
    findStatus(dataDirectory),
    findStatus(join(dataDirectory, 'global', 'pg_control')),
  ])
  if (status === undefined || control === undefined) return undefined
  const [machineId, startedAt, standby] = await Promise.all([
    readMachineId(),
    findStart(dataDirectory),
    findStatus(join(dataDirectory, 'standby.signal')),
  ])
  return {
    host: hash('sha256', `tidemark writer\n${machineId}`).slice(0, 16),
    hostName: hostname(),
    dataDirectory: resolve(dataDirectory),
    device: status.dev.toString(),
    inode: status.ino.toString(),
    startedAt,
    isStandby: standby !== undefined,
  }
}

export function isSameServer(one: WriterIdentity, other: WriterIdentity): boolean {
  return one.host === other.host && one.device === other.device && one.inode === other.inode
}

/** For messages. */
export function describeWriter({ hostName, dataDirectory }: WriterIdentity): string {
  return `${dataDirectory} on ${hostName}`
}

async function findStatus(path: string) {
  try {
    return await stat(path, { bigint: true })
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw notWhole(path, describeSystemError(error), error)
  }
}

/** A machine without an id is told apart by its name. */
async function readMachineId(): Promise<string> {
  for (const path of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
    const text = (await readFile(path, 'latin1').catch(() => '')).trim()
    if (text !== '') return text
  }
  return hostname()
}

/** Line 3 of postmaster.pid (miscadmin.h, LOCK_FILE_LINE_START_TIME). */
async function findStart(dataDirectory: string): Promise<number | null> {
  const text = await readFile(join(dataDirectory, 'postmaster.pid'), 'utf8').catch(() => '')
  const start = Number(text.split('\n')[2])
  return Number.isSafeInteger(start) && start > 0 ? start : null
}
