import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { lsn } from './lsn.ts'
import {
  encodeQuery,
  encodeStatus,
  parseDataRow,
  parseRowDescription,
  parseServerError,
  ProtocolError,
  type ReplicationHandler,
  ReplicationReader,
} from './replication-messages.ts'

function message(code: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(code)
  head.writeUInt32BE(4 + body.length, 1)
  return Buffer.concat([head, body])
}

function walMessage(start: bigint, data: Buffer, walEnd = 0n): Buffer {
  const head = Buffer.alloc(25)
  head.write('w')
  head.writeBigUInt64BE(start, 1)
  head.writeBigUInt64BE(walEnd, 9)
  return message('d', Buffer.concat([head, data]))
}

function keepalive(walEnd: bigint, wantsReply: boolean): Buffer {
  const body = Buffer.alloc(18)
  body.write('k')
  body.writeBigUInt64BE(walEnd, 1)
  body[17] = wantsReply ? 1 : 0
  return message('d', body)
}

/** What was heard, WAL joined where it is contiguous. */
function listen(): { heard: string[]; reader: ReplicationReader } {
  const heard: string[] = []
  let run: { start: bigint; bytes: Buffer } | undefined
  const settle = (): void => {
    if (run !== undefined) heard.push(`w ${run.start} ${run.bytes.toString('hex')}`)
    run = undefined
  }
  const handler: ReplicationHandler = {
    wal(start, bytes) {
      const follows = run !== undefined && run.start + BigInt(run.bytes.length) === start
      if (!follows) settle()
      const before = follows ? (run?.bytes ?? Buffer.alloc(0)) : Buffer.alloc(0)
      run = { start: run?.start ?? start, bytes: Buffer.concat([before, bytes]) }
    },
    keepalive(walEnd, wantsReply) {
      settle()
      heard.push(`k ${walEnd} ${wantsReply}`)
    },
    message(type, body) {
      settle()
      heard.push(`${String.fromCharCode(type)} ${body.toString('hex')}`)
    },
  }
  return { heard, reader: new ReplicationReader(handler) }
}

const oneMessage = fc.oneof(
  fc
    .tuple(fc.bigInt(0n, 0xffffffffffffn), fc.uint8Array({ maxLength: 60 }))
    .map(([start, data]) => walMessage(start, Buffer.from(data))),
  fc
    .tuple(fc.bigInt(0n, 0xffffffffffffn), fc.boolean())
    .map(([end, reply]) => keepalive(end, reply)),
  fc
    .tuple(fc.constantFrom('c', 'E', 'N', 'T', 'D', 'Z'), fc.uint8Array({ maxLength: 80 }))
    .map(([code, body]) => message(code, Buffer.from(body))),
)

test('any cut of the stream gives the same WAL and the same messages', () => {
  const stream = fc.array(oneMessage, { maxLength: 12 }).map((all) => Buffer.concat(all))
  fc.assert(
    fc.property(
      stream,
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
      (all, cuts) => {
        const whole = listen()
        whole.reader.feed(all)
        whole.reader.feed(message('Z', Buffer.from('I')))
        const pieces = listen()
        for (let at = 0, turn = 0; at < all.length; turn++) {
          const to = at + (cuts[turn % cuts.length] as number)
          pieces.reader.feed(all.subarray(at, to))
          at = to
        }
        pieces.reader.feed(message('Z', Buffer.from('I')))
        assert.deepEqual(pieces.heard, whole.heard)
      },
    ),
  )
})

test('WAL has the LSN of its message, and what follows is read', () => {
  const { heard, reader } = listen()
  reader.feed(walMessage(0x16_0000_0000n, Buffer.from('abcd', 'hex')))
  reader.feed(keepalive(7n, true))
  assert.deepEqual(heard, [`w ${0x16_0000_0000n} abcd`, 'k 7 true'])
})

test('what no server says is refused', () => {
  const bad = [
    Buffer.from('6400000003', 'hex'),
    Buffer.from('44ffffffff', 'hex'),
    message('d', Buffer.from('x')),
    message('d', Buffer.from('k')),
    message('d', Buffer.from('w')),
  ]
  for (const bytes of bad) {
    assert.throws(() => listen().reader.feed(bytes), ProtocolError)
  }
})

test('a status says what is flushed, and nothing of replay', () => {
  const status = { written: lsn(0x1_0000_0002n), flushed: lsn(3n), wantsReply: true }
  const bytes = encodeStatus({ ...status, atMs: 946_684_800_000 + 5 })
  assert.equal(bytes.toString('latin1', 0, 1), 'd')
  assert.equal(bytes.readUInt32BE(1), bytes.length - 1)
  assert.equal(bytes.toString('latin1', 5, 6), 'r')
  const words = [6, 14, 22, 30].map((at) => bytes.readBigUInt64BE(at))
  assert.deepEqual(words, [0x1_0000_0002n, 3n, 0n, 5000n])
  assert.equal(bytes.at(-1), 1)
})

test('rows, errors and queries', () => {
  const name = Buffer.concat([Buffer.from('content\0'), Buffer.alloc(18)])
  assert.deepEqual(parseRowDescription(Buffer.concat([Buffer.from([0, 1]), name])), ['content'])
  const row = Buffer.from([0, 2, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff])
  assert.deepEqual(parseDataRow(row), [Buffer.from([0xff]), undefined])
  const error = parseServerError(Buffer.from('SERROR\0C58P01\0Mgone\0RWalSndSegmentOpen\0\0'))
  assert.deepEqual(
    [error.message, error.code, error.routine],
    ['gone', '58P01', 'WalSndSegmentOpen'],
  )
  assert.equal(encodeQuery('X').toString('hex'), '51000000065800')
})
