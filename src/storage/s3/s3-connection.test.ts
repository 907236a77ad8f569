import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readBody } from './s3-connection.ts'
import { DamagedTransferError } from './s3-failure.ts'

async function* chunks(...sizes: number[]): AsyncGenerator<Uint8Array> {
  for (const size of sizes) yield Buffer.alloc(size, size)
}

test('a body is put together, in memory of the caller where he gives some', async () => {
  assert.deepEqual([...(await readBody(chunks(2, 1), 3))], [2, 2, 1])
  const into = Buffer.alloc(5)
  assert.equal((await readBody(chunks(2, 1), 3, into)).buffer, into.buffer)
  assert.deepEqual([...into], [2, 2, 1, 0, 0])
  assert.equal((await readBody(chunks(), 0)).length, 0)
})

test('a body of another length than announced is no object', async () => {
  for (const body of [chunks(2), chunks(2, 2), chunks(4), chunks()]) {
    await assert.rejects(readBody(body, 3), DamagedTransferError)
  }
  await assert.rejects(readBody(chunks(1), 0), DamagedTransferError)
})
