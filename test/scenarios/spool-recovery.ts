/**
 * Recoveries that take their WAL from the spool, for scenarios that look at it meanwhile: each
 * works on a copy of a restored directory, and every start of the program is noted.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openServerOn, type PostgresServer } from '../harness/postgres-server.ts'
import { removeDirectory } from '../harness/temporary-directory.ts'

export interface Recovering {
  readonly server: PostgresServer
  readonly directory: string
  readonly spool: string
}

export interface RecoveryPlan {
  /** Of the copy, and of the notes. */
  readonly base: string
  readonly restored: string
  /** From writeWrapper(). */
  readonly wrapper: string
  /** There is time to look at the spool while it recovers. */
  readonly slow: boolean
}

/** Stands for Node.js and notes what it is started with. */
export function writeWrapper(base: string): string {
  const wrapper = join(base, 'node')
  const text = `#!/bin/sh\necho "$*" >> ${join(base, 'starts')}\nexec ${process.execPath} "$@"\n`
  writeFileSync(wrapper, text)
  chmodSync(wrapper, 0o755)
  return wrapper
}

/** The segments that the program was started for since the recovery began. */
export function startsOf(base: string): string[] {
  const starts = readFileSync(join(base, 'starts'), 'utf8').trim().split('\n')
  return starts.filter((line) => / [0-9A-F]{24} pg_wal/.test(line))
}

export async function startRecovery(plan: RecoveryPlan): Promise<Recovering> {
  const { base, restored, wrapper, slow } = plan
  const directory = join(base, "it's a copy")
  await removeDirectory(directory)
  execFileSync('cp', ['-a', restored, directory])
  if (slow) slowDown(directory)
  rmSync(join(base, 'starts'), { force: true })
  const env = { TIDEMARK_NODE: wrapper }
  const server = await openServerOn(directory, { wait: 'none', env })
  return { server, directory, spool: join(directory, 'pg_wal/tidemark.spool') }
}

function slowDown(directory: string): void {
  const path = join(directory, 'postgresql.auto.conf')
  const text = readFileSync(path, 'utf8')
  writeFileSync(path, text.replace(/^restore_command = '/m, `$&sleep 0.1; `))
}

export async function waitFor<T>(find: () => T | undefined | false): Promise<T> {
  for (let waited = 0; waited < 1200; waited++) {
    const found = find()
    if (found !== undefined && found !== false) return found
    await sleep(10)
  }
  throw new Error('it did not come')
}

export function spooled(spool: string): string[] {
  if (!existsSync(spool)) return []
  return readdirSync(spool).filter((name) => /^[0-9A-F]{24}$/.test(name))
}

/** Of the segments in it, with those that are being written. */
export function bytesIn(spool: string): number {
  if (!existsSync(spool)) return 0
  return readdirSync(spool)
    .filter((name) => /^[0-9A-F]{24}($|-.*\.part$)/.test(name))
    .map((name) => statSync(join(spool, name), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, size) => sum + size, 0)
}

export async function waitForFiller(spool: string): Promise<number> {
  return await waitFor(() => {
    if (spooled(spool).length === 0) return undefined
    return Number(readFileSync(join(spool, 'filler'), 'latin1').split('\n')[0])
  })
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** It ended with FATAL, and promoted nothing. */
export async function expectStop({ server, directory }: Recovering, reason: RegExp): Promise<void> {
  assert.equal(await server.waitForExit(), 1)
  const log = await server.log()
  assert.match(log, /FATAL/)
  assert.match(log, reason)
  assert.doesNotMatch(log, /selected new timeline|archive recovery complete|ready to accept/)
  assert.ok(existsSync(join(directory, 'recovery.signal')))
}
