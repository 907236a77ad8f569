import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { groupOf, madeUpRows, writeMadeUpDump } from '../../test/harness/dumped-files.ts'
import { removeDirectory, temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { isFailure } from '../base/failure.ts'
import { createRepository } from '../repository/repository.ts'
import { openStorage } from '../storage/open-storage.ts'
import { planNames, writeOut } from './write-out.ts'

test('a directory dump loses its number, several databases keep theirs', () => {
  assert.deepEqual(planNames(['1/toc.dat', '1/2.dat']), ['toc.dat', '2.dat'])
  assert.deepEqual(planNames(['1/toc.dat', '2/toc.dat']), ['1/toc.dat', '2/toc.dat'])
  assert.deepEqual(planNames(['globals.sql', '1/toc.dat']), ['globals.sql', '1/toc.dat'])
  assert.deepEqual(planNames(['globals.sql', '1.dump']), ['globals.sql', '1.dump'])
})

async function makeDump(files: Record<string, Uint8Array>) {
  const base = temporaryDirectory(undefined, 'tidemark-out-')
  const storage = await openStorage({ url: `file://${join(base, 'repository')}` })
  await createRepository(storage, new Date(0))
  const { record } = await writeMadeUpDump(groupOf([storage]), { files })
  const write = async (output: string, numbers = [...record.files.keys()]) => {
    const signal = new AbortController().signal
    return await writeOut({ storage, record, files: numbers, output, onBytes() {}, signal })
  }
  return { base, storage, record, write }
}

test('the bytes come back; nothing that is there is touched', async () => {
  const rows = madeUpRows(3_000_000)
  const { base, write } = await makeDump({ '1.dump': rows, 'globals.sql': Buffer.from('x') })
  const file = join(base, 'one')
  await write(file, [0])
  assert.ok(readFileSync(file).equals(rows))
  assert.equal(statSync(file).mode & 0o777, 0o600)
  const directory = join(base, 'all')
  await write(directory)
  assert.deepEqual(readdirSync(directory).sort(), ['1.dump', 'globals.sql'])
  writeFileSync(join(base, 'mine'), 'mine')
  mkdirSync(join(base, 'empty'))
  for (const taken of ['mine', 'empty', 'one', 'all']) {
    await assert.rejects(write(join(base, taken), [0]), (error) => isFailure(error, 'TM2036'))
  }
  assert.equal(readFileSync(join(base, 'mine'), 'utf8'), 'mine')
  writeFileSync(join(base, 'other.tidemark-part'), 'of a run that was killed')
  await assert.rejects(write(join(base, 'other'), [0]), /other\.tidemark-part is there already/)
  await assert.rejects(write(join(base, 'no/such/place'), [0]), (error) =>
    isFailure(error, 'TM2036'),
  )
  await removeDirectory(base)
})

test('a disk that is full: said, and nothing stays', async (t) => {
  const { base, write } = await makeDump({ '1.dump': madeUpRows(3_000_000) })
  const mount = join(base, 'small')
  mkdirSync(mount)
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', mount])
  if (mounted.status !== 0) return t.skip('cannot mount a small file system here')
  try {
    await assert.rejects(write(join(mount, 'out')), (error) => {
      return isFailure(error, 'TM2036') && /no space/.test(error.because ?? '')
    })
    assert.deepEqual(readdirSync(mount), [])
  } finally {
    spawnSync('umount', ['-l', mount])
    await removeDirectory(base)
  }
})
