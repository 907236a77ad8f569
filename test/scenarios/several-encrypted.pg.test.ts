/**
 * A plain repository and an encrypted one: frames are compressed once and sealed for the second,
 * and a restore takes from either what the other has not whole.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { protectServerBySeveral } from './several-fixture.ts'

test('a plain repository and an encrypted one stand in for each other', async () => {
  await using scene = await protectServerBySeveral({ others: { sealed: 'encrypted' } })
  await scene.server.sql(
    "CREATE TABLE t AS SELECT n, 'unmistakable' || n AS filler FROM generate_series(1, 4000) AS n",
  )
  const { status, report } = await scene.backUp('--full', '--workers', '2')
  assert.equal(status, 0, JSON.stringify(report))
  await scene.archiveNow()
  assert.equal(await scene.restoredRows('sealed-alone', '--repository', 'sealed'), 4000)

  const packs = (name: string): string[] => {
    const root = join(scene.root(name), 'clusters/main/packs')
    const names = readdirSync(root, { recursive: true }).map(String)
    return names.filter((path) => path.endsWith('.pack')).map((path) => join(root, path))
  }
  for (const path of packs('sealed')) assert.ok(!readFileSync(path).includes('TMPACK01'))
  const [gone = '', ...others] = packs('local').sort()
  rmSync(gone)
  for (const path of others) {
    const bytes = readFileSync(path)
    for (let at = 70; at < bytes.length - 20_000; at += 30_000) bytes[at] = (bytes[at] ?? 0) ^ 1
    writeFileSync(path, bytes)
  }
  assert.equal(await scene.restoredRows('from-the-sealed'), 4000)
  const health = await scene.run('--json', 'doctor', '--no-proof')
  assert.match(health.stdout, /"TM1320"/)
})
