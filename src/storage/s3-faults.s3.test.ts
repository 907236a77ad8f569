/** What goes wrong between a client and a store, over a real S3 server and a proxy. */
import assert from 'node:assert/strict'
import { CreateMultipartUploadCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import {
  isBegin,
  isCompletion,
  isGet,
  isPart,
  isPut,
  type ProxiedRequest,
  type S3Proxy,
  startS3Proxy,
} from '../../test/harness/s3-proxy.ts'
import { type S3Server, startS3Server, whyNoS3Server } from '../../test/harness/s3-server.ts'
import { runChecked } from '../../test/harness/run-program.ts'
import { keysOf } from '../../test/harness/storage-contract.ts'
import { temporaryDirectory } from '../../test/harness/temporary-directory.ts'
import { sleep } from '../base/clock.ts'
import { Failure, isFailure } from '../base/failure.ts'
import type { FailureCode } from '../base/failure-codes.ts'
import { probeConditionalWrites } from './probe-conditional-writes.ts'
import { openRetryingStorage } from './retrying-storage.ts'
import { openS3Storage } from './s3-storage.ts'
import type { S3Settings } from './s3/s3-connection.ts'
import type { Storage } from './storage.ts'

const PART_BYTES = 8 * 1024 * 1024
const WRONG_SECRET = 'something-else'
const QUICK = { attempts: 5, firstPauseMs: 1, longestPauseMs: 4, patienceMs: 60_000 }

let server: S3Server
let proxy: S3Proxy
let bucket: string
let opened: Storage[]

async function open(settings: Partial<S3Settings> = {}, url?: string): Promise<Storage> {
  const all = { ...server.settings, endpoint: proxy.endpoint, ...settings }
  const storage = await openS3Storage(url ?? `s3://${bucket}/place`, all)
  opened.push(storage)
  return storage
}

const openRetrying = async (settings: Partial<S3Settings> = {}): Promise<Storage> =>
  openRetryingStorage(await open(settings), QUICK)

/** The fault for the first `times` requests that match. */
function spoilFirst(
  times: number,
  matches: (request: ProxiedRequest) => boolean,
  fault: ReturnType<Parameters<S3Proxy['spoil']>[0]>,
): { readonly met: () => number } {
  let met = 0
  proxy.spoil((request) => {
    if (met >= times || !matches(request)) return undefined
    met += 1
    return fault
  })
  return { met: () => met }
}

const SLOW_DOWN = {
  kind: 'answer',
  status: 503,
  body: '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>m</Message></Error>',
} as const

/** Says what happened, why and what to do, and never the secret. */
async function assertFails(
  action: Promise<unknown>,
  code: FailureCode,
  because: RegExp,
): Promise<Failure> {
  const error = await action.then(
    () => assert.fail('it did not fail'),
    (reason: unknown) => reason,
  )
  assert.ok(isFailure(error, code), inspect(error))
  assert.match(error.because ?? '', because)
  assert.ok(error.fix !== '')
  const shown = inspect(error, { depth: 20, showHidden: true })
  assert.ok(!shown.includes(server.settings.secretAccessKey as string))
  assert.ok(!shown.includes(WRONG_SECRET))
  return error
}

function pieces(bytes: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes / 65_536) }, (_, index) => {
    return Buffer.alloc(Math.min(65_536, bytes - index * 65_536), index % 251)
  })
}

