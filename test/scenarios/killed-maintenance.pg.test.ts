/**
 * `sync`, `key rotate --rewrite` and `expire --apply` of the real program, killed with SIGKILL
 * again and again, and on a disk that is full: what is listed stays whole, and a run that is
 * left alone ends the work.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, test } from 'node:test'
import { removeDirectory } from '../harness/temporary-directory.ts'
import { failureOf, startTidemark, type TidemarkResult } from '../harness/tidemark.ts'
import { type FaultCluster, marksOf, startFaultCluster } from './faults-cluster.ts'

const MARKS = [1, 2, 3, 4, 5]

let cluster: FaultCluster
let keyFile: string
let clusters: string

before(async () => {
  cluster = await startFaultCluster()
  clusters = /^clusters:[\s\S]*/m.exec(readFileSync(cluster.config, 'utf8'))?.[0] ?? ''
  clusters = clusters.replace(/^\s*repositories:.*$/m, '').trimEnd()
  keyFile = cluster.path('key')
  writeOwned(keyFile, 'a1b2'.repeat(16))
  for (const number of MARKS) {
    await cluster.server.sql(`CREATE TABLE heap_${number} AS
      SELECT n, md5(n::text || ${number}) AS text FROM generate_series(1, 30000) AS n`)
    await cluster.mark(number)
    await cluster.backup()
  }
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

function own(path: string): void {
  const { runAs } = cluster.server
  if (runAs !== undefined) execFileSync('chown', [`${runAs.uid}:${runAs.gid}`, path])
}

function writeOwned(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600 })
  own(path)
}

/** A configuration with the cluster's repository and an encrypted one at `directory`. */
async function besideSealed(name: string, directory: string): Promise<string> {
  const alone = cluster.path(`${name}-alone.yaml`)
  const place = ['--connection', cluster.server.url(), '--repository', `file://${directory}`]
  await ok(alone, 'init', '--yes', ...place, '--key-file', keyFile)
  const both = cluster.path(`${name}.yaml`)
  const sealed = `  sealed: { url: "file://${directory}", encryption: { keyFile: "${keyFile}" } }`
  const local = `  local: { url: "file://${cluster.repository}" }`
  const retention = '    retention: { last: 1 }'
  writeOwned(both, `repositories:\n${local}\n${sealed}\n${clusters}\n${retention}\n`)
  return both
}

function begin(config: string, args: readonly string[]) {
  const { runAs } = cluster.server
  return startTidemark(['--config', config, ...args], { runAs })
}

async function run(config: string, ...args: string[]): Promise<TidemarkResult> {
  return await begin(config, args).done
}

async function ok(config: string, ...args: string[]): Promise<TidemarkResult> {
  const result = await run(config, ...args)
  assert.equal(result.status, 0, `${args.join(' ')}\n${result.stdout}${result.stderr}`)
  return result
}

/** Kills it later and later until a run gets through; gives how many were killed. */
async function killUntilDone(config: string, ...args: string[]): Promise<number> {
  let killed = 0
  for (let delayMs = 150; ; delayMs *= 1.3) {
    const program = begin(config, args)
    const isOver = program.done.then(() => true)
    if (!(await Promise.race([isOver, sleep(delayMs, false)]))) program.kill('SIGKILL')
    const { status, signal, stdout, stderr } = await program.done
    if (signal === undefined) {
      assert.equal(status, 0, `${args.join(' ')} after ${killed} kills\n${stdout}${stderr}`)
      return killed
    }
    killed++
    await ok(config, 'list', '--repository', 'sealed')
  }
}

/** Everything is proved, and the newest moment comes back with every row. */
async function assertWhole(config: string, name: string): Promise<void> {
  await ok(config, 'verify', '--full', '--repository', 'sealed')
  const copy = cluster.path(name)
  await ok(config, 'restore', '--repository', 'sealed', '--into', copy)
  assert.deepEqual(await marksOf(copy), MARKS)
  await removeDirectory(copy)
}

async function backupsIn(config: string, repository: string): Promise<number> {
  const listed = await ok(config, '--json', 'list', '--repository', repository)
  const { backups } = listed.json<{ backups: readonly unknown[] }>()
  return backups.length
}

test('killed again and again, they lose nothing and end their work', async () => {
  const config = await besideSealed('killed', cluster.path('sealed'))
  // The target keeps what the source has, until its retention is told apart.
  const withoutRetention = cluster.path('killed-all.yaml')
  writeOwned(withoutRetention, readFileSync(config, 'utf8').replace(/\n.*retention:.*/, ''))
  const sync = ['sync', '--from', 'local', '--to', 'sealed']
  assert.ok((await killUntilDone(withoutRetention, ...sync)) > 3)
  assert.equal(await backupsIn(config, 'sealed'), MARKS.length)
  await assertWhole(config, 'after-sync')

  await ok(config, 'key', 'rotate')
  assert.ok((await killUntilDone(config, 'key', 'rotate', '--rewrite')) > 1)
  await assertWhole(config, 'after-rotation')

  const expire = ['expire', '--apply', '--repository', 'sealed']
  assert.ok((await killUntilDone(config, ...expire)) > 1)
  assert.equal(await backupsIn(config, 'sealed'), 1)
  await assertWhole(config, 'after-expiry')
})

test('on a full disk they fail as such, and go on when there is room', async (context) => {
  const small = cluster.path('small')
  mkdirSync(small)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', small], { stdio: 'ignore' })
  } catch {
    return context.skip('cannot mount a small file system here')
  }
  try {
    own(small)
    const config = await besideSealed('full', `${small}/sealed`)
    const sync = ['sync', '--from', 'local', '--to', 'sealed']
    await assertFull(config, sync)
    resize(small, '256m')
    await ok(config, ...sync)
    await assertWhole(config, 'after-room')
    await ok(config, 'key', 'rotate')
    fill(small)
    await assertFull(config, ['key', 'rotate', '--rewrite'])
    resize(small, '512m')
    await ok(config, 'key', 'rotate', '--rewrite')
    await assertWhole(config, 'after-more-room')
  } finally {
    execFileSync('umount', ['-l', small])
  }
})

async function assertFull(config: string, args: readonly string[]): Promise<void> {
  const result = await run(config, '--json', ...args)
  assert.notEqual(result.status, 0)
  assert.equal(failureOf(result).code, 'TM1506', result.stdout + result.stderr)
  await ok(config, 'list', '--repository', 'sealed')
}

function resize(mount: string, size: string): void {
  execFileSync('mount', ['-o', `remount,size=${size}`, mount])
}

/** Leaves room for nothing. */
function fill(mount: string): void {
  try {
    execFileSync('dd', ['if=/dev/zero', `of=${mount}/filler`, 'bs=64k'], { stdio: 'ignore' })
  } catch {
    // dd fails when the disk is full, which is what it is for.
  }
}
