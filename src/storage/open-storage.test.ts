import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFailure } from '../base/failure.ts'
import { openStorage, parseFileUrl } from './open-storage.ts'

test('a file URL names an absolute path', () => {
  assert.equal(parseFileUrl('file:///var/lib/tidemark'), '/var/lib/tidemark')
  assert.equal(parseFileUrl('file:///var/lib/tidemark//'), '/var/lib/tidemark')
  assert.equal(parseFileUrl('file:///with%20space/%C3%A4'), '/with space/ä')
  assert.equal(parseFileUrl('file://localhost/srv'), '/srv')
})

const REFUSED: readonly (readonly [url: string, because: RegExp, fix: RegExp])[] = [
  ['s3://bucket/path', /s3:\/\/ repositories are not there yet/, /file:\/\/\/absolute\/path/],
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

test('a password in a URL is not repeated', async () => {
  await assert.rejects(openStorage({ url: 's3://me:secret@bucket/x' }), (error) => {
    return isFailure(error, 'TM1508') && !error.message.includes('secret')
  })
})
