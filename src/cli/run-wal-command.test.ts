import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { tidemark } from '../../test/harness/tidemark.ts'
import { buildSegment, segmentName } from '../../test/harness/wal-builder.ts'
import { createRepository } from '../repository/repository.ts'
import { openStorage } from '../storage/open-storage.ts'

/** A repository and a configuration that names it, as a later version would have left them. */
async function makeFutureRepository(): Promise<{ directory: string; config: string }> {
  const directory = temporaryDirectory()
  const repository = join(directory, 'repository')
  await createRepository(await openStorage({ url: `file://${repository}` }), new Date(0))
  const marker = join(repository, 'tidemark.repository')
  const content = JSON.parse(readFileSync(marker, 'utf8')) as { format: number }
  writeFileSync(marker, JSON.stringify({ ...content, format: content.format + 8 }))
  const config = join(directory, 'tidemark.yaml')
  writeFileSync(
    config,
    `repositories:
  local:
    url: file://${repository}
clusters:
  main:
    connection: postgresql:///postgres
    repositories: [local]
`,
  )
  return { directory, config }
}

test('WAL does not go into, nor comes out of, a repository of a later format', async () => {
  const { directory, config } = await makeFutureRepository()
  const segment = join(directory, segmentName())
  writeFileSync(segment, buildSegment())
  const push = await tidemark(['--config', config, 'wal', 'push', segment])
  assert.equal(push.status, 2)
  assert.match(push.stderr, /TM1504.*format 9/)
  assert.ok(!existsSync(join(directory, 'repository/clusters')), 'nothing was written')

  const wanted = join(directory, 'RECOVERYXLOG')
  const get = await tidemark(['--config', config, 'wal', 'get', segmentName(), wanted])
  assert.equal(get.status, 255)
  assert.match(get.stderr, /TM1504/)
  assert.ok(!existsSync(wanted))
})
