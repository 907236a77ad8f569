import assert from 'node:assert/strict'
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { before, test } from 'node:test'
import { type RunResult, runProgram } from './run-program.ts'
import { temporaryDirectory } from './temporary-directory.ts'
import { TIDEMARK } from './tidemark.ts'

const MAIN = 'console.log(JSON.stringify(process.argv.slice(2))); process.exitCode = 7\n'

/** `node` in front of the real one, which then takes itself for Node.js 20. */
const PRETEND = `Object.defineProperty(process, 'versions', {
  value: { ...process.versions, node: '20.1.0' },
})\n`

let home = ''
let program = ''

before(() => {
  home = join(temporaryDirectory(), 'a b')
  program = join(home, 'bin/tidemark')
  for (const folder of ['bin', 'src/cli', 'old', 'new', 'none']) {
    mkdirSync(join(home, folder), { recursive: true })
  }
  for (const name of ['tidemark', 'start.cjs']) {
    copyFileSync(join(dirname(TIDEMARK), name), join(home, 'bin', name))
  }
  writeFileSync(join(home, 'src/cli/main.ts'), MAIN)
  writeFileSync(join(home, 'old/pretend.cjs'), PRETEND)
  const old = `#!/bin/sh\nexec '${process.execPath}' -r '${home}/old/pretend.cjs' "$@"\n`
  writeFileSync(join(home, 'old/node'), old)
  chmodSync(join(home, 'old/node'), 0o755)
  symlinkSync(process.execPath, join(home, 'new/node'))
})

const run = async (
  args: readonly string[],
  path: string,
  env: Record<string, string> = {},
): Promise<RunResult> =>
  await runProgram(program, args, { env: { PATH: `${join(home, path)}:/usr/bin:/bin`, ...env } })

test('hands over arguments as they are, and the exit status', async () => {
  const result = await run(['wal', 'get', 'a  b', "'"], 'new')
  assert.equal(result.stdout, `["wal","get","a  b","'"]\n`)
  assert.equal(result.status, 7)
  assert.equal(result.stderr, '')
})

test('an old Node.js is refused: 255 for wal get, 2 for the rest', async () => {
  for (const [args, status] of [
    [['wal', 'get', 'x', 'y'], 255],
    [['--config', 'f', 'wal', 'get', 'x', 'y'], 255],
    [['backup'], 2],
  ] as const) {
    const result = await run(args, 'old')
    assert.match(result.stderr, /^error TM1801: .*\n {2}because: .* 20\.1\.0\n {2}fix: .*\n$/)
    assert.equal(result.status, status)
  }
})

test('a TIDEMARK_NODE that is no program is refused in the same way', async () => {
  const env = { TIDEMARK_NODE: `${join(home, 'none')}/node` }
  const get = await run(['wal', 'get', 'x', 'y'], 'new', env)
  assert.equal(get.status, 255)
  assert.match(get.stderr, /^error TM1801: .*\n {2}because: .*none\/node .*\n {2}fix: .*\n$/)
  assert.equal((await run(['list'], 'new', env)).status, 2)
})

test('TIDEMARK_NODE and the pinned runtime come before the PATH', async () => {
  const env = { TIDEMARK_NODE: process.execPath }
  assert.equal((await run(['x'], 'old', env)).status, 7)
  mkdirSync(join(home, '.tools/runtime/bin'), { recursive: true })
  symlinkSync(process.execPath, join(home, '.tools/runtime/bin/node'))
  assert.equal((await run(['x'], 'old')).status, 7)
})

test('finds its home through a chain of symbolic links', async () => {
  symlinkSync(program, join(home, 'one'))
  symlinkSync('one', join(home, 'two'))
  const result = await runProgram(join(home, 'two'), ['x'], {
    env: { TIDEMARK_NODE: process.execPath },
  })
  assert.equal(result.stdout, '["x"]\n')
})
