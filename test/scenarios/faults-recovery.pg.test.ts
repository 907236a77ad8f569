/**
 * What becomes of `wal get` while a restored server recovers with it: killed, without its
 * configuration, its runtime, its sources or its repository. PostgreSQL takes exit statuses
 * 1 to 125 for the end of WAL; so recovery must stop with FATAL, never promote, and the same
 * directory must come to the right place once the fault is mended.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openServerOn } from '../harness/postgres-server.ts'
import { runProgram } from '../harness/run-program.ts'
import { removeDirectory } from '../harness/temporary-directory.ts'
import { TIDEMARK } from '../harness/tidemark.ts'
import { checkInvariant } from '../harness/workload.ts'
import {
  type FaultCluster,
  type Mark,
  readMarks,
  startFaultCluster,
  waitUntilPromoted,
} from './faults-cluster.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

let cluster: FaultCluster
const marks: Mark[] = []
const ALL = [1, 2, 3, 4, 5, 6]
/** A checkout of our own, of which parts can be taken away. */
let checkout = ''
/** Restored once; every fault works on a copy. */
let restored = ''
/** Stands for Node.js; when it is asked for `victim`, it does what fault.sh says first. */
let wrapper = ''
let victim = ''

before(async () => {
  cluster = await startFaultCluster()
  checkout = copyCheckout(cluster.path('checkout'))
  await cluster.backup()
  for (const number of ALL) marks.push(await cluster.mark(number))
  victim = marks[2]?.segment ?? ''
  restored = cluster.path('restored')
  await cluster.server.sql('CHECKPOINT')
  const words = ['--config', cluster.config, 'restore', '--into', restored, '--to', 'latest']
  const { runAs } = cluster.server
  const result = await runProgram(join(checkout, 'bin/tidemark'), words, { runAs })
  assert.equal(result.status, 0, result.stdout + result.stderr)
  askForEverySegment(restored)
  wrapper = cluster.path('node')
  const fault = cluster.path('fault.sh')
  writeFileSync(
    wrapper,
    `#!/bin/sh
node=${process.execPath}
case "$*" in *${victim}*) if [ -e ${fault} ]; then . ${fault}; fi;; esac
exec "$node" "$@"
`,
  )
  chmodSync(wrapper, 0o755)
})

/** Without the spool (spool.pg.test.ts), which would have the victim before anyone asks for it. */
function askForEverySegment(directory: string): void {
  const path = join(directory, 'postgresql.auto.conf')
  const text = readFileSync(path, 'utf8')
  const without = text.replace(' --ahead --timeline 1', '')
  assert.notEqual(without, text)
  writeFileSync(path, without)
}

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

function copyCheckout(directory: string): string {
  for (const name of ['bin', 'src', 'package.json']) {
    cpSync(join(ROOT, name), join(directory, name), { recursive: true, dereference: true })
  }
  // Only the kernels: beside them lie a gigabyte of clusters for tests.
  const build = join(ROOT, 'build')
  const isKernel = (path: string): boolean => path === build || path.endsWith('.wasm')
  cpSync(build, join(directory, 'build'), { recursive: true, filter: isKernel })
  for (const name of ['node_modules', '.tools'])
    symlinkSync(join(ROOT, name), join(directory, name))
  giveToServer(directory)
  return directory
}

function giveToServer(path: string): void {
  const { runAs } = cluster.server
  if (runAs !== undefined) execFileSync('chown', ['-R', `${runAs.uid}:${runAs.gid}`, path])
}

interface Fault {
  readonly does: string
  /** Shell words that mend it. */
  readonly mend?: string
}

const away = (path: string): Fault => ({
  does: `mv ${path} ${path}.away`,
  mend: `mv ${path}.away ${path}`,
})

