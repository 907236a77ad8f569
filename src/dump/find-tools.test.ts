import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { isFailure } from '../base/failure.ts'
import { chooseTools, findTools, parseToolVersion } from './find-tools.ts'

const VERSIONS: readonly [string, { major: number; version: string } | undefined][] = [
  ['pg_dump (PostgreSQL) 17.6 (Debian 17.6-1.pgdg13+1)\n', { major: 17, version: '17.6' }],
  ['pg_dumpall (PostgreSQL) 13.22\n', { major: 13, version: '13.22' }],
  ['psql (PostgreSQL) 19devel\n', { major: 19, version: '19devel' }],
  ['pg_dump (PostgreSQL) 18beta1', { major: 18, version: '18beta1' }],
  ['pg_dump: error\n', undefined],
  ['', undefined],
]

for (const [text, parsed] of VERSIONS) {
  test(`the version in ${JSON.stringify(text)}`, () => {
    assert.deepEqual(parseToolVersion(text), parsed)
  })
}

function found(major: number, directory: string) {
  return { major, version: `${major}.1`, directory }
}

test('the lowest that is high enough, and of equal ones the first', () => {
  const all = [found(18, '/a'), found(15, '/b'), found(17, '/c'), found(17, '/d')]
  assert.equal(chooseTools(all, 16)?.directory, '/c')
  assert.equal(chooseTools(all, 15)?.directory, '/b')
  assert.equal(chooseTools(all, 19), undefined)
})

/** A directory with programs that say such a version. */
function makeTools(version: string, names = ['pg_dump', 'pg_dumpall']): string {
  const directory = temporaryDirectory(undefined, 'tidemark-tools-')
  for (const name of names) {
    const path = join(directory, name)
    writeFileSync(path, `#!/bin/sh\necho "${name} (PostgreSQL) ${version}"\n`)
    chmodSync(path, 0o755)
  }
  return directory
}

const BOTH = ['pg_dump', 'pg_dumpall'] as const
/** Majors that are installed nowhere. */
const HIGH = 90

test('found on PATH by what they say; all from one directory', async () => {
  const half = makeTools(`${HIGH}.1`, ['pg_dump'])
  const newer = makeTools(`${HIGH + 2}.3`)
  const fits = makeTools(`${HIGH + 1}.2`)
  const searchPath = ['relative', half, newer, fits, '/nonexistent'].join(':')
  const tools = await findTools({ names: BOTH, major: HIGH, searchPath })
  assert.deepEqual([tools.directory, tools.version], [fits, `${HIGH + 1}.2`])
  assert.equal(tools.path('pg_dumpall'), join(fits, 'pg_dumpall'))
})

test("Debian's wrapper, which chooses for itself, is passed over", async () => {
  const bin = temporaryDirectory(undefined, 'tidemark-tools-')
  mkdirSync(join(bin, 'share'))
  const wrapper = join(bin, 'share/pg_wrapper')
  writeFileSync(wrapper, `#!/bin/sh\necho "pg_dump (PostgreSQL) ${HIGH}.1"\n`)
  chmodSync(wrapper, 0o755)
  for (const name of BOTH) symlinkSync(wrapper, join(bin, name))
  await assert.rejects(findTools({ names: BOTH, major: HIGH, searchPath: bin }), (error) => {
    return isFailure(error, 'TM2001')
  })
})

test('older ones, none, and one that does not run are refused with the package', async () => {
  const old = makeTools('12.4')
  const broken = makeTools('17.1')
  chmodSync(join(broken, 'pg_dump'), 0o644)
  for (const directory of [old, broken, '/nonexistent']) {
    const asked = findTools({ names: BOTH, major: 17, directory, searchPath: '' })
    await assert.rejects(asked, (error) => {
      return isFailure(error, 'TM2001') && /postgresql-client-17/.test(error.fix)
    })
  }
})
