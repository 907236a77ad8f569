import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { parseConfiguration } from './parse-configuration.ts'
import { planConfiguration, writeConfiguration } from './write-configuration.ts'

const MAIN = {
  cluster: 'main',
  connection: 'postgresql:///postgres?host=/run',
  repositoryUrl: 'file:///var/lib/tidemark',
}

test('a new file, and the same facts again', () => {
  const first = planConfiguration('/x', undefined, MAIN)
  assert.equal(first.changed, true)
  assert.equal(
    parseConfiguration('/x', first.text).clusters.get('main')?.connection,
    MAIN.connection,
  )
  const again = planConfiguration('/x', first.text, MAIN)
  const configuration = { name: 'local', url: MAIN.repositoryUrl }
  assert.deepEqual(first.configuration, configuration)
  assert.deepEqual(again, {
    text: first.text,
    repository: 'local',
    configuration,
    changed: false,
  })
})

test('how an object store is reached is written once, and not silently changed', () => {
  const s3 = { region: 'eu-1', endpoint: 'https://s3.example.org', pathStyle: true }
  const wanted = { ...MAIN, repositoryUrl: 's3://bucket/x', s3 }
  const { text, configuration } = planConfiguration('/x', undefined, wanted)
  assert.deepEqual(configuration, { name: 'local', url: 's3://bucket/x', s3 })
  const { s3: _, ...silent } = wanted
  assert.equal(planConfiguration('/x', text, silent).changed, false)
  assert.deepEqual(planConfiguration('/x', text, silent).configuration, configuration)
  const other = { ...wanted, s3: { ...s3, region: 'us-1' } }
  assert.throws(
    () => planConfiguration('/x', text, other),
    (error) => isFailure(error, 'TM1006') && error.fix !== '',
  )
})

test('a second cluster keeps comments and everything that was there', () => {
  const { text } = planConfiguration('/x', undefined, MAIN)
  const commented = text.replace('clusters:', '# ours\nclusters:')
  const other = { ...MAIN, cluster: 'other', repositoryUrl: 'file:///mnt/other' }
  const second = planConfiguration('/x', commented, other)
  assert.match(second.text, /# ours/)
  assert.equal(second.repository, 'local2')
  const parsed = parseConfiguration('/x', second.text)
  assert.deepEqual([...parsed.clusters.keys()], ['main', 'other'])
  assert.deepEqual(
    parsed.clusters.get('other')?.repositories.map(({ url }) => url),
    ['file:///mnt/other'],
  )
})

test('other facts under a name that is taken are refused', () => {
  const { text } = planConfiguration('/x', undefined, MAIN)
  for (const other of [
    { ...MAIN, connection: 'postgresql:///elsewhere' },
    { ...MAIN, repositoryUrl: 'file:///elsewhere' },
  ]) {
    assert.throws(
      () => planConfiguration('/x', text, other),
      (error) => isFailure(error, 'TM1006'),
    )
  }
})

test('a file appears whole, with mode 0600, and keeps the mode it has', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tidemark-write-'))
  try {
    const path = join(directory, 'tidemark.yaml')
    writeConfiguration(path, 'a: 1\n', undefined)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    writeFileSync(path, 'b', { mode: 0o640 })
    writeConfiguration(path, 'c: 1\n', undefined)
    assert.equal(readFileSync(path, 'utf8'), 'c: 1\n')
    assert.deepEqual(readdirSync(directory), ['tidemark.yaml'])
    assert.throws(
      () => writeConfiguration(join(directory, 'no/such/tidemark.yaml'), '', undefined),
      (error) => isFailure(error, 'TM1006'),
    )
  } finally {
    rmSync(directory, { recursive: true })
  }
})