const FAULTS: Record<string, () => Fault> = {
  'killed before it does anything': () => ({ does: 'kill -9 $$' }),
  'killed while it works': () => ({
    does: '"$node" "$@" & sleep 0.06; kill -9 $!; wait $!; exit $?',
  }),
  terminated: () => ({ does: 'kill -TERM $$' }),
  'the shell of restore_command is killed': () => ({ does: 'kill -9 $PPID; exit 0' }),
  'Node.js ends with 1': () => ({ does: 'exit 1' }),
  'Node.js is gone': () => ({ does: 'exit 127' }),
  'the memory ends': () => ({ does: 'ulimit -v 200000' }),
  'the configuration is gone': () => away(cluster.config),
  'the configuration is broken': () => ({
    does: `cp -p ${cluster.config} ${cluster.config}.good; echo '{' > ${cluster.config}`,
    mend: `mv ${cluster.config}.good ${cluster.config}`,
  }),
  'the sources are gone': () => away(join(checkout, 'src')),
  'a source file is gone': () => away(join(checkout, 'src/archive/fetch-wal.ts')),
  'the repository is gone': () => away(cluster.repository),
  'the repository is an empty directory': () => ({
    does: `mv ${cluster.repository} ${cluster.repository}.away; mkdir ${cluster.repository}`,
    mend: `rmdir ${cluster.repository}; mv ${cluster.repository}.away ${cluster.repository}`,
  }),
  'the repository cannot be read': () => ({
    does: `chmod 0 ${cluster.repository}`,
    mend: `chmod 700 ${cluster.repository}`,
  }),
  'the segment is gone': () => away(cluster.segmentFile(victim)),
  'the segment and all behind it are gone': () => {
    const tail = marks
      .slice(2)
      .map(({ segment }) => cluster.segmentFile(segment))
      .join(' ')
    return {
      does: `for file in ${tail}; do mv $file $file.away; done`,
      mend: `for file in ${tail}; do mv $file.away $file; done`,
    }
  },
  'the segment is damaged': () => {
    const file = cluster.segmentFile(victim)
    return {
      does: `cp -p ${file} ${file}.good
        printf XXXX | dd of=${file} bs=1 seek=5000 conv=notrunc 2>&-`,
      mend: `mv ${file}.good ${file}`,
    }
  },
  'program and runtime are gone': () => ({
    does: `mv ${checkout}/bin ${checkout}/bin.away; exit 126`,
    mend: `mv ${checkout}/bin.away ${checkout}/bin`,
  }),
}

for (const [name, makeFault] of Object.entries(FAULTS)) {
  test(`recovery stops and can go on: ${name}`, async () => {
    const fault = makeFault()
    const directory = cluster.path('copy')
    execFileSync('cp', ['-a', restored, directory])
    writeFileSync(cluster.path('fault.sh'), `${fault.does}\n`)
    const env = { TIDEMARK_NODE: wrapper }
    await using copy = await openServerOn(directory, { wait: 'none', env })
    const status = await copy.waitForExit()
    execFileSync('sh', ['-c', `rm -f ${cluster.path('fault.sh')}; ${fault.mend ?? ':'}`])
    const log = await copy.log()
    assert.equal(status, 1, log)
    assert.match(log, /FATAL/)
    assert.match(log, /restored log file/)
    assert.doesNotMatch(log, /selected new timeline|archive recovery complete|ready to accept/)
    assert.ok(existsSync(join(directory, 'recovery.signal')))
    assert.ok(!readdirSync(join(directory, 'pg_wal')).includes('00000002.history'))
    await copy.start()
    await waitUntilPromoted(copy)
    await checkInvariant(copy)
    assert.deepEqual(await readMarks(copy), ALL)
    await copy.stop('immediate')
    await removeDirectory(directory)
  })
}

test('without Node.js in any place the launcher ends with 255', async () => {
  const { runAs } = cluster.server
  const bare = cluster.path('bare')
  copyCheckout(bare)
  execFileSync('rm', [join(bare, '.tools')])
  const get = ['--config', cluster.config, 'wal', 'get', victim, cluster.path('out')]
  const program = join(bare, 'bin/tidemark')
  const none = await runProgram(program, get, { runAs, env: { PATH: cluster.path('nothing') } })
  assert.equal(none.status, 255, none.stderr)
  assert.match(none.stderr, /TM1801/)
  const pointed = await runProgram(program, get, { runAs, env: { TIDEMARK_NODE: '/nowhere' } })
  assert.equal(pointed.status, 255, pointed.stderr)
})

test('44 is for a proved absence alone', async () => {
  const { runAs } = cluster.server
  const past = '0000000100000000000000F0'
  const get = async (config: string, ...words: string[]): Promise<number | undefined> =>
    (await runProgram(TIDEMARK, ['--config', config, 'wal', 'get', ...words], { runAs })).status
  const out = cluster.path('out')
  assert.equal(await get(cluster.config, victim, out), 0)
  assert.equal(await get(cluster.config, past, out), 44)
  assert.equal(await get(cluster.config, '00000009.history', out), 44)
  assert.equal(await get(cluster.config, past, out, '--cluster', 'other'), 255)
  assert.equal(await get(cluster.config, past, out, '--system-identifier', '77'), 255)
  assert.equal(await get(cluster.config, past), 255)
  assert.equal(await get(cluster.config, past, out, '--nonsense'), 255)
  assert.equal(await get(cluster.config, 'nonsense', out), 255)
  assert.equal(await get(cluster.config, victim, '/nowhere/out'), 255)
  assert.equal(await get(cluster.path('absent.yaml'), past, out), 255)
  execFileSync('mv', [cluster.repository, `${cluster.repository}.away`])
  assert.equal(await get(cluster.config, past, out), 255)
  execFileSync('mv', [`${cluster.repository}.away`, cluster.repository])
})
