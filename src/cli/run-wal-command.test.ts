import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { tidemark } from '../../test/harness/tidemark.ts'
import { buildSegment, MB, SYSTEM, segmentName } from '../../test/harness/wal-builder.ts'
import { createRepository } from '../repository/repository.ts'
import { ensureSystemIdentity } from '../repository/system-identity.ts'
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

/** A directory with one segment, and a store beside it that refuses everything and counts. */
async function makeTwo() {
  const directory = temporaryDirectory()
  const url = `file://${join(directory, 'near')}`
  const storage = await openStorage({ url })
  await createRepository(storage, new Date(0))
  await ensureSystemIdentity(storage, 'main', {
    systemIdentifier: SYSTEM.toString(),
    major: 15,
    walSegmentSizeBytes: MB,
    createdAt: '',
  })
  let asked = 0
  const server = createServer((_request, response) => {
    asked++
    response.writeHead(403).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const config = join(directory, 'tidemark.yaml')
  writeFileSync(
    config,
    `repositories:
  far:
    url: s3://bucket/prefix
    endpoint: http://127.0.0.1:${port}
    region: here
    accessKeyId: key
    secretAccessKey: \${SECRET}
  near:
    url: ${url}
clusters:
  main:
    connection: postgresql:///postgres
    required: [near]
`,
  )
  const get = async (name: string) => {
    const words = ['--system-identifier', SYSTEM.toString(), name, join(directory, 'wanted')]
    return await tidemark(['--config', config, 'wal', 'get', ...words], { env: { SECRET: 's' } })
  }
  return { directory, config, server, get, asked: () => asked }
}

test('wal get asks the next repository only for what the nearest has not given', async () => {
  const { directory, config, server, get, asked } = await makeTwo()
  try {
    const segment = join(directory, segmentName())
    writeFileSync(segment, buildSegment())
    const near = await tidemark(['--config', config, 'wal', 'push', segment], {
      env: { SECRET: 's' },
    })
    assert.equal(near.status, 0, near.stderr)
    const before = asked()
    const found = await get(segmentName())
    assert.equal(found.status, 0, found.stderr)
    assert.equal(asked(), before)
    const missing = await get(segmentName({ segment: 9n }))
    assert.equal(missing.status, 255, 'one that cannot be read proves no absence')
    assert.match(missing.stderr, /TM15/)
    assert.ok(asked() > before)
  } finally {
    server.close()
  }
})
