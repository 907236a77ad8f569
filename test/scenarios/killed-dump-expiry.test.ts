/** `expire --apply` of dumps that is killed while it removes: what is listed is whole. */
import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { createRepository } from '../../src/repository/repository.ts'
import { openStorage } from '../../src/storage/open-storage.ts'
import {
  assertDumpsWhole,
  assertNoDumpGarbage,
  handMadeDumpRecord,
  handMadePackId,
  putDump,
} from '../harness/hand-made-dump.ts'
import { removeDirectory, temporaryDirectory } from '../harness/temporary-directory.ts'
import { startTidemark, tidemark } from '../harness/tidemark.ts'

const DUMPS = 120

test('a killed expiry of dumps leaves what is whole, and the next one ends it', async () => {
  const directory = temporaryDirectory(undefined, 'tidemark-killed-')
  const config = join(directory, 'tidemark.yaml')
  const url = `file://${directory}/repository`
  writeFileSync(
    config,
    `repositories: { local: { url: '${url}' } }
clusters: { main: { connection: 'postgresql:///x', dumps: { keepLast: 1 } } }
`,
  )
  const storage = await openStorage({ url })
  try {
    await createRepository(storage, new Date())
    for (let number = 0; number < DUMPS; number++) {
      const id = `20261101-000000-${String(number).padStart(4, '0')}`
      // Each needs the pack of the one before, too.
      const packs = number === 0 ? [0] : [number - 1, number]
      await putDump(storage, handMadeDumpRecord(number, packs, { id }))
    }
    const listed = (): number =>
      readdirSync(join(directory, 'repository/clusters/main/dumps')).length
    const program = startTidemark(['--config', config, 'expire', '--apply'])
    let isOver = false
    void program.done.then(() => {
      isOver = true
    })
    while (listed() === DUMPS && !isOver) await sleep(1)
    program.kill('SIGKILL')
    await program.done
    const left = await assertDumpsWhole(storage)
    assert.ok(left.includes(`20261101-000000-${String(DUMPS - 1).padStart(4, '0')}`))
    const next = await tidemark(['--config', config, 'expire', '--apply'])
    assert.equal(next.status, 0, next.stdout + next.stderr)
    assert.equal((await assertDumpsWhole(storage)).length, 1)
    await assertNoDumpGarbage(storage)
    const packs = readdirSync(join(directory, 'repository/clusters/main/dump-packs'))
    assert.ok(packs.includes(handMadePackId(DUMPS - 2).slice(0, 24)))
  } finally {
    await storage.close()
    await removeDirectory(directory)
  }
})
