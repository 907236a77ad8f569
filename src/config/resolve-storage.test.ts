import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { parseConfiguration } from './parse-configuration.ts'
import { resolveStorage } from './resolve-storage.ts'

function parse(...lines: string[]) {
  const text = `repositories:\n  away:\n${lines.map((line) => `    ${line}\n`).join('')}`
  const file = `${text}clusters:\n  main: { connection: "postgresql:///x" }\n`
  const repository = parseConfiguration('/x', file).repositories.get('away')
  assert.ok(repository)
  return repository
}

test('a file repository needs nothing', () => {
  const { meter, ...rest } = resolveStorage(parse('url: file:///x'), {})
  assert.deepEqual(rest, { url: 'file:///x' })
  assert.equal(resolveStorage(parse('url: file:///x'), {}).meter, meter)
})

test('references to keys are replaced, everything else is passed on', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tidemark-storage-'))
  const path = join(directory, 'secret')
  writeFileSync(path, 'from-file\n')
  const repository = parse(
    'url: s3://bucket/x',
    'region: eu-1',
    'endpoint: https://s3.example.org:9000',
    'pathStyle: true',
    'storageClass: COLD',
    'caFile: /etc/ca.pem',
    'accessKeyId: ${KEY}',
    `secretAccessKey: file:${path}`,
    'bandwidth: 2MB/s',
  )
  assert.ok(!JSON.stringify(repository).includes('from-file'))
  const { bandwidth, meter: _, ...rest } = resolveStorage(repository, { KEY: 'from-environment' })
  assert.deepEqual(rest, {
    url: 's3://bucket/x',
    s3: {
      region: 'eu-1',
      endpoint: 'https://s3.example.org:9000',
      pathStyle: true,
      storageClass: 'COLD',
      caFile: '/etc/ca.pem',
      accessKeyId: 'from-environment',
      secretAccessKey: 'from-file',
    },
  })
  assert.equal(bandwidth?.bytesPerSecond, 2 * 1024 * 1024)
  rmSync(directory, { recursive: true })
  assert.throws(
    () => resolveStorage(repository, {}),
    (error) =>
      isFailure(error, 'TM1005') && /repositories\.away\.accessKeyId/.test(error.because ?? ''),
  )
  assert.throws(
    () => resolveStorage(repository, { KEY: '' }),
    (error) => isFailure(error, 'TM1005') && /accessKeyId is empty/.test(error.message),
  )
})

test('one bucket name at two stores is two places, at one store it is one', () => {
  const clusters = 'clusters:\n  main: { connection: "postgresql:///x" }\n'
  const at = (one: string, other: string): string =>
    `repositories:\n  a: { url: "s3://bucket/x", endpoint: "${one}" }\n` +
    `  b: { url: "s3://bucket/x/", endpoint: "${other}" }\n${clusters}`
  assert.equal(parseConfiguration('/x', at('http://a', 'http://b')).repositories.size, 2)
  assert.throws(
    () => parseConfiguration('/x', at('http://a', 'http://a')),
    (error) => isFailure(error, 'TM1003') && /has the URL of 'a'/.test(error.message),
  )
})

const REFUSED: readonly (readonly [string[], RegExp])[] = [
  [['url: file:///x', 'region: eu'], /repositories\.away\.region: only an s3 repository has it/],
  [['url: s3://bucket', 'accessKeyId: x'], /secretAccessKey is missing beside it/],
  [['url: s3://bucket', 'secretAccessKey: x'], /accessKeyId is missing beside it/],
  [['url: s3://bucket', 'sessionToken: x'], /sessionToken: it belongs to/],
  [['url: s3://bucket', 'endpoint: s3.example.org'], /an endpoint is a URL without a path/],
  [['url: s3://bucket', 'endpoint: https://me:pw@host'], /an endpoint is a URL without a path/],
  [['url: s3://bucket', 'caFile: ca.pem'], /absolute path/],
  [['url: s3://bucket', 'bandwidth: 5 MB'], /a bandwidth is a number with kB\/s/],
  [['url: s3://bucket', 'pathstyle: true'], /did you mean 'pathStyle'/],
  [['url: s3://BUCKET'], /'BUCKET' is no bucket/],
]

for (const [lines, expected] of REFUSED) {
  test(`refused: ${lines.join(', ')}`, () => {
    assert.throws(
      () => parse(...lines),
      (error) => isFailure(error, 'TM1003') && expected.test(`${error.message} ${error.fix}`),
    )
  })
}
