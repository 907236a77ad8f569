/** A stream and another server that archives under the same timeline: whose WAL follows whose. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openFaultyStorage } from '../../test/harness/faulty-storage.ts'
import { MB, SYSTEM } from '../../test/harness/wal-builder.ts'
import {
  archived,
  assertArchived,
  newArchive,
  partedServers,
  PLACE,
  quarantined,
  type WritingServer,
} from '../../test/harness/writing-server.ts'
import { openDirectorySource } from '../archive/adoption-source.ts'
import { adoptWal } from '../archive/adopt-wal.ts'
import { planAdoption } from '../archive/plan-adoption.ts'
import { isFailure } from '../base/failure.ts'
import { lsn } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { openWalSink, type WalSink } from './wal-sink.ts'

async function openSink(storage: Storage): Promise<WalSink> {
  const options = { cluster: 'main', systemIdentifier: String(SYSTEM), flushEveryMs: 0 }
  return (await openWalSink({ ...options, required: [storage] })).sink
}

function stream(sink: WalSink, server: WritingServer, segments: readonly bigint[]): void {
  for (const segment of segments) {
    sink.append(1, lsn(segment * BigInt(MB)), server.content(segment))
  }
}

test('where a streamed segment is refused, nothing is stored behind it', async () => {
  const storage = await newArchive()
  const { server, clone } = partedServers(4)
  const sink = await openSink(storage)
  stream(sink, server, [1n])
  await sink.flush()
  assert.equal(await clone.push(storage, 2n), 'stored')
  stream(sink, server, [2n, 3n, 4n])
  await assert.rejects(sink.flush(), (error) => isFailure(error, 'TM1402'))
  await sink.close().catch(() => {})
  assert.equal(await clone.push(storage, 3n), 'stored')
  assert.deepEqual(await quarantined(storage), [server.name(2n)])
})

test('a stream of the server that was passed over ends, and nothing of it is behind', async () => {
  const storage = await newArchive()
  const { server, clone } = partedServers(4)
  const sink = await openSink(storage)
  stream(sink, clone, [1n, 2n])
  await sink.flush()
  server.finish(2n, 'ready')
  const request = { ...PLACE, timeline: 1 }
  const sized = { ...request, walSegmentSizeBytes: MB }
  const source = await openDirectorySource(sized, server.data)
  await adoptWal(storage, await planAdoption(storage, { ...request, source }))
  await assertArchived(storage, server.name(2n), server.content(2n))
  stream(sink, clone, [3n])
  await assert.rejects(sink.flush(), (error) => isFailure(error, 'TM1460'))
  assert.equal(await archived(storage, server.name(3n)), undefined)
  assert.deepEqual(await quarantined(storage), [clone.name(2n), clone.name(3n)])
  assert.equal(await server.push(storage, 3n), 'stored')
})

test('a stream and the archiver of one server go on side by side', async () => {
  const storage = await newArchive()
  const { server } = partedServers(4)
  const sink = await openSink(storage)
  stream(sink, server, [1n])
  await sink.flush()
  for (const segment of [2n, 3n]) {
    assert.equal(await server.push(storage, segment), 'stored')
    stream(sink, server, [segment])
    await sink.flush()
  }
  stream(sink, server, [4n])
  await sink.flush()
  assert.equal(await server.push(storage, 4n), 'found')
  assert.deepEqual(await quarantined(storage), [])
})

test('the join costs a stream one small read for each segment', async () => {
  const storage = openFaultyStorage(await newArchive())
  const { server } = partedServers(4)
  const sink = await openSink(storage)
  stream(sink, server, [1n, 2n])
  await sink.flush()
  const from = storage.trace.length
  stream(sink, server, [3n])
  await sink.flush()
  const calls = storage.trace.slice(from).filter(({ key }) => key.endsWith('.wal'))
  assert.deepEqual(
    calls.map(({ operation, key }) => `${operation} ${key.split('/').at(-1)}`),
    [`readRange ${server.name(2n)}.wal`, `write ${server.name(3n)}.wal`],
  )
})
