import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { embeddedDirectory } from './postgres-binaries.ts'
import { MAJORS, openServerOn, startPostgres } from './postgres-server.ts'
import { serverProcesses } from './postmaster.ts'
import { startProgram } from './run-program.ts'

for (const major of MAJORS) {
  const skip = existsSync(embeddedDirectory(major)) ? false : 'embedded server not installed'
  test(`the embedded server ${major} starts, answers and leaves nothing`, { skip }, async () => {
    const server = await startPostgres({ major, embedded: true })
    const [row] = await server.sql<{ version: string; checksums: string }>(
      `SELECT current_setting('server_version_num') AS version,
              current_setting('data_checksums') AS checksums`,
    )
    assert.equal(Math.floor(Number(row?.version) / 10_000), major)
    assert.equal(row?.checksums, 'on')
    await server.dispose()
    assert.deepEqual(serverProcesses(server.dataDirectory), [])
    assert.equal(existsSync(server.dataDirectory), false)
  })
}

test('a killed server leaves its pid file and recovers at the next start', async () => {
  await using server = await startPostgres({ settings: { archive_mode: 'on' } })
  await server.sql('CREATE TABLE t AS SELECT generate_series(1, 1000) AS n')
  await server.kill()
  assert.equal(server.isRunning(), false)
  assert.ok(existsSync(join(server.dataDirectory, 'postmaster.pid')))
  await server.start()
  const [row] = await server.sql<{ count: string }>('SELECT count(*) FROM t')
  assert.equal(row?.count, '1000')
  assert.match(await server.log(), /not properly shut down/)
})

test('a stopped directory opens as another server, beside a living one', async () => {
  await using server = await startPostgres({
    checksums: false,
    walSegmentSizeMb: 1,
    settings: { work_mem: '3MB' },
  })
  await server.stop()
  await using living = await startPostgres()
  await using copy = await openServerOn(server.dataDirectory)
  assert.notEqual(copy.socketDirectory, living.socketDirectory)
  const [row] = await copy.sql<Record<string, string>>(
    `SELECT current_setting('data_checksums') AS checksums,
            current_setting('wal_segment_size') AS size,
            current_setting('work_mem') AS memory`,
  )
  assert.deepEqual(row, { checksums: 'off', size: '1MB', memory: '3MB' })
})

test('a server that cannot start says why and is cleaned up', async () => {
  await assert.rejects(startPostgres({ settings: { shared_buffers: 'nonsense' } }), /nonsense/)
})

const ORPHAN = `
import { startPostgres } from ${JSON.stringify(new URL('./postgres-server.ts', import.meta.url))}
const server = await startPostgres()
console.log(server.dataDirectory)
setInterval(() => {}, 1000)
`

test('a test process that is killed leaves no server and no directory', async () => {
  const program = startProgram(process.execPath, ['--input-type=module', '-e', ORPHAN])
  const directory = await firstLine(program.pid)
  assert.ok(serverProcesses(directory).length > 0)
  program.kill('SIGKILL')
  await program.done
  while (existsSync(directory)) await sleep(50)
  assert.deepEqual(serverProcesses(directory), [])
})

/** The orphan's directory, found through its postmaster: a child of that process. */
async function firstLine(parent: number): Promise<string> {
  for (;;) {
    await sleep(50)
    const children = await readFile(`/proc/${parent}/task/${parent}/children`, 'utf8')
    for (const child of children.trim().split(' ')) {
      const command = await readFile(`/proc/${child}/cmdline`, 'utf8').catch(() => '')
      const [program, , directory] = command.split('\0')
      if (program?.endsWith('/postgres') && directory !== undefined) {
        const file = join(directory, 'postmaster.pid')
        const status = await readFile(file, 'utf8').catch(() => '')
        if (status.includes('ready')) return directory
      }
    }
  }
}
