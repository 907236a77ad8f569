import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { findLocalRoot, openStorage, parseFileUrl } from './open-storage.ts'
import { parseS3Url } from './s3/s3-url.ts'

test('a file URL names an absolute path', () => {
  assert.equal(parseFileUrl('file:///var/lib/tidemark'), '/var/lib/tidemark')
  assert.equal(parseFileUrl('file:///var/lib/tidemark//'), '/var/lib/tidemark')
  assert.equal(parseFileUrl('file:///with%20space/%C3%A4'), '/with space/ä')
  assert.equal(parseFileUrl('file://localhost/srv'), '/srv')
})

const REFUSED: readonly (readonly [url: string, because: RegExp, fix: RegExp])[] = [
  ['gs://bucket/path', /gs:\/\/ repositories are not there yet/, /file:\/\/\/absolute\/path/],
  ['s3://', /'' is no bucket/, /s3:\/\/bucket\/prefix/],
  ['s3://Bucket/x', /'Bucket' is no bucket/, /s3:\/\/bucket\/prefix/],
  ['s3://host:9000/x', /belongs into `endpoint`/, /s3:\/\/bucket\/prefix/],
  ['s3://bucket/a b', /its prefix 'a b'/, /s3:\/\/bucket\/prefix/],
  ['s3://bucket/a/../b', /its prefix/, /s3:\/\/bucket\/prefix/],
  ['s3://bucket/a?region=x', /no \? and no #/, /s3:\/\/bucket\/prefix/],
  ['http://host/', /the scheme http:\/\/ is unknown/, /file:\/\/\/absolute\/path/],
  ['/srv/my backups', /it is a path, not a URL/, /file:\/\/\/srv\/my%20backups/],
  ['srv', /it is not a URL/, /file:\/\/\//],
  ['file://srv/backups', /three slashes.*'srv'/, /file:\/\/\//],
  ['file:///', /root directory/, /file:\/\/\//],
  ['file:///a?b=c', /no \? and no #/, /file:\/\/\//],
  ['file:///a%00b', /zero byte/, /file:\/\/\//],
  ['file:///a%2Fb', /cannot be decoded/, /file:\/\/\//],
]

for (const [url, because, fix] of REFUSED) {
  test(`${url} is refused`, async () => {
    await assert.rejects(openStorage({ url }), (error) => {
      assert.ok(isFailure(error, 'TM1508'))
      assert.match(error.because ?? '', because)
      assert.match(error.fix, fix)
      assert.equal(error.exitStatus, 2)
      return true
    })
  })
}

test('an s3 URL names a bucket and what stands before every key', () => {
  assert.deepEqual(parseS3Url('s3://bucket'), { bucket: 'bucket', prefix: '' })
  assert.deepEqual(parseS3Url('s3://bucket/'), { bucket: 'bucket', prefix: '' })
  assert.deepEqual(parseS3Url('s3://my.bucket/a/b/'), { bucket: 'my.bucket', prefix: 'a/b/' })
  assert.equal(findLocalRoot('s3://bucket/x'), undefined)
  assert.equal(findLocalRoot('file:///x'), '/x')
})

test('a region that nobody names', async () => {
  for (const name of ['AWS_REGION', 'AWS_DEFAULT_REGION', 'AWS_PROFILE']) delete process.env[name]
  process.env['AWS_CONFIG_FILE'] = '/dev/null'
  await assert.rejects(openStorage({ url: 's3://bucket/x' }), (error) => {
    return isFailure(error, 'TM1508') && /region/.test(error.message) && /endpoint/.test(error.fix)
  })
})

test('a password in a URL is not repeated', async () => {
  await assert.rejects(openStorage({ url: 's3://me:secret@bucket/x' }), (error) => {
    return isFailure(error, 'TM1508') && !error.message.includes('secret')
  })
})