describe('faults of an S3 store', { skip: whyNoS3Server() ?? false }, () => {
  before(async () => {
    server = await startS3Server()
    proxy = await startS3Proxy(server.endpoint)
  })
  after(async () => {
    await proxy.stop()
    await server.stop()
  })
  beforeEach(async () => {
    opened = []
    proxy.spoil(() => undefined)
    bucket = await server.createBucket()
    await (await open()).write('tidemark.repository', Buffer.from('x'))
  })
  afterEach(async () => {
    await Promise.all(opened.map(async (storage) => await storage.close()))
  })

  describe('absent is not said without proof', () => {
    const reads: readonly [string, (storage: Storage) => Promise<unknown>][] = [
      ['read', async (storage) => await storage.read('object')],
      ['readRange', async (storage) => await storage.readRange('object', 0, 1)],
      ['size', async (storage) => await storage.size('object')],
      ['list', async (storage) => await keysOf(storage)],
      ['read of the marker', async (storage) => await storage.read('tidemark.repository')],
    ]
    for (const [name, read] of reads) {
      test(`${name}: no bucket, wrong keys, nobody there`, async () => {
        const nowhere = await open({}, 's3://no-such-bucket/place')
        await assertFails(read(nowhere), 'TM1511', /has no bucket no-such-bucket/)
        const secret = await open({ secretAccessKey: WRONG_SECRET })
        // HEAD has no body that could say more than its status.
        const isHead = name === 'size'
        await assertFails(read(secret), 'TM1510', isHead ? /403/ : /secretAccessKey is not/)
        const key = await open({ accessKeyId: 'NOBODY' })
        await assertFails(read(key), 'TM1510', isHead ? /403/ : /accessKeyId is not known/)
        const closed = await open({ endpoint: 'http://127.0.0.1:1' })
        await assertFails(read(closed), 'TM1509', /connection refused/)
        const tls = await open({ endpoint: proxy.endpoint.replace('http:', 'https:') })
        await assertFails(read(tls), 'TM1511', /no trusted connection/)
      })
    }

    test('an answer of 404 that is none of S3', async () => {
      proxy.spoil(() => ({ kind: 'answer', status: 404, body: '<html>not found</html>' }))
      const storage = await open()
      for (const [, read] of reads) {
        await assert.rejects(read(storage), (error) => error instanceof Failure)
      }
    })

    test('a prefix without a repository', async () => {
      const elsewhere = await open({}, `s3://${bucket}/elsewhere`)
      const absent = /holds no object elsewhere\/tidemark\.repository/
      await assertFails(elsewhere.read('object'), 'TM1507', absent)
      await assertFails(keysOf(elsewhere), 'TM1507', absent)
      await assertFails(elsewhere.write('object', Buffer.from('x')), 'TM1507', absent)
      await assertFails(elsewhere.remove('object'), 'TM1507', absent)
      await assertFails(elsewhere.openWriter('object'), 'TM1507', absent)
      assert.equal(await elsewhere.read('tidemark.repository'), undefined)
    })

    test('a prefix in which something lies does not become a repository', async () => {
      const Key = 'used/clusters/x'
      await server.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'x' }))
      const storage = await open({}, `s3://${bucket}/used`)
      const marker = storage.write('tidemark.repository', Buffer.from('x'), { createOnly: true })
      await assertFails(marker, 'TM1501', /objects already, such as clusters\/x/)
    })
  })

  describe('what is worth another attempt', () => {
    test('a storm of 503 is waited out, and one without an end is said', async () => {
      const storage = await openRetrying()
      const storm = spoilFirst(4, isPut, SLOW_DOWN)
      await storage.write('object', Buffer.from('abc'), { createOnly: true })
      assert.equal(storm.met(), 4)
      assert.equal(Buffer.from((await storage.read('object')) ?? []).toString(), 'abc')
      proxy.spoil(() => SLOW_DOWN)
      const failure = await assertFails(storage.read('object'), 'TM1509', /503 SlowDown/)
      assert.match(failure.because ?? '', /tried 5 times/)
    })

    test('wrong credentials are not tried again', async () => {
      const storage = await openRetrying({ secretAccessKey: WRONG_SECRET })
      const before = proxy.requests.length
      await assertFails(storage.read('object'), 'TM1510', /secretAccessKey/)
      assert.equal(proxy.requests.length, before + 1)
    })

    for (const kind of ['cut-answer', 'flip-answer', 'lose-answer'] as const) {
      test(`a read: ${kind}`, async () => {
        const storage = await openRetrying()
        const bytes = Buffer.alloc(300_000, 7)
        await storage.write('object', bytes)
        const fault = spoilFirst(2, isGet, { kind })
        assert.ok(bytes.equals((await storage.read('object')) ?? Buffer.alloc(0)))
        assert.equal(fault.met(), 2)
      })
    }

    test('a range that is cut is never a shorter object', async () => {
      const bare = await open()
      await bare.write('object', Buffer.alloc(300_000, 7))
      proxy.spoil((request) => (isGet(request) ? { kind: 'cut-answer' } : undefined))
      await assertFails(
        bare.readRange('object', 1000, 200_000),
        'TM1509',
        /cut|bytes of the answer/,
      )
    })

    test('a body on which nothing moves is given up', { timeout: 15_000 }, async () => {
      const storage = await openRetrying({ idleTimeoutMs: 300 })
      await storage.write('object', Buffer.alloc(300_000, 7))
      const fault = spoilFirst(1, isGet, { kind: 'stall-answer' })
      assert.equal((await storage.read('object'))?.length, 300_000)
      assert.equal(fault.met(), 1)
    })

    test('a listing that is cut goes on behind its last key', async () => {
      const storage = await openRetrying()
      const keys = Array.from({ length: 20 }, (_, index) => `k/${String(index).padStart(2, '0')}`)
      for (const key of keys) await storage.write(key, Buffer.from('x'))
      const isList = ({ target }: ProxiedRequest) => target.includes('list-type')
      const fault = spoilFirst(2, isList, { kind: 'cut-answer' })
      assert.deepEqual(await keysOf(storage, 'k/'), keys)
      assert.equal(fault.met(), 2)
    })
  })

  describe('checksums', () => {
    test('a damaged upload is refused by the store, and sent again', async () => {
      const bare = await open()
      spoilFirst(1, isPut, { kind: 'flip-request' })
      await assertFails(bare.write('object', Buffer.alloc(1000, 7)), 'TM1509', /SHA256Mismatch/)
      assert.equal(await bare.read('object'), undefined)
      const storage = await openRetrying()
      spoilFirst(1, isPut, { kind: 'flip-request' })
      await storage.write('object', Buffer.alloc(1000, 7))
      assert.ok(Buffer.alloc(1000, 7).equals((await storage.read('object')) ?? Buffer.alloc(0)))
    })

    test('so is a part', async () => {
      const storage = await openRetrying()
      const fault = spoilFirst(2, isPart, { kind: 'flip-request' })
      const writer = await storage.openWriter('object')
      const content = pieces(PART_BYTES + 1000)
      writer.append(content)
      await writer.commit()
      assert.equal(fault.met(), 2)
      assert.ok(Buffer.concat(content).equals((await storage.read('object')) ?? Buffer.alloc(0)))
    })

    test('what the store changed after it was written is noticed by a read', async () => {
      const storage = await openRetrying()
      await storage.write('object', Buffer.alloc(1000, 7))
      proxy.spoil((request) => (isGet(request) ? { kind: 'flip-answer' } : undefined))
      await assertFails(storage.read('object'), 'TM1509', /are not those that were stored/)
    })
  })

  describe('conditional writes', () => {
    test('a creation whose acknowledgement was lost has won all the same', async () => {
      const storage = await openRetrying()
      const fault = spoilFirst(1, isPut, { kind: 'lose-answer' })
      await storage.write('object', Buffer.from('mine'), { createOnly: true })
      assert.equal(fault.met(), 1)
      assert.equal(Buffer.from((await storage.read('object')) ?? []).toString(), 'mine')
    })

    test('equal bytes of another creator are not taken for our own', async () => {
      await (await open()).write('object', Buffer.from('same'), { createOnly: true })
      const storage = await openRetrying()
      spoilFirst(1, isPut, { kind: 'lose-answer' })
      const late = storage.write('object', Buffer.from('same'), { createOnly: true })
      await assertFails(late, 'TM1502', /created it first/)
    })

    test('a store that has them is not suspected, and nothing is left', async () => {
      const storage = await openRetrying()
      await probeConditionalWrites(storage)
      assert.deepEqual(await keysOf(storage), [])
    })

    test('a store that ignores them is found out', async () => {
      const storage = await openRetrying()
      proxy.spoil(({ method, target, headers }) => {
        if (method !== 'PUT' || headers['if-none-match'] === undefined) return undefined
        const Key = decodeURIComponent(target.split('?')[0] ?? '').slice(bucket.length + 2)
        return {
          kind: 'instead',
          act: async (Body) => {
            await server.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }))
          },
        }
      })
      await assertFails(probeConditionalWrites(storage), 'TM1512', /overwritten by a second/)
      assert.deepEqual(await keysOf(storage), [])
    })
  })

  describe('multipart uploads', describeUploads)
  describe('multipart uploads that end otherwise', describeOtherEnds)
  describe('leftovers', describeLeftovers)

  test('many objects are removed by few requests', async () => {
    const storage = await openRetrying()
    const keys = Array.from({ length: 30 }, (_, index) => `k/${index}`)
    for (const key of keys) await storage.write(key, Buffer.from('x'))
    await storage.write('kept', Buffer.from('x'))
    const before = proxy.requests.length
    await storage.removeMany([...keys, 'k/never'])
    assert.equal(proxy.requests.length, before + 1)
    assert.deepEqual(await keysOf(storage), ['kept'])
    spoilFirst(1, ({ method }) => method === 'POST', { kind: 'answer', status: 501 })
    await storage.removeMany(['kept', 'k/never'])
    assert.deepEqual(await keysOf(storage), [])
  })

  test('TLS: trusted by caFile, refused without it, bodies hashed all the same', async () => {
    const directory = temporaryDirectory()
    const [keyFile, caFile] = [join(directory, 'key.pem'), join(directory, 'ca.pem')]
    const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
    const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    const files = ['-keyout', keyFile, '-out', caFile]
    await runChecked('openssl', ['req', ...kind, ...subject, ...files])
    const key = readFileSync(keyFile, 'utf8')
    const cert = readFileSync(caFile, 'utf8')
    const tls = await startS3Proxy(server.endpoint, { key, cert })
    try {
      const stranger = await open({ endpoint: tls.endpoint })
      const refused = await assertFails(stranger.read('object'), 'TM1511', /SELF_SIGNED_CERT/)
      assert.match(refused.fix, /caFile/)
      const storage = await open({ endpoint: tls.endpoint, caFile })
      await storage.write('object', Buffer.from('x'))
      assert.equal((await storage.read('object'))?.length, 1)
      const hashes = tls.requests.map(({ headers }) => String(headers['x-amz-content-sha256']))
      for (const hash of hashes) assert.match(hash, /^[0-9a-f]{64}$/)
    } finally {
      for (const each of opened) await each.close()
      await tls.stop()
    }
    await assertFails(open({ caFile: join(directory, 'none') }), 'TM1508', /no such file/)
  })

  test('close ends the connections', async () => {
    const storage = await open()
    await storage.read('tidemark.repository')
    for (const each of opened) await each.close()
    for (let tries = 0; (await proxy.openConnections()) > 0; tries++) {
      assert.ok(tries < 200, 'connections stay open')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    await assert.rejects(storage.read('tidemark.repository'))
  })
})

