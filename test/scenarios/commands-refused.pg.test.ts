/** What the commands say when the file system refuses: no permission, no space. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type PostgresServer, startPostgres } from '../harness/postgres-server.ts'
import { serverUser } from '../harness/server-user.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { tidemark, tidemarkOk } from '../harness/tidemark.ts'

let server: PostgresServer
let directory: string

before(async () => {
  server = await startPostgres({ settings: { archive_mode: 'on', archive_command: '/bin/true' } })
  directory = temporaryDirectory(undefined, 'tidemark-refused-')
  chmodSync(directory, 0o755)
})

after(async () => {
  await server.dispose()
  await removeDirectory(directory)
})

const runAs = serverUser()

test('a place that cannot be written to: which one, and who was refused', {
  skip: runAs === undefined && 'needs root',
}, async () => {
  const closed = join(directory, 'closed')
  mkdirSync(closed, { mode: 0o755 })
  const options = ['--connection', server.url(), '--repository', `file://${closed}/repository`]
  const config = join(directory, 'tidemark.yaml')
  const line = ['--config', config, 'init', '--yes', ...options]
  const { status, stderr } = await tidemark(line, { runAs })
  assert.equal(status, 1)
  assert.match(stderr, /TM1501/)
  assert.ok(stderr.includes(closed), stderr)
  assert.match(stderr, /may not create directories in/)
  assert.match(stderr, new RegExp(`uid ${runAs?.uid}`))
})

test("a directory that the server's user cannot enter is named before archiving fails", {
  skip: runAs === undefined && 'needs root',
}, async () => {
  const closed = join(directory, 'of-root')
  mkdirSync(closed, { mode: 0o700 })
  const options = ['--connection', server.url(), '--repository', `file://${closed}/repository`]
  const config = join(closed, 'tidemark.yaml')
  const init = await tidemarkOk(['--config', config, 'init', '--yes', ...options])
  assert.match(init.stdout, new RegExp(`uid ${runAs?.uid}\\) cannot write to ${closed}`))
  const doctor = await tidemark(['--config', config, 'doctor', '--no-proof'])
  assert.equal(doctor.status, 3)
  assert.match(doctor.stdout, /PROBLEM {2}permissions .*has no access to .*of-root/)
})

test('a full disk: said at once, nothing half-made stays, and it goes on with room', async (t) => {
  const mount = join(directory, 'small')
  mkdirSync(mount)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=755', 'tmpfs', mount])
  if (mounted.status !== 0) return t.skip('cannot mount a small file system here')
  try {
    const config = join(directory, 'full.yaml')
    const options = ['--connection', server.url(), '--repository', `file://${mount}/repository`]
    await tidemarkOk(['--config', config, 'init', '--yes', '--configure', ...options])
    const full = await tidemark(['--config', config, 'backup'])
    assert.equal(full.status, 1, full.stdout)
    assert.match(full.stderr, /error TM1506: no space left in file:.*small\/repository/)
    assert.match(full.stderr, /it needs up to .* MiB, .* free; there is no good backup yet/)
    const doctor = await tidemark(['--config', config, 'doctor', '--json', '--no-proof'])
    const { checks } = doctor.json<{ checks: { code: string; result: string }[] }>()
    assert.equal(checks.find(({ code }) => code === 'TM1712')?.result, 'problem')
    execFileSync('mount', ['-o', 'remount,size=200m', mount])
    await tidemarkOk(['--config', config, 'backup'])
    const list = await tidemarkOk(['--config', config, 'list', '--json'])
    assert.equal(list.json<{ backups: unknown[] }>().backups.length, 1)
  } finally {
    execFileSync('umount', ['-l', mount])
  }
})
