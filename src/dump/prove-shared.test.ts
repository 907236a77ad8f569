/** What is proved of a dump whose chunks were proved before. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { groupOf, madeUpRows, writeMadeUpDump } from '../../test/harness/dumped-files.ts'
import { openMemoryStorage } from '../storage/memory-storage.ts'
import { ProvedChunks, proveDump } from './read-dump.ts'

test('that its chunks were proved for another dump does not prove a file', async () => {
  const storage = openMemoryStorage()
  const rows = madeUpRows(400_000)
  const { record } = await writeMadeUpDump(groupOf([storage]), { files: { '1.dump': rows } })
  // As a writer with a defect would leave it: the chunks are not those of the file.
  const files = record.files.map((file) => ({ ...file, sha256: '0'.repeat(64) }))
  const proved = new ProvedChunks()
  assert.deepEqual(await proveDump(storage, record, () => {}, proved), [])
  const wrong = { ...record, files }
  assert.equal((await proveDump(storage, wrong, () => {})).length, 1)
  assert.equal((await proveDump(storage, wrong, () => {}, proved)).length, 1)
})