function describeUploads(): void {
  test('a large object goes out in parts, and is seen at its commit', async () => {
    const storage = await open()
    const before = proxy.requests.length
    const writer = await storage.openWriter('object')
    const content = pieces(3 * PART_BYTES + 5)
    writer.append(content)
    for (const piece of content) piece.fill(0)
    assert.equal(await storage.size('object'), undefined)
    await writer.commit()
    const parts = proxy.requests.slice(before).filter(isPart)
    assert.equal(parts.length, 4)
    const stored = Buffer.from((await storage.read('object')) ?? [])
    assert.ok(stored.equals(Buffer.concat(pieces(3 * PART_BYTES + 5))))
    assert.deepEqual(await server.allKeys(bucket), ['place/object', 'place/tidemark.repository'])
  })

  test('abort leaves nothing, no upload and no note', async () => {
    const storage = await open()
    const writer = await storage.openWriter('object')
    writer.append(pieces(2 * PART_BYTES + 5))
    await new Promise((resolve) => setImmediate(resolve))
    await writer.abort()
    assert.deepEqual(await server.openUploads(bucket), [])
    assert.deepEqual(await server.allKeys(bucket), ['place/tidemark.repository'])
  })

  test('a storm over begin, parts and completion is waited out', async () => {
    const storage = await openRetrying()
    for (const matches of [isBegin, isPart, isCompletion]) {
      const storm = spoilFirst(3, matches, SLOW_DOWN)
      const writer = await storage.openWriter('object')
      writer.append(pieces(2 * PART_BYTES + 5))
      await writer.commit()
      assert.equal(storm.met(), 3)
      assert.equal(await storage.size('object'), 2 * PART_BYTES + 5)
    }
    assert.deepEqual(await server.openUploads(bucket), [])
  })
}

