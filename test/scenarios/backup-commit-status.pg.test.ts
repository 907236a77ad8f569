/**
 * The commit status of eight transactions can be all that changes: bytes 8 and 9 of a
 * pg_xact page, where a relation page has its checksum. It must reach the next backup.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { readFileList } from '../../src/repository/file-list.ts'
import { startPostgres } from '../harness/postgres-server.ts'
import { AT_REST, assertEqualsDataDirectory, backUp, newRepository } from './backup-fixture.ts'

test('a change of commit status alone is in the next backup', async () => {
  await using server = await startPostgres({ settings: AT_REST })
  const storage = await newRepository()
  const status = (): Buffer => readFileSync(join(server.dataDirectory, 'pg_xact/0000'))
  await server.sql('CHECKPOINT')
  const first = await backUp(server, storage)
  const before = status()
  await server.sql('SELECT txid_current()')
  await server.sql('CHECKPOINT')
  assert.ok(!status().equals(before), 'the transaction changed pg_xact')
  const second = await backUp(server, storage)
  await assertEqualsDataDirectory(server, storage, second)
  const hashes = await Promise.all(
    [first, second].map(async (record) => {
      for await (const entry of readFileList(storage, record)) {
        if (entry.kind === 'content' && entry.path === 'pg_xact/0000') return entry.sha256
      }
      return undefined
    }),
  )
  assert.notEqual(hashes[0], hashes[1])
})
