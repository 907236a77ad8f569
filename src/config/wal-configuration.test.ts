import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { findPrivateDirectory } from './private-directory.ts'
import { loadWalConfiguration } from './wal-configuration.ts'

const TEXT = `repositories: { local: { url: file:///var/lib/tidemark } }
clusters: { main: { connection: 'postgresql:///x' } }
`

test('the second reading, from memory, says what the first one parsed', async () => {
  await withFile(async (path) => {
    const text = `${TEXT}# ${path}\n`
    writeFileSync(path, text)
    const first = await loadWalConfiguration(path, {})
    const second = await loadWalConfiguration(path, {})
    assert.deepEqual(second, first)
    assert.deepEqual(first.clusters.get('main')?.repositories, [
      { name: 'local', url: 'file:///var/lib/tidemark' },
    ])
  })
})

test('a secret that stands in the file itself is written nowhere else', async () => {
  await withFile(async (path) => {
    const directory = findPrivateDirectory() ?? ''
    const secret = `secret-of-${path.replaceAll('/', '-')}`
    const repository = `{ url: 's3://bucket', accessKeyId: a, secretAccessKey: '${secret}' }`
    writeFileSync(path, TEXT.replace('{ url: file:///var/lib/tidemark }', repository))
    const { clusters } = await loadWalConfiguration(path, {})
    assert.equal(clusters.get('main')?.repositories[0]?.s3?.secretAccessKey, secret)
    for (const name of readdirSync(directory).filter((each) => each.endsWith('.json'))) {
      assert.ok(!readFileSync(join(directory, name), 'utf8').includes(secret), name)
    }
  })
})

test('a passphrase that stands in the file is kept in no memory', async () => {
  await withFile(async (path) => {
    const directory = findPrivateDirectory()
    if (directory === undefined) return
    const secret = `phrase-of-${path.replaceAll('/', '-')}`
    const repository = `{ url: file:///var/lib/tidemark, encryption: { passphrase: '${secret}' } }`
    writeFileSync(path, TEXT.replace('{ url: file:///var/lib/tidemark }', repository))
    const { clusters } = await loadWalConfiguration(path, {})
    assert.equal(clusters.get('main')?.repositories[0]?.encryption?.passphrase, secret)
    for (const name of readdirSync(directory).filter((each) => each.endsWith('.json'))) {
      assert.ok(!readFileSync(join(directory, name), 'utf8').includes(secret), name)
    }
  })
})

test('a changed file is never answered from memory', async () => {
  await withFile(async (path) => {
    writeFileSync(path, `${TEXT}# ${path}\n`)
    await loadWalConfiguration(path, {})
    writeFileSync(path, TEXT.replaceAll('main', 'other'))
    assert.deepEqual([...(await loadWalConfiguration(path, {})).clusters.keys()], ['other'])
    writeFileSync(path, `${TEXT}retension: 1\n`)
    await assert.rejects(loadWalConfiguration(path, {}), (error) => isFailure(error, 'TM1003'))
    await assert.rejects(loadWalConfiguration(path, {}), (error) => isFailure(error, 'TM1003'))
  })
})

async function withFile(use: (path: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'tidemark-config-'))
  try {
    await use(join(directory, 'tidemark.yaml'))
  } finally {
    rmSync(directory, { recursive: true })
  }
}