function describeOtherEnds(): void {
  test('a completion whose acknowledgement was lost', async () => {
    const storage = await openRetrying()
    const fault = spoilFirst(1, isCompletion, { kind: 'lose-answer' })
    const writer = await storage.openWriter('object')
    writer.append(pieces(PART_BYTES + 5))
    await writer.commit()
    assert.equal(fault.met(), 1)
    assert.equal(await storage.size('object'), PART_BYTES + 5)
  })

  test('the same, at a store that then knows no such upload', async () => {
    const storage = await openRetrying()
    let completions = 0
    const gone = '<?xml version="1.0"?><Error><Code>NoSuchUpload</Code></Error>'
    proxy.spoil((request) => {
      if (!isCompletion(request)) return undefined
      completions += 1
      if (completions === 1) return { kind: 'lose-answer' }
      return { kind: 'answer', status: 404, body: gone }
    })
    const writer = await storage.openWriter('object')
    writer.append(pieces(PART_BYTES + 5))
    await writer.commit()
    assert.equal(completions, 2)
  })

  test('a store that stays away: the commit fails, and nothing is left', async () => {
    const storage = await openRetrying()
    spoilFirst(100, (request) => isPart(request), SLOW_DOWN)
    const writer = await storage.openWriter('object')
    writer.append(pieces(PART_BYTES + 5))
    await assertFails(writer.commit(), 'TM1509', /503 SlowDown; tried 5 times/)
    assert.deepEqual(await server.openUploads(bucket), [])
    assert.deepEqual(await server.allKeys(bucket), ['place/tidemark.repository'])
    await assert.rejects(writer.commit(), /finished/)
  })
}

