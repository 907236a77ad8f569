import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { runTool, type ToolRun } from './run-tool.ts'

/** A shell in place of a tool. */
function shell(script: string, extra: Partial<ToolRun> = {}): Promise<unknown> {
  return runTool({
    program: '/bin/sh',
    args: ['-c', script],
    env: { PATH: process.env['PATH'] ?? '' },
    signal: new AbortController().signal,
    task: 'dump database shop',
    onOutput: () => undefined,
    ...extra,
  })
}

test('all that it writes comes, one piece after the other; remarks are kept', async () => {
  const pieces: Uint8Array[] = []
  let atOnce = 0
  const onOutput = async (bytes: Uint8Array): Promise<void> => {
    assert.equal(++atOnce, 1)
    await new Promise((resolve) => setImmediate(resolve))
    pieces.push(Uint8Array.from(bytes))
    atOnce--
  }
  const end = await shell('seq 100000; echo "sh: warning: it is late" >&2', { onOutput })
  assert.deepEqual(end, { remarks: ['sh: warning: it is late'] })
  const wanted = Array.from({ length: 100_000 }, (_, at) => `${at + 1}\n`).join('')
  assert.equal(Buffer.concat(pieces).toString(), wanted)
})

test('its last error is told, with what belongs to it', async () => {
  const script = `echo 'sh: warning: a' >&2; echo 'sh: error: query failed: no' >&2
    echo 'sh: detail: query was: SELECT' >&2; exit 1`
  await assert.rejects(shell(script), (error) => {
    assert.ok(isFailure(error, 'TM2002'))
    assert.equal(error.because, 'query failed: no; sh: detail: query was: SELECT')
    assert.match(error.message, /could not dump database shop/)
    return true
  })
})

test('an error after all of the output, and one without a word', async () => {
  await assert.rejects(shell('seq 1000; exit 3'), (error) => {
    return isFailure(error, 'TM2002') && /status 3/.test(error.because ?? '')
  })
  await assert.rejects(shell('yes x | head -c 10000000 >&2; exit 1'), (error) => {
    return isFailure(error, 'TM2002') && (error.because ?? '').length < 3000
  })
})

test('ended by a signal is no success, whatever it wrote', async () => {
  for (const signal of ['KILL', 'TERM', 'SEGV']) {
    await assert.rejects(shell(`seq 1000; kill -${signal} $$`), (error) => {
      return isFailure(error, 'TM2003') && error.message.includes(`SIG${signal}`)
    })
  }
})

test('a program that is not there', async () => {
  await assert.rejects(shell('', { program: '/nonexistent/pg_dump' }), (error) => {
    return isFailure(error, 'TM2003')
  })
})

test('when what it writes cannot be taken it is ended, and that is what is told', async () => {
  let pid = 0
  const full = new Error('no space')
  const onOutput = (bytes: Uint8Array): void => {
    pid ||= Number(Buffer.from(bytes).toString().split('\n')[0])
    throw full
  }
  await assert.rejects(shell('echo $$; exec sleep 100', { onOutput }), (error) => error === full)
  assert.ok(pid > 0)
  assert.throws(() => readFileSync(`/proc/${pid}/stat`))
})

test('giving up ends it, even when it writes and nobody takes it', async () => {
  const abort = new AbortController()
  const reason = new Error('enough')
  let pid = 0
  const onOutput = async (bytes: Uint8Array): Promise<void> => {
    pid ||= Number(Buffer.from(bytes).toString().split('\n')[0])
    setImmediate(() => abort.abort(reason))
    await new Promise((resolve) => abort.signal.addEventListener('abort', resolve))
  }
  const script = 'echo $$; exec yes'
  await assert.rejects(shell(script, { onOutput, signal: abort.signal }), (e) => e === reason)
  assert.throws(() => readFileSync(`/proc/${pid}/stat`))
  await assert.rejects(shell('exit 0', { signal: abort.signal }), (error) => error === reason)
})

/** Gone, or dead and not yet taken away. */
async function waitForDeath(pid: number): Promise<void> {
  assert.ok(pid > 0)
  for (;;) {
    try {
      if (/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) return
    } catch {
      return
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

test('giving up does not wait for a worker that stays, and leaves none', async () => {
  const abort = new AbortController()
  const reason = new Error('enough')
  let worker = 0
  const onOutput = (bytes: Uint8Array): void => {
    worker = Number(Buffer.from(bytes).toString())
    abort.abort(reason)
  }
  // It holds both pipes, and is not to be told.
  const script = `(trap '' TERM INT HUP; sleep 300; :) & echo $!; wait`
  await assert.rejects(shell(script, { onOutput, signal: abort.signal }), (e) => e === reason)
  await waitForDeath(worker)
})

test('a tool that fails leaves no worker either', async () => {
  let worker = 0
  const onOutput = (bytes: Uint8Array): void => {
    worker = Number(Buffer.from(bytes).toString())
  }
  const failed = shell('sleep 300 & echo $!; exit 1', { onOutput })
  await assert.rejects(failed, (error) => isFailure(error, 'TM2002'))
  await waitForDeath(worker)
})
