/**
 * PostgreSQL's own regression tests, as a workload: their SQL, from the source package of Debian's
 * PostgreSQL, run by psql in the order of their schedule. What a test says is not judged.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PostgresServer } from './postgres-server.ts'
import { runChecked } from './run-program.ts'
import { temporaryDirectory } from './temporary-directory.ts'

const PLACE = fileURLToPath(new URL('../../.tools/regression', import.meta.url))
const SOURCES = 'http://deb.debian.org/debian bookworm main'
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg'

/** The directory that holds `sql`, `data` and `parallel_schedule`; fetched once. */
export async function fetchRegressionSuite(major: number): Promise<string> {
  const directory = join(PLACE, String(major))
  if (!existsSync(join(directory, 'parallel_schedule'))) await fetchInto(directory, major)
  return directory
}

async function fetchInto(directory: string, major: number): Promise<void> {
  const work = temporaryDirectory()
  mkdirSync(join(work, 'lists/partial'), { recursive: true })
  mkdirSync(directory, { recursive: true })
  const list = join(work, 'sources.list')
  writeFileSync(list, `deb-src [signed-by=${KEYS}] ${SOURCES}\n`)
  const options = {
    'Dir::Etc::sourcelist': list,
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': join(work, 'lists'),
  }
  const words = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  await runChecked('apt-get', [...words, 'update'])
  const source = [...words, 'source', '--download-only', `postgresql-${major}`]
  await runChecked('apt-get', source, { cwd: work })
  const archive = readdirSync(work).find((name) => /\.orig\.tar\./.test(name)) ?? ''
  const wanted = ['--wildcards', '--strip-components=4', '*/src/test/regress/*']
  await runChecked('tar', ['-xf', join(work, archive), '-C', directory, ...wanted])
  await runChecked('chmod', ['-R', 'a+rX', PLACE])
}

/** Gives how many files were run. Those that need a library of C functions do less. */
export async function runRegressionSuite(
  server: PostgresServer,
  directory: string,
  database: string,
): Promise<number> {
  const tests = readFileSync(join(directory, 'parallel_schedule'), 'utf8')
    .split('\n')
    .flatMap((line) => (line.startsWith('test: ') ? line.slice(6).trim().split(/\s+/) : []))
  const env = { PG_ABS_SRCDIR: directory, PG_LIBDIR: '/nowhere', PG_DLSUFFIX: '.so' }
  for (const name of tests) {
    const file = join(directory, 'sql', `${name}.sql`)
    await server.tool('psql', ['-q', '-X', '-o', '/dev/null', '-f', file, database], { env })
  }
  return tests.length
}
