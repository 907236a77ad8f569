/**
 * New clusters as copies of one that initdb made before with the same program and the same
 * arguments: an initdb costs 0.8 s of a processor, a copy a twentieth of that, and a run of all
 * tests asks for hundreds.
 *
 * Invariant: no two clusters have the same system identifier, as if initdb had made each. A
 * template appears whole, by rename; nobody starts a server on it.
 */
import { createHash } from 'node:crypto'
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { now } from '../../src/base/clock.ts'
import { randomOctets } from '../../src/base/random.ts'
import { crc32c } from '../../src/postgres/crc32c.ts'
import { runChecked } from './run-program.ts'
import type { Owner } from './server-user.ts'

export interface Initdb {
  readonly program: string
  /** All but the data directory. */
  readonly args: readonly string[]
  readonly runAs: Owner | undefined
  readonly env: Readonly<Record<string, string>>
}

const CHECKOUT = fileURLToPath(new URL('../../', import.meta.url))

/** `data`: a directory that is there, empty, and belongs to whom initdb runs as. */
export async function makeCluster(data: string, initdb: Initdb): Promise<void> {
  const template = await findTemplate(initdb)
  await runChecked('cp', ['-a', `${template}/.`, data])
  giveIdentity(data)
}

async function findTemplate(initdb: Initdb): Promise<string> {
  const { program, args, runAs, env } = initdb
  const { mtimeMs, size } = statSync(program)
  const uid = runAs?.uid ?? process.getuid?.()
  const facts = JSON.stringify([program, mtimeMs, size, args, uid])
  const place = join(CHECKOUT, 'build/initdb')
  const template = join(place, createHash('sha256').update(facts).digest('hex').slice(0, 16))
  if (existsSync(template)) return template
  mkdirSync(place, { recursive: true })
  // Where root may write and its servers may not enter, they could not make it in place.
  const made = mkdtempSync(join(tmpdir(), 'tidemark-initdb-'))
  if (runAs !== undefined) chownSync(made, runAs.uid, runAs.gid)
  try {
    const data = join(made, 'data')
    await runChecked(program, ['-D', data, ...args], { runAs, env })
    const incoming = mkdtempSync(join(place, 'incoming-'))
    await runChecked('cp', ['-a', `${data}/.`, incoming])
    publish(incoming, template)
  } finally {
    rmSync(made, { recursive: true, force: true })
  }
  return template
}

/** Another process may have been first: its template is as good. */
function publish(incoming: string, template: string): void {
  try {
    renameSync(incoming, template)
  } catch (error) {
    rmSync(incoming, { recursive: true, force: true })
    if (!existsSync(template)) throw error
  }
}

/** Where the long header of a segment's first page holds it (XLogLongPageHeaderData). */
const IDENTITY_IN_WAL = 24

/** As BootStrapXLOG() makes it: the time in seconds, and what else tells clusters apart. */
function giveIdentity(data: string): void {
  const seconds = BigInt(Math.floor(now().getTime() / 1000))
  const identity = (seconds << 32n) | BigInt(randomOctets(4).readUInt32LE())
  const control = readFileSync(join(data, 'global/pg_control'))
  const crcOffset = findCrc(control)
  const before = control.readBigUInt64LE(0)
  control.writeBigUInt64LE(identity, 0)
  control.writeUInt32LE(crc32c(control.subarray(0, crcOffset)), crcOffset)
  writeFileSync(join(data, 'global/pg_control'), control)
  const directory = join(data, 'pg_wal')
  for (const name of readdirSync(directory).filter((each) => /^[0-9A-F]{24}$/.test(each))) {
    const file = openSync(join(directory, name), 'r+')
    const field = Buffer.alloc(8)
    readSync(file, field, 0, field.length, IDENTITY_IN_WAL)
    const isHeader = field.readBigUInt64LE() === before
    field.writeBigUInt64LE(identity)
    if (isHeader) writeSync(file, field, 0, field.length, IDENTITY_IN_WAL)
    closeSync(file)
  }
}

/** It covers all bytes before it, and lies at another offset in each version. */
function findCrc(control: Buffer): number {
  for (let offset = 200; offset < 400; offset += 4) {
    if (crc32c(control.subarray(0, offset)) === control.readUInt32LE(offset)) return offset
  }
  throw new Error('pg_control without a CRC')
}
