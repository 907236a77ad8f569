/**
 * `tidemark demo` keeps its promises, and leaves neither process nor file behind, however
 * it ends: by itself, by Ctrl-C, by SIGTERM, or killed.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { environment } from '../harness/run-program.ts'
import { serverUser } from '../harness/server-user.ts'
import { temporaryDirectory } from '../harness/temporary-directory.ts'
import { TIDEMARK } from '../harness/tidemark.ts'

/** A demo that hangs, or leaves something for ever, shall not hang the tests. */
const LIMIT = { timeout: 180_000 }

interface RunningDemo {
  readonly process: ChildProcess
  readonly place: string
  readonly output: () => string
  readonly ended: Promise<{ status: number | null; signal: string | null }>
}

/** In a process group of its own, as a shell starts it, and in a place of its own. */
function startDemo(...words: string[]): RunningDemo {
  const place = temporaryDirectory(serverUser(), 'tmd-')
  const child = spawn(TIDEMARK, ['demo', ...words], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: environment({ TMPDIR: place }),
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
  }
  const ended = new Promise<{ status: number | null; signal: string | null }>((resolve) => {
    child.on('close', (status, signal) => resolve({ status, signal }))
  })
  return { process: child, place, output: () => output, ended }
}

async function waitForOutput(demo: RunningDemo, text: string): Promise<void> {
  while (!demo.output().includes(text)) {
    assert.equal(demo.process.exitCode, null, `ended before '${text}':\n${demo.output()}`)
    await sleep(20)
  }
}

/** Processes that work in a directory, or whose command line names it. */
function processesOf(place: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        const there = readlinkSync(`/proc/${pid}/cwd`).startsWith(place) || command.includes(place)
        return there && !command.includes('watchdog') ? [`${pid} ${command}`] : []
      } catch {
        return []
      }
    })
}

/** Every command keeps its compiled code in a private directory; the demo's children do not. */
function filesOf(place: string): string[] {
  return readdirSync(place).filter((name) => name !== `tidemark-cache-${process.getuid?.()}`)
}

function assertNothingLeft(demo: RunningDemo): void {
  assert.deepEqual(processesOf(demo.place), [])
  assert.deepEqual(filesOf(demo.place), [], demo.output())
}

test('the demo proves its claims, gives its figures and leaves nothing', LIMIT, async () => {
  const demo = startDemo('--json')
  const { status } = await demo.ended
  assert.equal(status, 0, demo.output())
  const figures = JSON.parse(demo.output())
  assert.deepEqual(figures.claims, {
    tableIsBack: true,
    balanceHolds: true,
    momentIsRight: true,
    livingServerUntouched: true,
  })
  assert.match(figures.target, /^before:xid:\d+$/)
  assert.ok(figures.incrementalBackup.storedBytes < figures.fullBackup.storedBytes)
  assert.ok(figures.transfersRecovered > 0)
  assert.ok(figures.recoveryMs > 0 && figures.recoveryMs < figures.totalMs)
  assertNothingLeft(demo)
})

const INTERRUPTIONS = [
  { signal: 'SIGINT', at: '$ pg_ctl', who: 'group' },
  { signal: 'SIGINT', at: '$ tidemark backup', who: 'group' },
  { signal: 'SIGTERM', at: '$ tidemark restore', who: 'demo' },
] as const

for (const { signal, at, who } of INTERRUPTIONS) {
  test(`${signal} at '${at}' leaves nothing`, LIMIT, async () => {
    const demo = startDemo()
    await waitForOutput(demo, at)
    const pid = demo.process.pid as number
    process.kill(who === 'group' ? -pid : pid, signal)
    const { status } = await demo.ended
    assert.equal(status, 130, demo.output())
    assert.match(demo.output(), /interrupted\n$/)
    assert.doesNotMatch(demo.output(), /error/)
    assertNothingLeft(demo)
  })
}

test('a demo that is killed leaves nothing either', LIMIT, async () => {
  const demo = startDemo()
  await waitForOutput(demo, '$ tidemark backup')
  process.kill(demo.process.pid as number, 'SIGKILL')
  await demo.ended
  while (filesOf(demo.place).length > 0 || processesOf(demo.place).length > 0) await sleep(50)
})
