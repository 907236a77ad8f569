import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isFailure } from '../../base/failure.ts'
import { findServerPrograms } from './find-server.ts'

const place = mkdtempSync(join(tmpdir(), 'tidemark-find-server-'))
after(() => rmSync(place, { recursive: true }))

function makePrograms(directory: string, version: string): string {
  mkdirSync(directory, { recursive: true })
  for (const name of ['postgres', 'initdb', 'pg_ctl']) {
    writeFileSync(join(directory, name), `#!/bin/sh\necho 'postgres (PostgreSQL) ${version}'\n`)
    chmodSync(join(directory, name), 0o755)
  }
  return directory
}

test('a named directory counts alone', async () => {
  const asked = makePrograms(join(place, 'named'), '17.4 (Something 17.4-1)')
  assert.deepEqual(await findServerPrograms(place, '', asked), {
    directory: asked,
    major: 17,
    version: '17.4 (Something 17.4-1)',
  })
})

test('versions that are not supported, and incomplete directories, are refused', async () => {
  const old = makePrograms(join(place, 'old'), '12.9')
  const strange = makePrograms(join(place, 'strange'), '99.1')
  const incomplete = makePrograms(join(place, 'incomplete'), '16.1')
  rmSync(join(incomplete, 'initdb'))
  for (const asked of [old, strange, incomplete, join(place, 'none')]) {
    await assert.rejects(findServerPrograms(place, '', asked), (error) => {
      assert.ok(isFailure(error, 'TM1811'))
      assert.ok(error.because?.includes(asked))
      assert.match(error.fix, /apt install postgresql/)
      return true
    })
  }
})