function describeLeftovers(): void {
  test('old uploads go, without a note and of another machine', async () => {
    const storage = await open()
    const begin = async (Key: string) =>
      await server.client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key }))
    await begin('place/lost')
    await begin('elsewhere/of-others')
    const { UploadId: uploadId } = await begin('place/of-another-machine')
    const writer = `${'f'.repeat(16)}.aa.77.10.500`
    const Key = `place/.incoming/w1.${writer}.${'0'.repeat(16)}`
    const Body = JSON.stringify({ key: 'place/of-another-machine', uploadId })
    await server.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }))
    assert.equal(await storage.removeLeftovers(), 0)
    const change = (text: string) => text.replace(/<(Initiated|LastModified)>\d{4}/g, '<$1>2001')
    proxy.spoil(({ method, target }) => {
      return method === 'GET' && target.includes('prefix') ? { kind: 'rewrite', change } : undefined
    })
    assert.equal(await storage.removeLeftovers(), 2)
    assert.deepEqual(await server.openUploads(bucket), ['elsewhere/of-others'])
    assert.deepEqual(await server.allKeys(bucket), ['place/tidemark.repository'])
  })

  test('leftovers of a killed writer are removed, those of a living one are not', async () => {
    const storage = await open()
    const living = await storage.openWriter('living')
    living.append(pieces(2 * PART_BYTES))
    const victim = spawn(process.execPath, [
      fileURLToPath(new URL('../../test/harness/s3-victim.ts', import.meta.url)),
      JSON.stringify({ url: `s3://${bucket}/place`, s3: server.settings }),
    ])
    await once(victim.stdout, 'data')
    const isNoted = async (): Promise<boolean> => {
      const keys = (await server.allKeys(bucket)).filter((key) => key.includes('.incoming'))
      return keys.some((key) => key.includes(`.${victim.pid}.`))
    }
    for (let tries = 0; !(await isNoted()); tries++) {
      assert.ok(tries < 3000, 'the victim wrote no note')
      await sleep(10)
    }
    victim.kill('SIGKILL')
    await once(victim, 'exit')
    const isKilled = (key: string) => key === 'place/killed'
    assert.deepEqual((await server.openUploads(bucket)).filter(isKilled), ['place/killed'])
    assert.equal(await storage.removeLeftovers(), 1)
    assert.equal(await storage.removeLeftovers(), 0)
    assert.deepEqual((await server.openUploads(bucket)).filter(isKilled), [])
    await living.commit()
    assert.equal(await storage.size('living'), 2 * PART_BYTES)
    const notes = (await server.allKeys(bucket)).filter((key) => key.includes('.incoming'))
    assert.deepEqual(notes, [])
  })
}
