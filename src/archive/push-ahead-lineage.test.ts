/** Several segments in one push, behind an archive that has gone on by itself. */
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { SlowFor } from '../../test/harness/slow-for.ts'
import { archived, newArchive, WritingServer } from '../../test/harness/writing-server.ts'
import { isFailure } from '../base/failure.ts'
import { pushAhead } from './push-ahead.ts'

test('a running machine that was set back puts nothing behind what it had archived', async () => {
  const storage = await newArchive()
  const server = new WritingServer()
  server.write(2, 1)
  const back = server.wal.fork(1)
  server.write(1, 1)
  for (const segment of [1n, 2n, 3n]) await server.push(storage, segment)
  const setBack = new WritingServer(back)
  setBack.write(4, 2)
  const status = join(server.data, 'pg_wal/archive_status')
  mkdirSync(status)
  for (const segment of [2n, 3n, 4n, 5n]) {
    writeFileSync(join(server.data, 'pg_wal', setBack.name(segment)), setBack.content(segment))
    writeFileSync(join(status, `${setBack.name(segment)}.ready`), '')
  }
  const path = join(server.data, 'pg_wal', setBack.name(2n))
  const slow = new SlowFor(storage, setBack.name(3n), 300)
  const options = { storages: [slow], cluster: 'main', path, threads: 0 }
  const { asked, ahead, stoppedBy } = await pushAhead(options)
  assert.equal(asked.outcomes[0]?.outcome, 'found')
  assert.ok(isFailure(stoppedBy, 'TM1402'))
  assert.deepEqual(ahead, [])
  assert.equal(await archived(storage, server.name(4n)), undefined)
})
