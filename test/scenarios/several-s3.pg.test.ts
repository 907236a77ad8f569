/**
 * A directory and an S3 store: the store refuses, goes down in the middle of a backup, comes
 * back; and at last it is all that is left.
 */
import assert from 'node:assert/strict'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type S3Proxy, startS3Proxy } from '../harness/s3-proxy.ts'
import { type S3Server, startS3Server, whyNoS3Server } from '../harness/s3-server.ts'
import { protectServerBySeveral, type SeveralRepositories } from './several-fixture.ts'

let store: S3Server
let proxy: S3Proxy
let scene: SeveralRepositories
let rows = 0

async function addRows(): Promise<void> {
  await scene.server.sql('INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 2000) n')
  rows += 2000
}

const outcomes = (report: { repositories: readonly { outcome: string }[] }): string[] =>
  report.repositories.map(({ outcome }) => outcome)

describe('a directory and an S3 store', { skip: whyNoS3Server() ?? false }, () => {
  before(async () => {
    store = await startS3Server()
    proxy = await startS3Proxy(store.endpoint)
    const bucket = await store.createBucket()
    const s3 = { ...store.settings, endpoint: proxy.endpoint }
    scene = await protectServerBySeveral({ others: { offsite: { url: `s3://${bucket}/a`, s3 } } })
    await scene.server.sql('CREATE TABLE t (n int, filler text)')
    await addRows()
  })

  after(async () => {
    await scene?.server.dispose()
    await proxy?.stop()
    await store?.stop()
  })

  test('one backup is in both, and each restores alone', async () => {
    const { status, report } = await scene.backUp()
    assert.equal(status, 0)
    assert.deepEqual(outcomes(report), ['stored', 'stored'])
    await scene.archiveNow()
    for (const name of ['local', 'offsite']) {
      assert.equal(await scene.restoredRows(`alone-${name}`, '--repository', name), rows)
    }
  })

  test('the store refuses packs: it is left out, and clean when it takes them again', async () => {
    proxy.spoil(({ method, target }) => {
      const isPack = target.includes('/packs/') && method !== 'GET'
      return isPack ? { kind: 'answer', status: 403 } : undefined
    })
    await addRows()
    const refused = await scene.backUp('--workers', '2')
    assert.equal(refused.status, 3)
    assert.deepEqual(outcomes(refused.report), ['stored', 'failed'])
    proxy.spoil(() => undefined)
    await addRows()
    const again = await scene.backUp()
    assert.deepEqual(outcomes(again.report), ['stored', 'stored'])
    assert.equal((await scene.listed('offsite')).length, 2)
  })

  test('the store goes down in the middle of a backup, and comes back', async () => {
    await addRows()
    let packs = 0
    proxy.spoil(({ method, target }) => {
      if (method === 'PUT' && target.includes('/packs/')) packs++
      return packs > 0 ? { kind: 'answer', status: 503 } : undefined
    })
    const { status, report } = await scene.backUp('--full', '--workers', '2')
    assert.ok(packs > 0)
    assert.equal(status, 3)
    assert.deepEqual(outcomes(report), ['stored', 'failed'])
    assert.equal(report.repositories[1]?.code, 'TM1509')
    // WAL goes on without it, and the archiver asks it once in a minute.
    await addRows()
    await scene.archiveNow()
    await scene.archiveNow()
    assert.match(await scene.server.log(), /TM1321: .*\n.*because: it did not answer at/)
    const alone = await scene.ok('--json', 'restore', '--into', scene.root('without-the-store'))
    assert.match(alone.stdout, /s3:.*\/a is left out, and what only it has is not seen/)
    const settings = readFileSync(join(scene.root('without-the-store'), 'postgresql.auto.conf'))
    assert.match(settings.toString(), /wal get .*--repository local/)
    proxy.spoil(() => undefined)
    await addRows()
    const back = await scene.backUp()
    assert.deepEqual(outcomes(back.report), ['stored', 'stored'])
    assert.equal(await scene.restoredRows('store-alone', '--repository', 'offsite'), rows)
    // What it missed of the WAL is a hole until it is brought; all else is whole.
    const { stdout, stderr } = await scene.run('verify', '--full', '--repository', 'offsite')
    assert.doesNotMatch(`${stdout}${stderr}`, /TM16\d\d/)
  })

  test('the directory is lost: a restore takes all from the store, and says so', async () => {
    await scene.archiveNow()
    rmSync(join(scene.root('local'), 'clusters/main/packs'), { recursive: true })
    const result = await scene.ok('--json', 'restore', '--into', scene.root('taken-over'))
    const { passedOver } = result.json<{ passedOver: { takenFrom: string }[] }>()
    assert.ok(passedOver.length > 0)
    assert.ok(passedOver.every(({ takenFrom }) => takenFrom.startsWith('s3://')))
    rmSync(scene.root('local'), { recursive: true })
    assert.equal(await scene.restoredRows('store-only'), rows)
  })
})
