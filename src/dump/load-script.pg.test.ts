/** psql commits at the end of its input: a load whose process is killed must not be one. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { findTool } from '../../test/harness/postgres-binaries.ts'
import { type PostgresServer, startPostgres } from '../../test/harness/postgres-server.ts'
import { runScript, withoutNewSettings } from './load-script.ts'

/** Half of a script, up to the middle of a COPY; then nothing more comes. */
const HALF = `
  import { runScript } from '${new URL('./load-script.ts', import.meta.url)}'
  const [psql, singleTransaction, ...pairs] = process.argv.slice(1)
  const env = Object.fromEntries(pairs.map((pair) => pair.split(/=(.*)/s)))
  async function* script() {
    yield Buffer.from('CREATE TABLE t (id int);\\nCOPY t FROM stdin;\\n1\\n2\\n')
    yield Buffer.from('3\\n')
    console.log('half')
    await new Promise((resolve) => setTimeout(resolve, 600_000))
  }
  await runScript({
    psql, env, signal: new AbortController().signal, encoding: 'UTF8', script: script(),
    singleTransaction: singleTransaction === 'true', continueOnError: false,
  })`

async function killInMiddle(server: PostgresServer, singleTransaction: boolean): Promise<void> {
  const env = environmentOf(server)
  const pairs = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const words = [findTool('psql', 15) ?? '', String(singleTransaction), ...pairs]
  const child = spawn(process.execPath, ['--input-type=module', '-e', HALF, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  // The table is there for its own session: psql has begun the COPY.
  await waitFor(server, "query LIKE 'COPY t%'", 1)
  child.kill('SIGKILL')
  await once(child, 'close')
  await waitFor(server, "backend_type = 'client backend' AND pid <> pg_backend_pid()", 0)
}

function environmentOf(server: PostgresServer): Record<string, string> {
  const address = { PGHOST: server.socketDirectory, PGPORT: String(server.port) }
  return { ...address, PGUSER: server.user, PGDATABASE: 'postgres', LC_ALL: 'C' }
}

async function waitFor(server: PostgresServer, condition: string, wanted: number): Promise<void> {
  for (let round = 0; round < 300; round++) {
    const [row] = await server.sql(
      `SELECT count(*)::int AS n FROM pg_stat_activity WHERE ${condition}
          AND pid <> pg_backend_pid()`,
    )
    if (row?.['n'] === wanted) return
    await sleep(100)
  }
  throw new Error(`${condition} was not seen ${wanted} times`)
}

async function* inPieces(text: string, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < text.length; at += size) yield Buffer.from(text.slice(at, at + size))
}

test('a process that is killed in the middle of a script', async () => {
  await using server = await startPostgres()
  await killInMiddle(server, true)
  const [row] = await server.sql("SELECT to_regclass('public.t')::text AS t")
  assert.equal(row?.['t'], null)
  const run = {
    psql: findTool('psql', 15) ?? '',
    env: environmentOf(server),
    signal: new AbortController().signal,
    encoding: 'UTF8',
    singleTransaction: true,
    continueOnError: false,
  }
  const script = inPieces('CREATE TABLE t (id int);\nCOPY t FROM stdin;\n1\n2\n\\.\n', 7)
  assert.ok((await runScript({ ...run, script })).isWhole)
  const rows = await server.sql('SELECT id FROM t ORDER BY id')
  assert.deepEqual(rows, [{ id: 1 }, { id: 2 }])
  // psql ends with status 0 here, and still not all of the script was run.
  const early = inPieces(`\\q\n${'SELECT 1;\n'.repeat(200_000)}`, 65_536)
  const end = await runScript({ ...run, singleTransaction: false, script: early })
  assert.equal(end.endedBy, 'status 0')
  assert.equal(end.isWhole, false)
})

test('the setting that older servers lack is cut out of the head alone', async () => {
  const line = 'SET transaction_timeout = 0;\n'
  const body = `INSERT INTO t VALUES ('\n${line}');\n`.padStart(9000, '-- x\n')
  for (const size of [1, 5, 4096, 100_000]) {
    const pieces: Uint8Array[] = []
    const script = inPieces(`--\nSET a = 0;\n${line}SET b = 0;\n${body}`, size)
    for await (const piece of withoutNewSettings(script)) pieces.push(piece)
    assert.equal(Buffer.concat(pieces).toString(), `--\nSET a = 0;\nSET b = 0;\n${body}`)
  }
})
