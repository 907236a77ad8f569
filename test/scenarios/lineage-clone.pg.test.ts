/** A clone on the same timeline that archives first: refusals, and what a person decides. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openServerOn } from '../harness/postgres-server.ts'
import { archiveNow, protectServer } from './recovery-cluster.ts'
import {
  assertRecoverable,
  createTable,
  mark,
  SMALL,
  snapshot,
  waitForArchiver,
  waitForRefusal,
} from './lineage-cluster.ts'

interface AdoptionJson {
  readonly repositories: readonly {
    readonly aside: readonly string[]
    readonly bring: readonly { readonly name: string }[]
    readonly done: unknown
  }[]
}

test('the original is adopted after its clone archived first, then the clone again', async () => {
  await using cluster = await protectServer(SMALL)
  const { server: original } = cluster
  await createTable(original)
  await cluster.backup()
  const moments = [await mark(original, 'm1')]
  await cluster.archiveNow()
  await waitForArchiver(original)
  await original.stop()
  const data = snapshot(original)
  await original.start()
  await using clone = await openServerOn(data)

  const cloned = [...moments, await mark(clone, 'c1'), await mark(clone, 'c2')]
  await archiveNow(clone)
  await archiveNow(clone)
  moments.push(await mark(original, 'm2'))
  await waitForRefusal(original, 'TM1402')
  const log = await original.log()
  const command = `tidemark wal adopt main --timeline 1 --from ${original.dataDirectory}`
  assert.ok(log.includes(command), log)
  assert.ok(log.includes(`the archive has it from ${data} on`), log)
  moments.push(await mark(original, 'm3'))
  await original.sql('SELECT pg_switch_wal()')

  const adopt = ['--json', 'wal', 'adopt', '--timeline', '1', '--from', original.dataDirectory]
  const [plan] = (await cluster.ok(...adopt)).json<AdoptionJson>().repositories
  assert.equal(plan?.done, null)
  assert.ok((plan?.aside.length ?? 0) >= 2)
  assert.ok((plan?.bring.length ?? 0) >= 2)
  await assertRecoverable(cluster, 1, cloned)
  await cluster.ok(...adopt, '--apply')
  moments.push(await mark(original, 'm4'))
  await archiveNow(original)
  await waitForArchiver(original)
  await mark(clone, 'c3')
  await waitForRefusal(clone, 'TM1463')
  await assertRecoverable(cluster, 1, moments)
  const verified = await cluster.run('--json', 'verify')
  assert.equal(verified.status, 0, verified.stdout)

  const back = ['--json', 'wal', 'adopt', '--timeline', '1', '--from', clone.dataDirectory]
  await cluster.ok(...back, '--apply')
  await archiveNow(clone)
  await waitForArchiver(clone)
  await assertRecoverable(cluster, 1, cloned)
})
